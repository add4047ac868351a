"""Seeds: model files, what lies beside them, and arrays of numbers."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

SEED: Final = 5

Files = dict[str, bytes]


def model_seeds(folder: Path) -> dict[str, Files]:
    """Model files and what lies beside them."""
    import safetensors.numpy
    from onnx import TensorProto, helper

    from tests.models.onnx_networks import dense_network
    from tests.models.tiny import absolute_value

    tiny = absolute_value().SerializeToString()
    dense = dense_network([2, 3, 2], SEED)
    outside = dense_network([2, 3, 2], SEED)
    tensor = outside.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "24")):
        tensor.external_data.add(key=key, value=value)
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value_floats=[1.0])], "inner", [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    dense.graph.node.append(
        helper.make_node("If", ["y"], ["i"], then_branch=branch, else_branch=branch)
    )
    onnx = {"tiny": tiny, "branch": dense.SerializeToString(),
            "outside": outside.SerializeToString()}  # fmt: skip
    weights = safetensors.numpy.save(
        {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(0, np.int64),
         "c.d": np.array(True)}, metadata={"format": "pt"},
    )  # fmt: skip
    config = {"model_type": "llama", "hidden_size": 8, "rope_scaling": {"factor": 2.5},
              "architectures": ["LlamaForCausalLM"], "attn_implementation": "eager"}  # fmt: skip
    index = {"metadata": {"total_size": 8},
             "weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}  # fmt: skip
    entries = b"12345\nlocation=weights.bin\noffset=4\nlength=20\nchecksum="
    return {
        "protobuf-wire": {"tiny": tiny, "packed": b"\x0a\x03\x01\x96\x01\x12\x00\x1d\0\0\0\0"},
        "onnx-walk": onnx,
        "preflight": onnx | {"gzip": gzip.compress(tiny, mtime=0)},
        "external-entries": {"flat": entries, "inner": b"1\nlocation=inner/more.bin\nlength=4",
                             "link": b"1\nlocation=link.bin", "hard": b"1\nlocation=hard.bin"},
        "safetensors": {"three": weights, "empty": struct.pack("<Q", 2) + b"{}"},
        "strict-json": {"config": json.dumps(config).encode(),
                        "odd": b'{"a": [1e400, -0, "\\ud800"]}'},
        "folder-config": {"config": json.dumps(config).encode()},
        "weight-index": {"index": json.dumps(index).encode()},
        "file-format": {
            "onnx": tiny[:64], "safetensors": weights[:64], "pickle": b"\x80\x04K\x01.",
            "old-pickle": b"ccollections\nOrderedDict\n)R.", "zip": b"PK\x03\x04data.pkl/code/",
            "gguf": b"GGUF\x03\0\0\0", "text": "née\n".encode(), "7z": b"7z\xbc\xaf\x27\x1c",
            "hdf5": b"\x89HDF\r\n\x1a\n", "tar": bytes(257) + b"ustar\x0000",
        },
    }  # fmt: skip


def number_seeds(folder: Path) -> dict[str, Files]:
    """Arrays."""
    samples = np.arange(8, dtype=np.float32).reshape(2, 4)
    labels = np.array([0, 2])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in (("inputs", samples), ("labels", labels)):
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), _npy(array))
    both = {"npz": packed.getvalue()}
    idx = struct.pack(">HBBII", 0, 8, 2, 2, 3) + bytes(range(6))
    return {
        "numpy-file": both | {"npy": _npy(samples), "fortran": _npy(np.asfortranarray(samples)),
                              "objects": _npy(np.array([None], dtype=object))},
        "labelled-numbers": both,
        "idx-file": {"plain": idx, "gzip": gzip.compress(idx, mtime=0)},
    }  # fmt: skip


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    written = io.BytesIO()
    np.save(written, array, allow_pickle=array.dtype.hasobject)
    return written.getvalue()
