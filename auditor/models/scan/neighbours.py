"""What files of a folder say about each other, once each was judged on its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from auditor.models.scan.answer import FileScan
from auditor.models.scan.decision import Content, Decision

_WEIGHTS: Final = frozenset({"onnx", "onnx.gz", "safetensors", "gguf", "pickle", "torch archive"})
# What a reader says of bytes that are not of its format.
_GAVE_UP: Final = frozenset({"unknown-format", "malformed", "truncated", "size-limit"})


def refuse_code_beside_weights(files: Sequence[FileScan]) -> Iterator[FileScan]:
    """Code that lies beside weights is there to be run with them."""
    with_weights = {Path(file.name).parent for file in files if file.content.format in _WEIGHTS}
    for file in files:
        beside = with_weights & {Path(file.name).parent, *Path(file.name).parents}
        if file.content.format == "code" and beside:
            problems = (replace(problem, decision=Decision.REFUSED)
                        for problem in file.content.problems)  # fmt: skip
            yield replace(file, content=replace(file.content, problems=tuple(problems)))
        else:
            yield file


def excuse_data_files(files: Sequence[FileScan]) -> Iterator[FileScan]:
    """Raw numbers of an ONNX graph have no format of their own; its own rules judged them."""
    named = {
        str(Path(file.name).parent / location)
        for file in files
        for location in file.content.facts.get("external_files", "").split("\n")
        if location and file.content.decision is Decision.ACCEPTED
    }
    for file in files:
        if file.name in named and _happens_to_look_like(file.content):
            yield replace(file, content=Content("data of an ONNX graph", (), ("ranges",)))
        else:
            yield file


def _happens_to_look_like(content: Content) -> bool:
    """Whether numbers only begin like a format, and an unpickler would call nothing in them."""
    rules = {problem.rule for problem in content.problems}
    return not rules or (
        bool(rules & _GAVE_UP)
        and rules <= _GAVE_UP | {"pickle-content", "pickle-structure"}
        and content.facts.get("calls", "0") == "0"
    )
