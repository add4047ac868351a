"""What kind of model an archive is, by the names of its members; some kinds are refused as such.

Names decide against an archive, never for it: whatever its kind, each member is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from auditor.models.scan.decision import Problem

_EXPORT: Final = "export the model to ONNX, or save its weights as safetensors"
_STORAGE: Final = re.compile(r"data/\d+")
# Texts of a few bytes that torch writes beside a pickle.
_TORCH_NOTES: Final = frozenset({
    ".format_version", ".storage_alignment", "byteorder", "version", ".data/serialization_id",
})  # fmt: skip
NOTE_BYTES: Final = 64
_NOTE: Final = re.compile(rb"[\w.-]*\n?")
_LEGACY_EXPORT: Final = re.compile(r"serialized_\w+\.(?:json|pt)")


class ArchiveKind(StrEnum):
    """Kinds of archive; the value is the format that is reported."""

    TORCH = "torch archive"
    TORCHSCRIPT = "torchscript"
    TORCH_EXPORT = "torch export"
    KERAS = "keras archive"
    SKOPS = "skops archive"
    NPZ = "npz"
    NEMO = "nemo"
    ZIP = "zip"
    TAR = "tar"


_OF_TORCH: Final = (ArchiveKind.TORCH, ArchiveKind.TORCHSCRIPT, ArchiveKind.TORCH_EXPORT)
_REFUSED: Final = {
    ArchiveKind.TORCHSCRIPT: (
        "torchscript",
        "TorchScript: an archive of code and pickles, which runs when it is opened or called",
    ),
    ArchiveKind.TORCH_EXPORT: (
        "torch-export",
        "an exported program of torch: torch.export.load falls back to full pickle",
    ),
    ArchiveKind.KERAS: (
        "keras-archive",
        "a Keras archive, whose configuration names classes and may hold code",
    ),
    ArchiveKind.SKOPS: (
        "skops-archive",
        "a skops archive, whose schema names the functions that are called to open it",
    ),
}


@dataclass(frozen=True)
class Recognised:
    """What an archive is.

    Attributes:
        kind: What its names say.
        root: Folder of its model in small letters, with its slash; empty if it is the archive.
    """

    kind: ArchiveKind
    root: str = ""

    @property
    def problem(self) -> Problem | None:
        """Why this kind is refused, whatever its members are."""
        if self.kind not in _REFUSED:
            return None
        rule, problem = _REFUSED[self.kind]
        return Problem(rule, problem, "", _EXPORT)

    def is_storage(self, name: str) -> bool:
        """Whether a member is the numbers of a tensor, which torch reads as nothing else."""
        return bool(_STORAGE.fullmatch(self._inside(name)))

    def is_note(self, name: str, start: bytes) -> bool:
        """Whether a member is one of the words or numbers that torch writes.

        Args:
            name: Of the member.
            start: Its first bytes, one more than `NOTE_BYTES` if there are so many.
        """
        is_word = len(start) <= NOTE_BYTES and bool(_NOTE.fullmatch(start))
        return is_word and self._inside(name) in _TORCH_NOTES

    def _inside(self, name: str) -> str:
        """The name below the root, empty where it is not there or the archive not of torch."""
        is_inside = self.kind in _OF_TORCH and name.lower().startswith(self.root)
        return name.lower()[len(self.root) :] if is_inside else ""


def recognise_zip(names: Collection[str]) -> Recognised:
    """The kind of a zip archive.

    Args:
        names: Of all members, folders left out. Capitals make no difference, as for torch.
    """
    found = {name.lower() for name in names}
    for root, inner in _by_root(found).items():
        kind = _torch_kind(inner)
        if kind is not None:
            return Recognised(kind, root)
    if "config.json" in found and found & {"model.weights.h5", "metadata.json"}:
        return Recognised(ArchiveKind.KERAS)
    if "schema.json" in found:
        return Recognised(ArchiveKind.SKOPS)
    if found and all(name.endswith(".npy") for name in found):
        return Recognised(ArchiveKind.NPZ)
    return Recognised(ArchiveKind.ZIP)


def recognise_tar(names: Collection[str]) -> Recognised:
    """The kind of a tar archive, by the names of its members."""
    is_nemo = any(name.removeprefix("./") == "model_config.yaml" for name in names)
    return Recognised(ArchiveKind.NEMO if is_nemo else ArchiveKind.TAR)


def _by_root(names: set[str]) -> dict[str, set[str]]:
    """The names below the archive itself, and below each folder at its top."""
    found = {"": names}
    for name in sorted(names):
        top, separator, rest = name.partition("/")
        if separator:
            found.setdefault(top + separator, set()).add(rest)
    return found


def _torch_kind(names: set[str]) -> ArchiveKind | None:
    """The kind of torch archive by names below its root; None if it is none."""
    if names & {"archive_format", "archive_version"} or any(
        _LEGACY_EXPORT.fullmatch(name) for name in names
    ):
        return ArchiveKind.TORCH_EXPORT
    has_graph = any(name.startswith("models/") and name.endswith(".json") for name in names)
    if has_graph and any(name.startswith("data/weights/") for name in names):
        return ArchiveKind.TORCH_EXPORT
    is_pickled = "data.pkl" in names
    has_code = any(name.startswith("code/") for name in names)
    if names & {"constants.pkl", "bytecode.pkl"} or (is_pickled and has_code):
        return ArchiveKind.TORCHSCRIPT
    return ArchiveKind.TORCH if is_pickled else None
