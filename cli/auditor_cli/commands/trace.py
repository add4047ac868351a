"""`auditor trace`: index training text, and find where a text occurs in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click
from rich.markup import escape

from auditor.errors import ConfigurationError
from auditor_cli.options import FILE, FOLDER, json_option, option, quiet_option
from auditor_cli.output import Output
from auditor_cli.trace_calibrate import calibrate, shield
from auditor_cli.trace_drift import drift
from auditor_reports.sanitise import one_line

if TYPE_CHECKING:
    from auditor.trace.index import BuildResult
    from auditor.trace.manifest import Manifest

F = TypeVar("F", bound=Callable[..., Any])


@click.group(name="trace")
def command() -> None:
    """Index training text, and find where a text occurs in it word for word."""


@command.group(name="index")
def index() -> None:
    """Build, extend, look at and check a corpus index."""


CORPUS = click.argument(
    "corpus", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CORPUS..."
)
INDEX = click.argument("folder", metavar="INDEX", type=FOLDER)


def _making_options(function: F) -> F:
    """`--shard-mb --workers`."""
    for decorate in reversed((
        option("--shard-mb", type=click.IntRange(1, 2_000), default=256, show_default=True,
               help="Text in a shard, in MiB; sorting takes five to seven times as much memory."),
        option("--workers", type=click.IntRange(1, 1_024), default=1, show_default=True,
               help="Shards that are sorted at once; what is written does not depend on it."),
    )):  # fmt: skip
        function = decorate(function)
    return function


def _reading_options(function: F) -> F:
    """`--text-field --id-field --label-field --shard-mb --workers`."""
    for decorate in reversed((
        option("--text-field", default="text", show_default=True,
               help="Field of JSONL and Parquet that holds the text."),
        option("--id-field", default="id", show_default=True, help="Field that names documents."),
        option("--label-field", default="label", show_default=True,
               help="Field that says what a document is, for example unsafe or benign."),
        _making_options,
    )):  # fmt: skip
        function = decorate(function)
    return function


@index.command(name="build")
@CORPUS
@option("--out", type=FOLDER, required=True, help="Folder of the index, a new one.")
@option(
    "--tokenizer",
    type=FILE,
    default=None,
    help="A tokenizer.json, whose tokens are indexed instead of bytes; it is copied.",
)
@_reading_options
@json_option
@quiet_option
def build(
    corpus: tuple[Path, ...],
    out: Path,
    tokenizer: Path | None,
    text_field: str,
    id_field: str,
    label_field: str,
    shard_mb: int,
    workers: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Index text, JSONL and Parquet files, also .gz and .zst, and folders of them.

    Interrupted, the same command goes on behind the last finished shard.
    """
    from auditor.trace.corpus import CorpusOptions
    from auditor.trace.index import build_index

    output = Output(as_json, quiet)
    _say_memory(shard_mb, workers, output, tokens=tokenizer is not None)
    result = build_index(
        corpus, out, options=CorpusOptions(text_field, id_field, label_field),
        shard_bytes=shard_mb << 20, tokenizer=tokenizer, workers=workers, progress=output.log,
    )  # fmt: skip
    return _show_built(result, out, output)


