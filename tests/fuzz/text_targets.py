"""Targets: what people write for auditor, and lists of texts that may come from anybody."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from tests.fuzz.target import Check, check_of_file, only

TODAY = date(2026, 11, 23)


def open_strict_yaml(folder: Path) -> Check:
    """YAML without a schema: parsed, and with numbers kept as texts."""
    from auditor.errors import InvalidText
    from auditor.strict_yaml import parse

    def check(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        for as_text in (False, True):
            with only(InvalidText):
                document = parse(text, "file.yaml", numbers_as_text=as_text)
                for keys in document.places:
                    str(document.place(keys))

    return check


def open_plan(folder: Path) -> Check:
    """A plan, its variables filled in, and the subjects it names."""
    from auditor.audit.plan import expand_subjects, load_plan, select_subjects
    from auditor.errors import FileMissing, InvalidText, UnknownName

    (folder / "model.onnx").write_bytes(b"")

    def read(path: Path) -> None:
        loaded = load_plan(path, {})
        names = [name for name, _, _ in expand_subjects(loaded)]
        for number, spec in enumerate(loaded.plan.checks):
            loaded.line_of_check(number)
            select_subjects(spec, names)

    return check_of_file(folder / "plan.yaml", read, FileMissing, InvalidText, UnknownName)


def open_policy(folder: Path) -> Check:
    """A policy of the gate."""
    from auditor.audit.policy import load_policy
    from auditor.errors import InvalidText

    return check_of_file(folder / "policy.yaml", load_policy, InvalidText)


def open_waivers(folder: Path) -> Check:
    """A waiver file, read and added to."""
    from auditor.audit.waivers import Waiver, add_waiver, load_waivers
    from auditor.errors import ConfigurationError, InvalidText

    new = Waiver(
        match="AUD101", model_digest="any", reason="r", approved_by="a", expires=date(2026, 12, 1)
    )

    def read(path: Path) -> None:
        before = load_waivers(path, TODAY)
        with only(ConfigurationError):
            add_waiver(path, new, TODAY)
            if load_waivers(path, TODAY) != (*before, new):
                raise AssertionError("adding a waiver changed others")

    return check_of_file(folder / "waivers.yaml", read, InvalidText)


def open_content_policy(folder: Path) -> Check:
    """A content policy."""
    from auditor.errors import InvalidText
    from auditor.trace.content_policy import read_policy

    return check_of_file(folder / "policy.yaml", lambda path: read_policy(path).digest, InvalidText)


def open_property(folder: Path) -> Check:
    """A property file of either kind, plain or compressed, for two inputs and three outputs."""
    from auditor.errors import InvalidText, PropertyMismatch, UnsupportedProperty
    from auditor.verify.property import load_property

    return check_of_file(
        folder / "property", lambda path: load_property(path, num_inputs=2, num_outputs=3),
        InvalidText, UnsupportedProperty, PropertyMismatch,
    )  # fmt: skip


def _check_of_text(parse: Callable[[str], object]) -> Check:
    """A check of a reader of properties that takes text."""
    from auditor.errors import InvalidText, PropertyMismatch, UnsupportedProperty

    def check(data: bytes) -> None:
        with only(InvalidText, UnsupportedProperty, PropertyMismatch):
            parse(data.decode("utf-8", "replace"))

    return check


def open_property_yaml(folder: Path) -> Check:
    """A YAML property."""
    from auditor.verify.property.property_yaml import parse_property_yaml

    return _check_of_text(
        lambda text: parse_property_yaml(text, source="p.yaml", num_inputs=2, num_outputs=3)
    )


def open_vnnlib(folder: Path) -> Check:
    """VNN-LIB of version 1."""
    from auditor.verify.property.vnnlib import parse_vnnlib

    return _check_of_text(
        lambda text: parse_vnnlib(text, "p", source="p.vnnlib", num_inputs=2, num_outputs=3)
    )


def open_vnnlib2(folder: Path) -> Check:
    """VNN-LIB of version 2, whose tokens a package reads."""
    from auditor.verify.property.vnnlib2 import parse_vnnlib2

    return _check_of_text(
        lambda text: parse_vnnlib2(text, "p", source="p.vnnlib", num_inputs=2, num_outputs=3)
    )


def open_json_lines(folder: Path) -> Check:
    """JSON lines and every reader of records that stands on them."""
    from auditor.errors import InvalidText, NothingToAudit
    from auditor.json_lines import read_json_lines
    from auditor.language.multiple_choice import read_questions
    from auditor.memorization.language.training_spans import read_span_sources
    from auditor.trace.labelled_texts import read_labelled_texts

    path = folder / "lines.jsonl"
    readers: tuple[Callable[[Path], Any], ...] = (
        lambda path: list(read_json_lines(path, "lines")),
        read_questions, read_span_sources, read_labelled_texts,
    )  # fmt: skip

    def check(data: bytes) -> None:
        path.write_bytes(data)
        for read in readers:
            with only(InvalidText, NothingToAudit):
                read(path)

    return check


def open_prompts_csv(folder: Path) -> Check:
    """A prompt set as CSV."""
    return _prompts(folder / "prompts.csv")


def open_prompts_jsonl(folder: Path) -> Check:
    """A prompt set as JSON lines."""
    return _prompts(folder / "prompts.jsonl")


def _prompts(path: Path) -> Check:
    from auditor.errors import ConfigurationError, InvalidText, NothingToAudit
    from auditor.language.prompt_sets import PromptFiles, PromptSet, read_prompt_sets

    paths = dict.fromkeys(PromptSet, path)
    values = {PromptSet.HARMFUL: frozenset({"bad"}), PromptSet.HARMLESS: frozenset({"good"})}
    both = PromptFiles(paths, values, set_column="set")
    alone = PromptFiles({**paths, PromptSet.HARMLESS: path.with_name(path.name)}, values)

    def check(data: bytes) -> None:
        path.write_bytes(data)
        for files in (both, alone):
            with only(ConfigurationError, InvalidText, NothingToAudit):
                for asked in read_prompt_sets(files):
                    str(asked.name)

    return check


def open_completions_csv(folder: Path) -> Check:
    """Labelled completions as CSV."""
    from auditor.errors import InvalidText, NothingToAudit, UnknownName
    from auditor.language.judge_agreement import read_labelled_completions
    from auditor.language.refusal import Behaviour

    mapping = {"yes": next(iter(Behaviour))}
    return check_of_file(
        folder / "completions.csv",
        lambda path: read_labelled_completions(path, "text", "label", mapping, "group"),
        InvalidText, UnknownName, NothingToAudit,
    )  # fmt: skip


def open_instances_csv(folder: Path) -> Check:
    """A list of verification instances, as the competition writes it."""
    from auditor.errors import FileMissing, InvalidText
    from auditor.verify.instances import read_instances

    for name in ("m.onnx", "p.vnnlib"):
        (folder / name).write_bytes(b"")
    return check_of_file(folder / "instances.csv", read_instances, FileMissing, InvalidText)


def _corpus(folder: Path, name: str) -> Check:
    from auditor.errors import InvalidText, OperationFailed
    from auditor.trace.corpus import CorpusOptions, corpus_files, read_documents

    options = CorpusOptions()

    def read(path: Path) -> None:
        for file in corpus_files([path], options):
            for document in read_documents(file, options):
                str(document.identifier)

    return check_of_file(folder / name, read, InvalidText, OperationFailed)


def open_corpus_jsonl(folder: Path) -> Check:
    """Training text as JSON lines."""
    return _corpus(folder, "corpus.jsonl")


def open_corpus_gzip(folder: Path) -> Check:
    """Training text as compressed JSON lines."""
    return _corpus(folder, "corpus.jsonl.gz")


def open_corpus_zstd(folder: Path) -> Check:
    """Training text as JSON lines compressed with zstd."""
    return _corpus(folder, "corpus.jsonl.zst")


def open_corpus_parquet(folder: Path) -> Check:
    """Training text as rows of a Parquet file."""
    return _corpus(folder, "corpus.parquet")
