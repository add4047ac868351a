"""Activations kept on disk: memory-mapped NumPy shards and a manifest with their digests.

A folder holds `layer-NNN/shard-NNNNN.npy`, each [samples, neurons], and `manifest.json`,
which is written last: a folder without one is no store. Writing keeps one shard of each
layer in memory; reading maps the shards and keeps nothing.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auditor.activations.capture import Batch, Capture, Granularity, Inputs, Point
from auditor.errors import ConfigurationError, FileMissing, InvalidText
from auditor.files import plain_digest, write_atomically

Array = NDArray[Any]
MANIFEST: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 2**26
_Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Shard(_Record):
    """One file of one layer."""

    samples: int = Field(ge=1, le=2**40)
    """Its rows."""
    digest: _Digest
    """SHA-256 of the file."""


class StoredLayer(_Record):
    """One layer's shards, in the order of the samples."""

    name: str = Field(max_length=1000)
    """The layer."""
    neurons: int = Field(ge=1, le=2**32)
    """Values of one sample."""
    dtype: Literal["float16", "float32", "float64"]
    """Their type."""
    shards: tuple[Shard, ...]
    """The files."""


class StoreManifest(_Record):
    """What a store holds."""

    format: Literal["auditor-activations"] = "auditor-activations"
    """What the folder is."""
    version: Literal[1] = 1
    """Version of the format."""
    model: str = Field(max_length=200)
    """Digest of the model."""
    point: Point
    """Before or after the activation functions."""
    granularity: Granularity
    """What a neuron is."""
    layers: tuple[StoredLayer, ...] = Field(min_length=1)
    """The layers in the model's order."""


class ActivationStore:
    """A store that is open for reading.

    Attributes:
        folder: Where it is.
        manifest: What it holds.
    """

    def __init__(self, folder: Path, manifest: StoreManifest) -> None:
        self.folder, self.manifest = folder, manifest

    @staticmethod
    def open(folder: Path | str, *, model_digest: str = "") -> ActivationStore:
        """Open a store; arrays are mapped when they are asked for.

        Raises:
            FileMissing: There is no manifest.
            InvalidText: The manifest is not one.
            ConfigurationError: The store is of another model than the one named.
        """
        path = Path(folder) / MANIFEST
        if not path.is_file():
            raise FileMissing(path, "manifest of a store")
        with path.open("rb") as stream:
            content = stream.read(MAX_MANIFEST_BYTES + 1)
        if len(content) > MAX_MANIFEST_BYTES:
            raise InvalidText(str(path), f"longer than {MAX_MANIFEST_BYTES} bytes")
        try:
            manifest = StoreManifest.model_validate_json(content)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, problem["loc"]))
            raise InvalidText(str(path), f"{place}: {problem['msg']}") from None
        if model_digest and manifest.model != model_digest:
            raise ConfigurationError(
                f"{folder} holds activations of the model {manifest.model[:19]}..., this one is "
                f"{model_digest[:19]}...; store them anew"
            )
        return ActivationStore(Path(folder), manifest)

    def shards(self, layer: str, *, check: bool = True) -> Iterator[Array]:
        """The layer's shards, memory-mapped and read-only, [samples, neurons] each.

        Args:
            layer: Its name.
            check: Whether to compare each file with its digest first, which reads it once.

        Raises:
            ConfigurationError: There is no such layer.
            InvalidText: A file is missing, changed, or of another shape.
        """
        names = [each.name for each in self.manifest.layers]
        if layer not in names:
            raise ConfigurationError(f"no layer '{layer}' in {self.folder}; there are {names}")
        number = names.index(layer)
        stored = self.manifest.layers[number]
        for index, shard in enumerate(stored.shards):
            path = self.folder / shard_name(number, index)
            if not path.is_file():
                raise InvalidText(str(path), "the shard is missing; store them anew")
            if check and plain_digest(path) != shard.digest:
                raise InvalidText(str(path), "the shard has changed since it was written")
            try:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            except (ValueError, OSError, EOFError) as error:
                raise InvalidText(str(path), f"no NumPy file: {error}") from None
            if array.shape != (shard.samples, stored.neurons) or str(array.dtype) != stored.dtype:
                raise InvalidText(str(path), f"{array.dtype} of shape {list(array.shape)}")
            yield array


def store_activations(
    folder: Path, capture: Capture, inputs: Inputs, *, shard_samples: int = 4096
) -> ActivationStore:
    """Run a model over samples and keep what its layers did.

    Args:
        folder: A new folder.
        capture: The model and its layers.
        inputs: Samples along the first axis.
        shard_samples: Samples in one file, at least 1.

    Raises:
        ConfigurationError: The folder holds a store already, or `shard_samples` is below 1.
        OutputNotWritable, OperationFailed: As for `write_atomically`.
    """
    if shard_samples < 1:
        raise ConfigurationError(f"{shard_samples} samples in a shard; give at least 1")
    if (folder / MANIFEST).exists():
        raise ConfigurationError(f"{folder} holds a store already; choose another folder")
    shards: list[list[Shard]] = [[] for _ in capture.layers]
    neurons: list[int] = []
    dtypes: list[str] = []
    for blocks in _regroup(capture.batches(inputs), shard_samples):
        neurons = [block.shape[1] for block in blocks]
        dtypes = [str(block.dtype) for block in blocks]
        for number, block in enumerate(blocks):
            content = _npy_bytes(block)
            write_atomically(folder / shard_name(number, len(shards[number])), content)
            digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
            shards[number].append(Shard(samples=len(block), digest=digest))
    manifest = StoreManifest(
        model=capture.digest,
        point=capture.options.point,
        granularity=capture.options.granularity,
        layers=tuple(
            StoredLayer.model_validate(
                {"name": layer.name, "neurons": n, "dtype": dtype, "shards": tuple(parts)}
            )
            for layer, n, dtype, parts in zip(capture.layers, neurons, dtypes, shards, strict=True)
        ),
    )
    text = manifest.model_dump_json(indent=2) + "\n"
    write_atomically(folder / MANIFEST, text.encode())
    return ActivationStore(folder, manifest)


def shard_name(layer: int, shard: int) -> str:
    """Where a shard lies in the folder."""
    return f"layer-{layer:03}/shard-{shard:05}.npy"


def _regroup(batches: Iterable[Batch], size: int) -> Iterator[list[Array]]:
    """The layers' values in blocks of `size` samples; the last may be shorter."""
    parts: list[list[Array]] = []
    held = 0
    for batch in batches:
        parts = parts or [[] for _ in batch.values]
        start, samples = 0, len(batch.outputs)
        while start < samples:
            take = min(size - held, samples - start)
            for kept, values in zip(parts, batch.values, strict=True):
                kept.append(values[start : start + take])
            held, start = held + take, start + take
            if held == size:
                yield [np.concatenate(kept) for kept in parts]
                parts, held = [[] for _ in batch.values], 0
    if held:
        yield [np.concatenate(kept) for kept in parts]


def _npy_bytes(array: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
