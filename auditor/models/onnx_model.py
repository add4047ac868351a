"""An ONNX model opened safely: checked, hashed and parsed from the same bytes.

`OnnxModel.open` runs the pre-flight, reads every external data file once through
the descriptor that was checked, puts those bytes into the model, and runs the ONNX
checker. Nothing here runs the model; `session` does.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from auditor.errors import FileChanged, RefusedModel
from auditor.models.digest import combine_digests
from auditor.models.external_data import ExternalFiles, open_external, slice_tensor
from auditor.models.limits import Limits
from auditor.models.preflight import Vetted, vet_model

if TYPE_CHECKING:
    from auditor.models.session import Session

_FLOAT_KINDS: Final = frozenset({"FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"})
_SHOWN_INDICES: Final = 10


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: Its name in the graph.
        shape: One entry per axis, None where the size is symbolic or unknown.
        dtype: NumPy's name of the element type, for example `float32`; empty for
            what is not a tensor.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        axes = ", ".join("?" if axis is None else str(axis) for axis in self.shape)
        return f"{self.name} {self.dtype or 'no tensor'}[{axes}]"

    @property
    def size(self) -> int:
        """Elements of one sample: the product of the known axes, a symbolic one as 1."""
        return int(np.prod([axis or 1 for axis in self.shape], dtype=np.int64))


@dataclass(frozen=True)
class NonFinite:
    """NaN or infinity in a tensor that belongs to the model.

    Attributes:
        tensor: Its name.
        indices: The first flat positions, in order.
        count: How many there are in all.
        kinds: `nan`, `inf`, `-inf`, those that occur.
    """

    tensor: str
    indices: tuple[int, ...]
    count: int
    kinds: tuple[str, ...]

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.indices) else ""
        places = ", ".join(map(str, self.indices)) + more
        return f"{self.tensor}[{places}] is {' or '.join(self.kinds)}"


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An opened model.

    Attributes:
        path: Where it was read from.
        digest: `sha256:<hex>`, see `auditor.models.digest.file_digest`.
        size: Bytes on disk, external data included.
        format: `onnx` or `onnx.gz`.
        proto: The parsed model with external data inside.
        external_files: Locations of its data files.
    """

    path: Path
    digest: str
    size: int
    format: str
    proto: onnx.ModelProto
    external_files: tuple[str, ...] = ()

    @staticmethod
    def open(
        path: Path | str, *, expected_digest: str = "", limits: Limits | None = None
    ) -> OnnxModel:
        """Open a model file, plain or gzip-compressed.

        Args:
            path: The file.
            expected_digest: What `file_digest` said earlier; empty for no expectation.
            limits: See `Limits`.

        Raises:
            FileChanged: The digest of what was read is not the expected one.
            FileMissing: There is nothing at the path.
            RefusedModel: The pre-flight or the ONNX checker refuses it.
        """
        limits = limits or Limits()
        vetted = vet_model(Path(path), limits)
        proto = _parse(vetted)
        with open_external(Path(path), vetted.external, limits) as files:
            digest, external_bytes = _inline_external(vetted, proto, files)
        if expected_digest and digest != expected_digest:
            raise FileChanged(path, expected_digest, digest)
        _check(Path(path), proto)
        return OnnxModel(
            path=Path(path),
            digest=digest,
            size=vetted.inspection.size + external_bytes,
            format=str(vetted.inspection.format),
            proto=proto,
            external_files=vetted.inspection.external_files,
        )

    @staticmethod
    def from_proto(proto: onnx.ModelProto, path: Path | str = "<memory>") -> OnnxModel:
        """A model built in memory, for example by a repair; checked like a file's."""
        content = proto.SerializeToString(deterministic=True)
        _check(Path(path), proto)
        return OnnxModel(
            path=Path(path),
            digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
            size=len(content),
            format="onnx",
            proto=proto,
        )

    @cached_property
    def initialisers(self) -> dict[str, NDArray[np.generic]]:
        """The main graph's initialisers by name, as arrays."""
        return {
            tensor.name: numpy_helper.to_array(tensor) for tensor in self.proto.graph.initializer
        }

    @cached_property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What has to be fed, in graph order; initialisers that are listed too are not."""
        fixed = {tensor.name for tensor in self.proto.graph.initializer}
        return tuple(_spec(value) for value in self.proto.graph.input if value.name not in fixed)

    @cached_property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What comes out, in graph order."""
        return tuple(_spec(value) for value in self.proto.graph.output)

    @cached_property
    def opset(self) -> int:
        """Version of the standard operator set."""
        versions = [o.version for o in self.proto.opset_import if o.domain in ("", "ai.onnx")]
        return max(versions, default=0)

    @property
    def producer(self) -> str:
        """Name and version of the program that wrote the model, as it says itself."""
        return f"{self.proto.producer_name} {self.proto.producer_version}".strip()

    @cached_property
    def operators(self) -> Counter[str]:
        """How often each operator occurs, subgraphs included."""
        return Counter(
            node.op_type for graph in iterate_graphs(self.proto.graph) for node in graph.node
        )

    @cached_property
    def parameter_count(self) -> int:
        """Elements of all floating-point initialisers and constants."""
        return sum(
            int(np.prod(tensor.dims, dtype=np.int64))
            for _, tensor in iterate_tensors(self.proto.graph)
            if onnx.TensorProto.DataType.Name(tensor.data_type) in _FLOAT_KINDS
        )

    @cached_property
    def nonfinite(self) -> tuple[NonFinite, ...]:
        """NaN and infinity in initialisers and constants, one entry per tensor."""
        found = (
            _find_nonfinite(name, tensor) for name, tensor in iterate_tensors(self.proto.graph)
        )
        return tuple(entry for entry in found if entry is not None)

    def session(self, device: str = "cpu", *, optimised: bool = True, threads: int = 1) -> Session:
        """The model loaded into onnxruntime; see `auditor.models.session.Session`."""
        from auditor.models.session import Session  # onnxruntime is slow to import

        return Session.create(self, device, optimised=optimised, threads=threads)


