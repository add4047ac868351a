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


def _shard_option(function: F) -> F:
    return option("--shard-mb", type=click.IntRange(1, 2_000), default=256, show_default=True,
                  help="Text in a shard, in MiB; building takes five times as much memory.")(
                      function)  # fmt: skip


def _reading_options(function: F) -> F:
    """`--text-field --id-field --label-field --shard-mb`."""
    for decorate in reversed((
        option("--text-field", default="text", show_default=True,
               help="Field of JSONL and Parquet that holds the text."),
        option("--id-field", default="id", show_default=True, help="Field that names documents."),
        option("--label-field", default="label", show_default=True,
               help="Field that says what a document is, for example unsafe or benign."),
        _shard_option,
    )):  # fmt: skip
        function = decorate(function)
    return function


@index.command(name="build")
@CORPUS
@option("--out", type=FOLDER, required=True, help="Folder of the index, a new one.")
@_reading_options
@json_option
@quiet_option
def build(
    corpus: tuple[Path, ...],
    out: Path,
    text_field: str,
    id_field: str,
    label_field: str,
    shard_mb: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Index text, JSONL and Parquet files, also .gz and .zst, and folders of them.

    Interrupted, the same command goes on behind the last finished shard.
    """
    from auditor.trace.index import build_index

    fields = (text_field, id_field, label_field)
    return _run(build_index, corpus, out, fields, shard_mb, Output(as_json, quiet))


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
    as_json: bool,
    quiet: bool,
) -> int:
    """Add text to INDEX as new shards; what is there is not written again."""
    from auditor.trace.index import add_to_index

    fields = (text_field, id_field, label_field)
    return _run(add_to_index, corpus, folder, fields, shard_mb, Output(as_json, quiet))


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
@_shard_option
@json_option
@quiet_option
def merge(folder: Path, shard_mb: int, as_json: bool, quiet: bool) -> int:
    """Sort the texts of small shards of INDEX into fewer, larger ones: queries get quicker."""
    from auditor.trace.index import merge_shards

    output = Output(as_json, quiet)
    _say_memory(shard_mb, output)
    _show_manifest(merge_shards(folder, shard_bytes=shard_mb << 20, progress=output.log), output)
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
        places = asked.find(inside, most).occurrences
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


def _run(
    make: Callable[..., BuildResult],
    corpus: tuple[Path, ...],
    folder: Path,
    fields: tuple[str, str, str],
    shard_mb: int,
    output: Output,
) -> int:
    """Build an index or add to one, and show what became of it."""
    from auditor.trace.corpus import CorpusOptions

    _say_memory(shard_mb, output)
    reading = CorpusOptions(*fields)
    result = make(corpus, folder, options=reading, shard_bytes=shard_mb << 20, progress=output.log)
    _show_built(result, folder, output)
    return 0


def _say_memory(shard_mb: int, output: Output) -> None:
    from auditor.trace.index import needed_memory

    output.log(f"sorting a shard takes at most {needed_memory(shard_mb << 20) >> 20} MiB of memory")


def _show_built(result: BuildResult, folder: Path, output: Output) -> None:
    if result.not_text:
        output.warn(
            f"{result.not_text} documents are not valid UTF-8: their bytes are kept, 0xFF as 0xFE"
        )
    if result.empty:
        output.warn(f"{result.empty} documents without a byte are left out")
    output.data(f"{result.documents} documents added to {folder}")
    _show_manifest(result.manifest, output)


def _show_manifest(manifest: Manifest, output: Output) -> None:
    documents = sum(shard.documents for shard in manifest.shards)
    symbols = sum(shard.symbols for shard in manifest.shards)
    output.table(
        ("shard", "documents", "bytes"),
        [(each.name, str(each.documents), str(each.symbols)) for each in manifest.shards],
    )
    output.data(f"{documents} documents, {symbols} bytes; index {manifest.digest}")
    output.record({
        "kind": "index", "digest": manifest.digest, "mode": manifest.mode,
        "documents": documents, "bytes": symbols, "empty_documents": manifest.empty_documents,
        "shards": [
            {"name": each.name, "documents": each.documents, "bytes": each.symbols}
            for each in manifest.shards
        ],
    })  # fmt: skip


for _part in (calibrate, shield, drift):
    command.add_command(_part)
