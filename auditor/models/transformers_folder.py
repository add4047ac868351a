"""Deciding, before transformers opens a folder, whether it may be opened.

Weights are safetensors, code comes from installed packages, and every file stands in the
folder itself. Nothing is executed and no library is asked to guess a format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auditor.errors import FileChanged, FileMissing, RefusedModel
from auditor.files import plain_digest

MAX_FILES: Final = 10_000
MAX_JSON_BYTES: Final = 64 * 2**20
_PICKLED: Final = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})
_CONFIGS: Final = ("config.json", "tokenizer_config.json", "processor_config.json")


@dataclass(frozen=True)
class TransformersFolder:
    """A folder that may be opened.

    Attributes:
        path: The folder.
        digest: `sha256:<hex>` over the names and digests of all files.
        size: Bytes of all files together.
    """

    path: Path
    digest: str
    size: int


def read_folder(path: Path, expected_digest: str | None = None) -> TransformersFolder:
    """The folder with its digest, if it may be opened.

    Raises:
        FileMissing: There is no such folder, or no config.json in it.
        RefusedModel: Pickled weights, remote code, or a link out of the folder.
        FileChanged: The digest is not the expected one.
    """
    if not path.is_dir():
        raise FileMissing(path, "model folder")
    if not (path / "config.json").is_file():
        raise FileMissing(path / "config.json", "model configuration")
    lines, size = [], 0
    for file in _files(path):
        name = file.relative_to(path).as_posix()
        lines.append(f"{plain_digest(file).removeprefix('sha256:')}  {name}\n")
        size += file.stat().st_size
    for name in _CONFIGS:
        if (path / name).is_file():
            _refuse_remote_code(path / name)
    digest = f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"
    if expected_digest is not None and digest != expected_digest:
        raise FileChanged(path, expected_digest, digest)
    return TransformersFolder(path, digest, size)


def _files(folder: Path) -> Iterator[Path]:
    """Its regular files in the order of their names; anything that cannot be trusted ends it."""
    root = folder.resolve()
    files = [file for file in sorted(folder.rglob("*")) if file.is_symlink() or not file.is_dir()]
    if len(files) > MAX_FILES:
        raise RefusedModel(
            folder, "too-many-files", f"{len(files)} files", way_out="give the model's own folder"
        )
    for file in files:
        if not file.resolve().is_relative_to(root):
            raise RefusedModel(
                file, "link", "a link that leaves the folder", way_out="copy the file into it"
            )
        if not file.is_file():
            raise RefusedModel(
                file, "not-a-file", "not a regular file", way_out="remove it from the folder"
            )
        if file.suffix.lower() in _PICKLED:
            raise RefusedModel(
                file,
                "pickle-content",
                "pickled weights, which run code when they are opened",
                way_out="save the model with safetensors and remove the file",
            )
        yield file


def _refuse_remote_code(path: Path) -> None:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise RefusedModel(path, "too-large", "a configuration of this size", way_out="shorten it")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RefusedModel(
            path, "unreadable", f"no JSON ({type(error).__name__})", way_out="save the model again"
        ) from None
    if not isinstance(content, dict):
        raise RefusedModel(path, "unreadable", "no JSON object", way_out="save the model again")
    if "auto_map" in content:
        raise RefusedModel(
            path,
            "remote-code",
            "auto_map asks for code of the folder to be run",
            way_out="use a model whose class transformers has",
        )
