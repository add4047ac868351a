"""Targets: what auditor writes and reads again, which may come back from somebody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.sealing import (
    SHARD,
    certificate_of,
    mask_file_of,
    pattern_file_of,
    write_index,
)
from tests.fuzz.target import Check, check_of_file, only, parts_of

INDEX_TEXT = (("one", "benign", "the cat sat on the mat"), ("two", "unsafe", "a dog sat down"))
INDEX_FILES = (
    "text.u8", "suffixes.i32", "buckets.i64", "starts.i64", "documents.jsonl", "tokens.i64",
)  # fmt: skip
QUERIES = (b"the cat sat on a dog", b"t", b"\xff\x00the mat", b"at")


def _certificate(folder: Path, made: Callable[[bytes], bytes]) -> Check:
    from auditor.verify.certificate.checker import check_certificate
    from tests.models.certificates import absolute_value_question

    question = absolute_value_question(folder, 0.25)

    def check(data: bytes) -> None:
        question.certificate.write_bytes(made(data))
        found = check_certificate(question.certificate, question.model, question.property_file)
        if found.accepted:
            raise AssertionError("a certificate was accepted for a property that does not hold")

    return check


def open_certificate(folder: Path) -> Check:
    """A certificate as it is, for a property that does not hold: it is never accepted."""
    return _certificate(folder, lambda data: data)


def open_certificate_sealed(folder: Path) -> Check:
    """Records of a certificate, with right checksums, for a property that does not hold."""
    return _certificate(folder, certificate_of)


def open_pattern_file(folder: Path) -> Check:
    """A pattern file as it is."""
    from auditor.errors import PatternFileRejected
    from auditor.patterns.pattern_file import read_patterns

    return check_of_file(folder / "file", read_patterns, PatternFileRejected)


def open_pattern_file_sealed(folder: Path) -> Check:
    """The head of a pattern file and its numbers, with a right digest."""
    from auditor.errors import PatternFileRejected
    from auditor.patterns.pattern_file import read_patterns

    return check_of_file(folder / "file", read_patterns, PatternFileRejected, made=pattern_file_of)


def open_mask_file(folder: Path) -> Check:
    """A mask file as it is."""
    from auditor.memorization.masks.mask_file import MaskFileRejected, read_masks

    return check_of_file(folder / "file", read_masks, MaskFileRejected)


def open_mask_file_sealed(folder: Path) -> Check:
    """The head of a mask file and its numbers, with a right digest."""
    from auditor.memorization.masks.mask_file import MaskFileRejected, read_masks

    return check_of_file(folder / "file", read_masks, MaskFileRejected, made=mask_file_of)


def open_index_manifest(folder: Path) -> Check:
    """The manifest of an index as it is, and with a right digest where it has the form of one."""
    from pydantic import ValidationError

    from auditor.errors import ConfigurationError, FileMissing, RefusedInput
    from auditor.trace.manifest import MANIFEST, Manifest, write_manifest
    from auditor.trace.matches import TraceIndex

    def check(data: bytes) -> None:
        (folder / MANIFEST).write_bytes(data)
        with only(ConfigurationError, FileMissing, RefusedInput):
            TraceIndex(folder)
        try:
            write_manifest(folder, Manifest.model_validate_json(data))
        except (ValidationError, ValueError, RecursionError):
            return
        with only(ConfigurationError, FileMissing, RefusedInput):
            TraceIndex(folder)

    return check


def open_index_shard(folder: Path) -> Check:
    """The files of a shard, whole parts replaced, opened and asked."""
    from auditor.errors import ConfigurationError, RefusedInput
    from auditor.trace.matches import TraceIndex
    from tests.models.small_index import index_of

    whole = index_of(folder / "whole", INDEX_TEXT)
    kept = {name: (whole.folder / SHARD / name).read_bytes() for name in INDEX_FILES}
    asked = folder / "asked"

    def check(data: bytes) -> None:
        changed = {INDEX_FILES[number]: part for number, part in parts_of(data, len(INDEX_FILES))}
        write_index(asked, kept | changed)
        with only(RefusedInput):
            index = TraceIndex(asked)
            for query in QUERIES:
                index.count(query)
                index.find(query, most=3)
                index.spans(query)
                index.log_probabilities(query, order=3)
            with only(ConfigurationError):  # a text without a word
                index.unigrams().count(b"the")
            for shard in index.shards:
                list(shard.contents())

    return check


def open_calibration(folder: Path) -> Check:
    """The calibration of a score."""
    from auditor.errors import RefusedInput
    from auditor.trace.calibration import read_calibration

    return check_of_file(folder / "file", read_calibration, RefusedInput)


def open_refusal_judge(folder: Path) -> Check:
    """A trained judge, for an embedder of three numbers."""
    import numpy as np

    from auditor.errors import ConfigurationError, InvalidText
    from auditor.language.embedding_judge import load_judge

    class _Embedder:
        digest = f"sha256:{'0' * 64}"

        def embed(self, texts: Any) -> Any:
            return np.ones((len(texts), 3), np.float32)

    return check_of_file(
        folder / "file", lambda path: load_judge(path, _Embedder()), InvalidText, ConfigurationError
    )


def open_tokenizer(folder: Path) -> Check:
    """The tokenizer of an index, and a text it has to encode."""
    from auditor.errors import ConfigurationError
    from auditor.trace.encoder import read_encoder

    def read(path: Path) -> None:
        read_encoder(path).encode(b"the cat \xff\xc3\xa9 sat")

    return check_of_file(folder / "file", read, ConfigurationError)
