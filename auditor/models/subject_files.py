"""What is known of a model from its bytes alone, whichever kind of model it is."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from auditor.errors import RefusedModel
from auditor.models.diffusion_folder import DENOISERS, PIPELINE, read_diffusion_folder
from auditor.models.digest import file_digest
from auditor.models.onnx_folder import read_model_folder
from auditor.models.preflight import require_openable
from auditor.models.transformers_folder import CONFIG, ModelFolder, TransformersFolder, read_folder

ModelKind = Literal["onnx", "transformers", "diffusers"]
FOLDER_KINDS: Final = ("transformers", "diffusers")
_REFUSED_ENTRIES: Final = 10_000
_REFUSED_FILE_BYTES: Final = 2**24
_REFUSED_BYTES: Final = 2**30


@dataclass(frozen=True)
class SubjectFiles:
    """A model as bytes.

    Attributes:
        digest: `sha256:<hex>`; of a refused model it only says which one is spoken of.
        size: Bytes of the file, or of the files that belong to the model.
        refusal: Why it must not be opened, or None.
    """

    digest: str
    size: int
    refusal: RefusedModel | None = None


def look_at(path: Path, kind: ModelKind) -> SubjectFiles:
    """Check and digest a model; a refusal is part of the answer.

    Raises:
        FileMissing: There is nothing at the path, or a folder lacks config.json, or both weights
            and a graph; of a diffusion model, its denoiser or the weights of a component.
    """
    try:
        if kind in FOLDER_KINDS:
            folder = read_kind(path, kind)
            return SubjectFiles(folder.digest, folder.size)
        require_openable(path)
        return SubjectFiles(file_digest(path), path.stat().st_size)
    except RefusedModel as refusal:
        if path.is_dir():
            digest, size = _digest_as_found(path)
            return SubjectFiles(digest, size, refusal)
        digest = file_digest(path) if path.is_file() else "sha256:none"
        return SubjectFiles(digest, path.stat().st_size, refusal)


def folder_kind(path: Path) -> ModelKind:
    """What a folder holds, by the names in it: a diffusion model, or else a language model."""
    parts = (PIPELINE, *(f"{part}/{CONFIG}" for part in DENOISERS))
    return "diffusers" if any((path / part).exists() for part in parts) else "transformers"


def read_kind(path: Path, kind: str, expected_digest: str | None = None) -> ModelFolder:
    """Check a folder of one of `FOLDER_KINDS`; see the functions for what they raise."""
    read = read_diffusion_folder if kind == "diffusers" else read_model_folder
    return read(path, expected_digest)


def read_weights_folder(path: Path) -> TransformersFolder:
    """Check a folder whose weights are safetensors, of a language or of a diffusion model."""
    return read_diffusion_folder(path) if folder_kind(path) == "diffusers" else read_folder(path)


def _digest_as_found(folder: Path) -> tuple[str, int]:
    """Digest and size of a folder that must not be read.

    Nothing is followed; of each regular file only the beginning counts beside its size, and
    of a folder only so many entries, so that no folder can keep the audit busy.
    """
    digest, total, left, count = hashlib.sha256(), 0, _REFUSED_BYTES, 0
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted([*folders, *files]):
            count += 1
            if count > _REFUSED_ENTRIES:
                return f"sha256:{digest.hexdigest()}", total
            path = Path(parent, name)
            status = path.lstat()
            # What cannot change without changing the model: no times, no owner.
            entry = f"{path.relative_to(folder)}\0{stat.S_IFMT(status.st_mode)}\0"
            if stat.S_ISLNK(status.st_mode):
                entry += str(path.readlink())
            elif stat.S_ISREG(status.st_mode):
                content = _beginning(path, min(left, _REFUSED_FILE_BYTES))
                left, total = left - len(content), total + status.st_size
                entry += f"{status.st_size}\0{hashlib.sha256(content).hexdigest()}"
            digest.update(entry.encode(errors="surrogateescape") + b"\n")
    return f"sha256:{digest.hexdigest()}", total


def _beginning(path: Path, size: int) -> bytes:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except OSError:  # a file that cannot be read is told apart by its name and size alone
        return b""
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(size)
