"""A language model as a folder in the transformers layout, checked before a library opens it.

Every file has to be of a kind known here; weights are safetensors and nothing else. Names,
links and sizes are looked at first, then each file is opened once, and what is checked and
hashed comes from that one descriptor. `auditor.models.preflight` does this for ONNX files.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from threading import Event
from typing import Any, Final

from auditor.errors import FileChanged, FileMissing, RefusedFolder, RefusedModel
from auditor.folders import FolderFile, combine_hashes, list_files, open_listed
from auditor.models.chat_template_rules import check_template
from auditor.models.folder_config import (
    check_module_list,
    is_module_list,
    read_config,
    read_model_type,
)
from auditor.models.folder_roles import Role, check_content, role_of
from auditor.models.limits import FolderLimits
from auditor.models.safetensors_header import StoredTensor, read_header
from auditor.models.weight_index import check_weight_files

CONFIG: Final = "config.json"
INDEX_ENDING: Final = ".safetensors.index.json"
INDEX: Final = f"model{INDEX_ENDING}"
TEMPLATE_ENDING: Final = ".jinja"
_CHUNK: Final = 2**22
# Hashing leaves the interpreter's lock; more threads than disks have queues bring nothing.
_THREADS: Final = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class WeightsFile:
    """A safetensors file of the model.

    Attributes:
        name: Its name in the folder.
        path: Where it lies, links resolved.
        size: Its bytes.
        sha256: Hex digest of its bytes.
        tensors: What it holds, in the order of their bytes.
    """

    name: str
    path: Path
    size: int
    sha256: str
    tensors: tuple[StoredTensor, ...]


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that may be opened.

    Attributes:
        path: The folder.
        digest: `sha256:<hex>` of the names and contents of the files that belong to the
            model, see `auditor.folders.combine_hashes`; documents do not belong to it. Empty
            where nothing was to be hashed.
        size: Bytes of these files.
        model_type: What config.json says the model is, for example `gpt2`.
        hashes: SHA-256 (hex) of each file that belongs to the model, by name; empty texts where
            nothing was to be hashed.
    """

    path: Path
    digest: str
    size: int
    model_type: str
    hashes: Mapping[str, str]

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files that belong to the model, sorted."""
        return tuple(sorted(self.hashes))


@dataclass(frozen=True)
class TransformersFolder(ModelFolder):
    """A folder whose weights are safetensors.

    Attributes:
        weights: The weights files, sorted by name.
    """

    weights: tuple[WeightsFile, ...]

    @property
    def parameter_count(self) -> int:
        """Stored numbers; weights that share their storage count once."""
        return sum(tensor.elements for file in self.weights for tensor in file.tensors)

    @property
    def dtypes(self) -> dict[str, int]:
        """How many numbers of each type are stored, by the type's name."""
        counts: Counter[str] = Counter()
        for file in self.weights:
            for tensor in file.tensors:
                counts[tensor.dtype] += tensor.elements
        return dict(sorted(counts.items()))


def copy_beside_weights(folder: ModelFolder, made: Path) -> None:
    """Copy what belongs to a model but its weights, where a file is not there already."""
    for name in folder.files:
        weights = name == INDEX or name.endswith(".safetensors")
        if not weights and not (made / name).exists():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder.path / name, made / name)


@contextmanager
def listed_model(path: Path, limits: FolderLimits) -> Iterator[tuple[FolderFile, ...]]:
    """The files of a model's folder; what must not be read in it is a refusal of the model.

    Raises:
        FileMissing: There is no such folder.
        RefusedModel: With the rule, the place and a way out.
    """
    try:
        yield list_files(path, hidden=False, max_files=limits.files, max_depth=limits.depth)
    except RefusedFolder as refusal:
        raise RefusedModel(
            path, refusal.rule, refusal.problem, place=refusal.place, way_out=refusal.way_out
        ) from refusal


def require_digest(path: Path, digest: str, expected: str | None) -> None:
    """Refuse a folder that is no longer what it was; None expects nothing.

    Raises:
        FileChanged: The digest is another.
    """
    if expected is not None and digest != expected:
        raise FileChanged(path, expected, digest)


def read_folder(
    path: Path,
    expected_digest: str | None = None,
    limits: FolderLimits | None = None,
    *,
    hashed: bool = True,
) -> TransformersFolder:
    """Check a model folder and say what it holds; nothing of it is executed.

    Args:
        path: The folder.
        expected_digest: What its digest was earlier; None for no expectation.
        limits: How much it may ask for.
        hashed: Whether to digest it, which reads all of the weights.

    Raises:
        FileMissing: There is no such folder, no config.json, or no weights in it.
        RefusedModel: With the rule, the place and a way out.
        FileChanged: The digest is not the expected one.
    """
    path, limits = Path(path), limits or FolderLimits()
    with listed_model(path, limits) as files:
        if CONFIG not in {file.name for file in files}:
            raise FileMissing(path / CONFIG, "configuration of a transformers model")
        folder = _read_files(path, files, limits, hashed)
    require_digest(path, folder.digest, expected_digest)
    return folder