@index.command(name="add")
@INDEX
@CORPUS
@_reading_options
@json_option
@quiet_option
def add(
    folder: Path,
    corpus: tuple[Path, ...],
    text_field: str,
    id_field: str,
    label_field: str,
    shard_mb: int,
    workers: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Add text to INDEX as new shards; what is there is not written again."""
    from auditor.trace.corpus import CorpusOptions
    from auditor.trace.index import add_to_index
    from auditor.trace.manifest import read_manifest

    output = Output(as_json, quiet)
    _say_memory(shard_mb, workers, output, tokens=read_manifest(folder).mode == "tokens")
    result = add_to_index(
        corpus, folder, options=CorpusOptions(text_field, id_field, label_field),
        shard_bytes=shard_mb << 20, workers=workers, progress=output.log,
    )  # fmt: skip
    return _show_built(result, folder, output)


@index.command(name="info")
@INDEX
@json_option
def info(folder: Path, as_json: bool) -> int:
    """Say what INDEX holds."""
    from auditor.trace.matches import TraceIndex

    _show_manifest(TraceIndex(folder).manifest, Output(as_json))
    return 0


@index.command(name="verify")
@INDEX
@json_option
@quiet_option
def verify(folder: Path, as_json: bool, quiet: bool) -> int:
    """Check every digest of INDEX, and that all suffixes are there and in order."""
    from auditor.trace.index import verify_index

    output = Output(as_json, quiet)
    manifest = verify_index(folder, output.log)
    output.data(f"as written, and in order: {len(manifest.shards)} shards")
    output.record({"kind": "verified", "shards": len(manifest.shards), "digest": manifest.digest})
    return 0


@index.command(name="merge")
@INDEX
@_making_options
@json_option
@quiet_option
def merge(folder: Path, shard_mb: int, workers: int, as_json: bool, quiet: bool) -> int:
    """Sort the texts of small shards of INDEX into fewer, larger ones: queries get quicker."""
    from auditor.trace.index import merge_shards
    from auditor.trace.manifest import read_manifest

    output = Output(as_json, quiet)
    _say_memory(shard_mb, workers, output, tokens=read_manifest(folder).mode == "tokens")
    merged = merge_shards(folder, shard_bytes=shard_mb << 20, workers=workers, progress=output.log)
    _show_manifest(merged, output)
    return 0


@command.command(name="find")
@INDEX
@click.argument("text")
@option("--most", type=click.IntRange(0, 10_000), default=10, show_default=True,
        help="How many places to show.")  # fmt: skip
@json_option
def find(folder: Path, text: str, most: int, as_json: bool) -> int:
    """Say how often TEXT stands in INDEX, and where.

    A match is no proof that a model learned the text there.
    """
    from auditor.trace.matches import TraceIndex

    output = Output(as_json)
    found = TraceIndex(folder).find(text.encode("utf-8", "surrogateescape"), most)
    shown = len(found.occurrences)
    output.data(f"{found.count} times" + (f", {shown} shown" if shown < found.count else ""))
    output.table(
        ("document", "source", "place", "byte", "before", "after"),
        [
            (_cell(each.document.identifier), _cell(each.document.source),
             str(each.document.place), str(each.offset), _cell(each.before), _cell(each.after))
            for each in found.occurrences
        ],
    )  # fmt: skip
    output.record({
        "kind": "found", "count": found.count,
        "occurrences": [
            {"document": each.document.identifier, "source": each.document.source,
             "place": each.document.place, "label": each.document.label, "byte": each.offset,
             "before": each.before, "after": each.after}
            for each in found.occurrences
        ],
    })  # fmt: skip
    return 0


@command.command(name="text")
@INDEX
@click.argument("file", type=FILE)
@option("--least", type=click.IntRange(1), default=24, show_default=True,
        help="Bytes that a span has at least.")  # fmt: skip
@option("--most", type=click.IntRange(0), default=3, show_default=True,
        help="Places to name for each span.")  # fmt: skip
@json_option
def text(folder: Path, file: Path, least: int, most: int, as_json: bool) -> int:
    """Show the longest spans of a text FILE that stand in INDEX word for word.

    A match is no proof that a model learned the text there. The surprisal is the Belief Conflict
    Index as published: it grows with the length of a span and knows no policy. E is how often
    chance explains the span, if words were independent.
    """
    from auditor.trace.matches import TraceIndex
    from auditor.trace.surprisal import SurprisalScorer
    from auditor.trace.tokens import tokens_of

    output = Output(as_json)
    if not file.is_file():
        raise ConfigurationError(f"text not found: {file}; give a file")
    content = file.read_bytes()
    asked = TraceIndex(folder)
    unigrams = asked.unigrams()
    rows = []
    for span in asked.spans(content, least):
        inside = content[span.start : span.stop]
        shown = inside.decode("utf-8", "replace")
        places = asked.find_span(content, span, most).occurrences
        score = SurprisalScorer(tokens_of(inside), unigrams.published()).span()
        chance = score.log10_e_value(unigrams.total)
        sources = ", ".join(each.document.identifier for each in places)
        rows.append((
            str(span.start), str(span.stop - span.start), str(span.count), f"{score.bci:.1f}",
            f"{chance:.1f}", _cell(shown), _cell(sources),
        ))  # fmt: skip
        output.record({
            "kind": "span", "start": span.start, "stop": span.stop, "count": span.count,
            "tokens": score.tokens, "bci": score.bci, "density": score.density, "kl": score.kl,
            "log10_e_value": chance, "text": shown,
            "documents": [each.document.identifier for each in places],
        })  # fmt: skip
    output.table(
        ("byte", "length", "count", "surprisal (BCI)", "log10 E", "text", "documents"), rows
    )
    return 0


def _cell(text: str) -> str:
    return escape(one_line(text))


def _say_memory(shard_mb: int, workers: int, output: Output, *, tokens: bool) -> None:
    from auditor.trace.memory import needed_memory

    needed = needed_memory(shard_mb << 20, tokens=tokens, workers=workers) >> 20
    what = "a shard" if workers == 1 else f"{workers} shards at once"
    output.log(f"sorting {what} takes at most {needed} MiB of memory")


def _show_built(result: BuildResult, folder: Path, output: Output) -> int:
    if result.not_text:
        output.warn(
            f"{result.not_text} documents are not valid UTF-8: their bytes are kept, 0xFF as 0xFE"
        )
    if result.empty:
        output.warn(f"{result.empty} documents without a byte are left out")
    output.data(f"{result.documents} documents added to {folder}")
    _show_manifest(result.manifest, output)
    return 0


def _show_manifest(manifest: Manifest, output: Output) -> None:
    documents = sum(shard.documents for shard in manifest.shards)
    symbols = sum(shard.symbols for shard in manifest.shards)
    tokens = sum(shard.tokens - shard.documents for shard in manifest.shards if shard.width)
    in_tokens = manifest.mode == "tokens"
    output.table(
        ("shard", "documents", "bytes", *(("tokens",) if in_tokens else ())),
        [
            (each.name, str(each.documents), str(each.symbols),
             *((str(each.tokens - each.documents),) if in_tokens else ()))
            for each in manifest.shards
        ],
    )  # fmt: skip
    counted = f"{symbols} bytes" + (f", {tokens} tokens" if in_tokens else "")
    output.data(f"{documents} documents, {counted}; index {manifest.digest}")
    if in_tokens:
        output.data(f"tokenizer {manifest.tokenizer}")
    output.record({
        "kind": "index", "digest": manifest.digest, "mode": manifest.mode,
        "tokenizer": manifest.tokenizer, "documents": documents, "bytes": symbols,
        "tokens": tokens, "empty_documents": manifest.empty_documents,
        "shards": [
            {"name": each.name, "documents": each.documents, "bytes": each.symbols,
             "tokens": each.tokens - each.documents if each.width else 0, "width": each.width}
            for each in manifest.shards
        ],
    })  # fmt: skip


for _part in (calibrate, shield, drift):
    command.add_command(_part)