def iterate_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and every graph inside its nodes, outermost first."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else []
            for subgraph in (*inner, *attribute.graphs):
                yield from iterate_graphs(subgraph)


def iterate_tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Every tensor stored in the model with a name: initialisers, then constants in nodes."""
    for part in iterate_graphs(graph):
        for tensor in part.initializer:
            yield tensor.name, tensor
        for node in part.node:
            for attribute in node.attribute:
                inner = [attribute.t] if attribute.HasField("t") else []
                for tensor in (*inner, *attribute.tensors):
                    yield tensor.name or (node.output[0] if node.output else node.name), tensor


def _parse(vetted: Vetted) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(vetted.content)
    except DecodeError as error:
        raise RefusedModel(
            vetted.inspection.path,
            "malformed",
            f"protobuf cannot read it: {error}",
            way_out="write the file again with its own exporter",
        ) from error
    return proto


def _inline_external(
    vetted: Vetted, proto: onnx.ModelProto, files: ExternalFiles
) -> tuple[str, int]:
    """Move external bytes into the model; the digest and the number of bytes read."""
    if not vetted.external:
        return f"sha256:{vetted.sha256}", 0
    contents = files.read_all()
    sources = {(part.name, part.location, part.offset): part for part in vetted.external}
    for _, tensor in iterate_tensors(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries["location"]
        source = sources[tensor.name, location, int(entries.get("offset", "0"))]
        tensor.raw_data = slice_tensor(vetted.inspection.path, source, contents[location])
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    digest = combine_digests(
        vetted.sha256,
        {location: hashlib.sha256(data).hexdigest() for location, data in contents.items()},
    )
    return digest, sum(len(content) for content in contents.values())


def _check(path: Path, proto: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        first = " ".join(str(error).split())[:300]
        raise RefusedModel(
            path, "invalid-graph", first, way_out="export the model again and run onnx.checker"
        ) from error


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    if not value.type.HasField("tensor_type"):
        return TensorSpec(value.name, (), "")
    kind = value.type.tensor_type
    shape = tuple(
        axis.dim_value if axis.HasField("dim_value") and axis.dim_value > 0 else None
        for axis in kind.shape.dim
    )
    return TensorSpec(value.name, shape, _dtype_name(kind.elem_type))


def _dtype_name(element_type: int) -> str:
    if element_type == onnx.TensorProto.STRING:
        return "object"
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(element_type))
    except KeyError:
        return ""


def _find_nonfinite(name: str, tensor: onnx.TensorProto) -> NonFinite | None:
    if onnx.TensorProto.DataType.Name(tensor.data_type) not in _FLOAT_KINDS:
        return None
    values = numpy_helper.to_array(tensor).astype(np.float64).ravel()
    wrong = np.flatnonzero(~np.isfinite(values))
    if not wrong.size:
        return None
    kinds = [
        kind
        for kind, present in (
            ("nan", np.isnan(values[wrong]).any()),
            ("inf", np.isposinf(values[wrong]).any()),
            ("-inf", np.isneginf(values[wrong]).any()),
        )
        if present
    ]
    shown = tuple(int(index) for index in wrong[:_SHOWN_INDICES])
    return NonFinite(name, shown, int(wrong.size), tuple(kinds))