def _read_files(
    path: Path, files: tuple[FolderFile, ...], limits: FolderLimits, hashed: bool
) -> TransformersFolder:
    roles = {file.name: role_of(path, file.name) for file in files}
    check_sizes(path, files, roles, limits)
    reader = FolderReader(path, limits, hashed=hashed)
    reader.read_all(files, roles)
    if not reader.weights:
        raise FileMissing(path / "model.safetensors", "weights of a transformers model")
    tensors = {file.name: file.tensors for file in reader.weights}
    check_weight_files(path, INDEX, reader.indexes.get(INDEX), tensors, limits)
    return TransformersFolder(
        path=path,
        digest=combine_hashes(reader.hashes) if hashed else "",
        size=sum(file.size for file in files if file.name in reader.hashes),
        model_type=read_model_type(path, CONFIG, reader.configs[CONFIG]),
        weights=tuple(reader.weights),
        hashes=reader.hashes,
    )


def check_sizes(
    path: Path, files: tuple[FolderFile, ...], roles: Mapping[str, Role], limits: FolderLimits
) -> None:
    """Refuse files that are larger than their role allows, before one is read.

    Raises:
        RefusedModel: With the file, its size and the limit.
    """
    weights = 0
    for file in files:
        role = roles[file.name]
        weights += file.size if role in (Role.WEIGHTS, Role.GRAPH) else 0
        size, limit = {
            Role.WEIGHTS: (weights, limits.weight_bytes),
            Role.GRAPH: (weights, limits.weight_bytes),
            Role.CONFIG: (file.size, limits.config_bytes),
        }.get(role, (file.size, limits.other_bytes))
        if size > limit:
            raise RefusedModel(
                path, "size-limit", f"{size} bytes of {role}; the limit is {limit}",
                place=file.name, way_out="check that the file is what it should be",
            )  # fmt: skip


class FolderReader:
    """What has been read of a folder so far; each file is read from one descriptor.

    Attributes:
        hashed: Whether weights are digested; their headers are checked in any case.
        hashes: SHA-256 (hex) of each file that belongs to the model, by name; of weights an
            empty text where they are not digested.
        weights: The safetensors files.
        configs: What each configuration says, by name.
        indexes: The indexes of sharded weights, by name.
    """

    def __init__(self, path: Path, limits: FolderLimits, *, hashed: bool = True) -> None:
        self.path, self.limits, self.hashed = path, limits, hashed
        self.hashes: dict[str, str] = {}
        self.weights: list[WeightsFile] = []
        self.configs: dict[str, dict[str, Any]] = {}
        self.indexes: dict[str, bytes] = {}
        self._stopped = Event()

    def read_all(self, files: Sequence[FolderFile], roles: Mapping[str, Role]) -> None:
        """Check and hash files, some at a time.

        Raises:
            RefusedFolder: One is no longer what was listed.
            RefusedModel: The first of them that has to be refused.
        """

        def read(file: FolderFile) -> None:
            with open_listed(self.path, file) as stream:
                self.read(file, roles[file.name], stream)

        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                for future in [pool.submit(read, file) for file in files]:
                    future.result()
            finally:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
        self._stopped.clear()
        # In the order of their names, whichever ended first.
        self.weights.sort(key=lambda file: file.name)
        self.hashes = dict(sorted(self.hashes.items()))
        self.configs = dict(sorted(self.configs.items()))
        self.indexes = dict(sorted(self.indexes.items()))

    def read(self, file: FolderFile, role: Role, stream: BufferedReader) -> None:
        """Check and hash one file.

        Raises:
            RefusedModel: Its content is not what its name says, or must not be opened.
        """
        if role is Role.WEIGHTS:
            self._read_weights(file, stream)
            return
        if role is Role.GRAPH:
            self._hash_rest(file, stream)
            return
        check_content(self.path, file.name, file.size, stream)
        if role is Role.DOCUMENT:
            return
        content = stream.read(file.size + 1)
        if len(content) != file.size:
            raise self._changed(file)
        self.hashes[file.name] = hashlib.sha256(content).hexdigest()
        if role is Role.CONFIG:
            self.configs[file.name] = read_config(self.path, file.name, content, self.limits)
        elif is_module_list(file.name):
            check_module_list(self.path, file.name, content, self.limits)
        elif file.name.endswith(TEMPLATE_ENDING):
            check_template(self.path, file.name, content.decode(errors="replace"))
        elif file.name.endswith(INDEX_ENDING):
            self.indexes[file.name] = content

    def _read_weights(self, file: FolderFile, stream: BufferedReader) -> None:
        try:
            header = read_header(self.path, file.name, stream, file.size, self.limits)
        except RefusedModel:
            # The header decides first: its length may look like the start of another format.
            stream.seek(0)
            check_content(self.path, file.name, file.size, stream)
            raise
        digest = self._hash_rest(file, stream, header.raw)
        self.weights.append(WeightsFile(file.name, file.path, file.size, digest, header.tensors))

    def _hash_rest(self, file: FolderFile, stream: BufferedReader, begun: bytes = b"") -> str:
        """SHA-256 (hex) of a file of which `begun` was read; noted, the content is not kept."""
        if not self.hashed:
            self.hashes[file.name] = ""
            return ""
        digest, count = hashlib.sha256(begun), len(begun)
        while not self._stopped.is_set() and (chunk := stream.read(_CHUNK)):
            digest.update(chunk)
            count += len(chunk)
        if count != file.size:
            raise self._changed(file)
        self.hashes[file.name] = digest.hexdigest()
        return digest.hexdigest()

    def _changed(self, file: FolderFile) -> RefusedModel:
        return RefusedModel(
            self.path, "changed", "the file changed while it was read", place=file.name,
            way_out="run again when nothing writes to the folder",
        )  # fmt: skip
