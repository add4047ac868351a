"""What a file in a model's folder is for, by its name, and whether its content agrees.

Only names that are known here are let through. Content decides against a file, never for it:
a pickle or an archive is refused whatever it is called.
"""

from __future__ import annotations

from enum import StrEnum
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Final

from auditor.errors import RefusedModel
from auditor.models.file_format import HEAD_BYTES, TAIL_BYTES, FileFormat, recognise_format
from auditor.models.folder_config import is_config

_REMOVE: Final = "move it out of the folder"
_PICKLE_ENDINGS: Final = frozenset({
    ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".pt2",
})  # fmt: skip
_CODE_ENDINGS: Final = frozenset({
    ".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".sh", ".exe",
})  # fmt: skip
_ARCHIVE_ENDINGS: Final = frozenset({
    ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".whl", ".nemo",
})  # fmt: skip
_DATA_ENDINGS: Final = frozenset({
    ".json", ".txt", ".jinja", ".model", ".tiktoken", ".spm", ".bpe", ".vocab",
})  # fmt: skip
_DOCUMENT_ENDINGS: Final = frozenset({
    ".md", ".rst", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".pdf",
})  # fmt: skip
_DOCUMENT_STEMS: Final = (
    "readme", "license", "licence", "notice", "citation", "changelog", "use_policy",
)  # fmt: skip
_CONTENT_RULES: Final = (
    ({FileFormat.PICKLE, FileFormat.TORCHSCRIPT}, "pickle-content"),
    ({FileFormat.ZIP, FileFormat.TAR, FileFormat.SEVEN_ZIP, FileFormat.GZIP}, "container"),
    ({FileFormat.GGUF, FileFormat.HDF5, FileFormat.NUMPY}, "not-a-model"),
)


class Role(StrEnum):
    """What a file of the folder is for."""

    CONFIG = "configuration"
    WEIGHTS = "weights"
    GRAPH = "graph"
    """A graph or its data; they have a reader of their own and are only hashed here."""
    DATA = "data"
    DOCUMENT = "document"


def role_of(path: Path, name: str) -> Role:
    """What a file is for, by its name.

    Raises:
        RefusedModel: Its name is that of no part of a model that is read here.
    """
    whole = PurePosixPath(name.lower())
    ending, stem = whole.suffix, whole.name.partition(".")[0]
    for endings, rule, problem, way_out in (
        (_PICKLE_ENDINGS, "pickle-content", "a pickle, or named like one",
         f"write the folder anew with 'auditor model convert', or {_REMOVE}"),
        (_CODE_ENDINGS, "custom-code", "code", f"use a model type that transformers knows; "
         f"{_REMOVE}"),
        (_ARCHIVE_ENDINGS, "container", "an archive, which is not unpacked", _REMOVE),
    ):  # fmt: skip
        if ending in endings:
            raise RefusedModel(path, rule, problem, place=name, way_out=way_out)
    if ending == ".safetensors" and len(whole.parts) == 1:
        return Role.WEIGHTS
    if is_config(name):
        return Role.CONFIG
    if stem in _DOCUMENT_STEMS or ending in _DOCUMENT_ENDINGS:
        return Role.DOCUMENT
    if ending in _DATA_ENDINGS:
        return Role.DATA
    raise RefusedModel(
        path, "unknown-file", "no part of a transformers model that is known here", place=name,
        way_out=_REMOVE,
    )  # fmt: skip


def check_content(path: Path, name: str, size: int, stream: BufferedReader) -> None:
    """Refuse what is a pickle, an archive or another model; the stream stands at its start after.

    Raises:
        RefusedModel: With what the content is.
    """
    head = stream.read(HEAD_BYTES)
    stream.seek(max(0, size - TAIL_BYTES))
    tail = stream.read(TAIL_BYTES)
    stream.seek(0)
    found = recognise_format(head, tail, size)
    # Plain text can be a pickle of protocol 0 by accident ("Copyright ..."), and whoever reads
    # these files takes them for text.
    if found is FileFormat.PICKLE and not head.startswith(b"\x80") and b"\0" not in head:
        return
    rule = next((rule for formats, rule in _CONTENT_RULES if found in formats), None)
    if rule is not None:
        raise RefusedModel(
            path, rule, f"its content is {found}", place=name,
            way_out="put the file there that its name says",
        )  # fmt: skip
