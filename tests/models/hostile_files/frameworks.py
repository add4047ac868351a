"""Keras, TensorFlow, NeMo and skops: formats that may name code, refused by type."""

from __future__ import annotations

import base64
import gzip
import json
import marshal
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.models.hostile_files.case import HostileCase, file, files, refused
from tests.models.hostile_files.payload import line, touching
from tests.models.hostile_files.torch_archives import saved
from tests.models.packed import tarred, zipped

KERAS = "keras-archive keras hdf5 custom-code"
HDF5 = "hdf5 not-onnx not-a-model custom-code keras-archive"
SKOPS = "skops-archive custom-code pickle-content pickle-import"
NEMO = "custom-code config-reference nemo-archive pickle-content container"
_HDF5_START = b"\x89HDF\r\n\x1a\n"


def _hdf5(content: bytes = b"") -> bytes:
    """The superblock's signature and something behind it."""
    return _HDF5_START + bytes(88) + content.ljust(512, b"\0")


def _keras(layer: Mapping[str, Any], **more: bytes) -> bytes:
    config = {"class_name": "Sequential", "module": "keras", "config": {"layers": [layer]}}
    return zipped({
        "metadata.json": json.dumps({"keras_version": "3.9.0"}).encode(),
        "config.json": json.dumps(config).encode(),
        "model.weights.h5": _hdf5(), **more,
    })  # fmt: skip


def _lambda_layer(marker: Path) -> dict[str, Any]:
    code = base64.b64encode(marshal.dumps(compile(line(marker), "layer", "exec"))).decode()
    function = {"class_name": "__lambda__", "config": {"code": code, "defaults": None}}
    return {"module": "keras.layers", "class_name": "Lambda", "config": {"function": function}}


def _keras_lambda(marker: Path) -> bytes:
    return _keras(_lambda_layer(marker))


def _keras_module(marker: Path) -> bytes:
    """Any function of any module, by its name in the configuration."""
    call = {"module": "os", "class_name": "function", "config": "system",
            "registered_name": "system"}  # fmt: skip
    config = {"name": "a", "function": call, "arguments": {"command": f"touch '{marker}'"}}
    return _keras({"module": "keras.layers", "class_name": "Lambda", "config": config})


def _keras_gadget(marker: Path) -> bytes:
    """A function of Keras itself that fetches or writes a file."""
    call = {"module": "keras.utils", "class_name": "function", "config": "get_file"}
    config = {"function": call, "arguments": {"fname": str(marker), "origin": "file:///dev/null"}}
    return _keras({"module": "keras.layers", "class_name": "Lambda", "config": config})


def _keras_unlocked(marker: Path) -> bytes:
    """First a call that switches safe mode off, then the code."""
    call = {"module": "keras.config", "class_name": "function",
            "config": "enable_unsafe_deserialization"}  # fmt: skip
    config = {"function": call, "then": _lambda_layer(marker)}
    return _keras({"module": "keras.layers", "class_name": "Lambda", "config": config})


def _keras_torch(marker: Path) -> bytes:
    """A wrapped torch module, which is a pickle in base64."""
    module = base64.b64encode(saved(touching(marker, 2))).decode()
    return _keras({"module": "keras.layers", "class_name": "TorchModuleWrapper",
                   "config": {"module": module}})  # fmt: skip


def _keras_plain(marker: Path) -> bytes:
    return _keras({"module": "keras.layers", "class_name": "Dense", "config": {"units": 2}})


def _keras_h5(marker: Path) -> bytes:
    """The older format: the same layer in an attribute of the file."""
    config = {"class_name": "Sequential", "config": {"layers": [_lambda_layer(marker)]}}
    return _hdf5(b"model_config\0" + json.dumps(config).encode())


def _saved_model(marker: Path) -> bytes:
    """SavedModel: version 1, then a graph with an operator that writes a file."""
    names = b"".join(b"\x0a" + bytes([len(n)]) + n for n in (b"WriteFile", str(marker).encode()))
    graph = b"\x12" + bytes([len(names)]) + names
    return b"\x08\x01\x12" + bytes([len(graph)]) + graph


def _nemo_config(marker: Path) -> bytes:
    return f"model:\n  encoder:\n    _target_: os.system\n    command: touch {marker}\n".encode()


def _nemo(marker: Path) -> bytes:
    """Only the configuration is hostile."""
    return tarred({"./model_config.yaml": _nemo_config(marker)})


def _nemo_weights(marker: Path) -> bytes:
    """A sound configuration and a pickle of weights, compressed as NeMo writes it."""
    members = {"model_config.yaml": b"model:\n  layers: 2\n",
               "model_weights.ckpt": saved(touching(marker, 2))}  # fmt: skip
    return gzip.compress(tarred(members))


def _skops(schema: Mapping[str, Any]) -> bytes:
    return zipped({"schema.json": json.dumps(schema).encode()}, zipfile.ZIP_DEFLATED)


def _skops_operator(marker: Path) -> bytes:
    """An operator function whose name hides the one that is called."""
    return _skops({
        "__class__": "methodcaller", "__module__": "operator", "__loader__": "OperatorFuncNode",
        "attrs": {"__class__": "tuple", "content": ["system", f"touch '{marker}'"]},
        "protocol": 1, "_skops_version": "0.11.0",
    })  # fmt: skip


def _skops_method(marker: Path) -> bytes:
    """A method whose object is of another class than the schema says."""
    return _skops({
        "__class__": "system", "__module__": "builtins", "__loader__": "MethodNode",
        "content": {"func": "system", "obj": {"__class__": "os", "__module__": "os"}},
        "protocol": 1, "_skops_version": "0.11.0",
    })  # fmt: skip


CASES: tuple[HostileCase, ...] = (
    refused("keras-lambda", "CVE-2024-3660", file("m.keras", _keras_lambda), KERAS),
    refused("keras-function-of-any-module", "CVE-2025-1550", file("m.keras", _keras_module),
            KERAS),
    refused("keras-function-of-its-own", "CVE-2025-8747", file("m.keras", _keras_gadget), KERAS),
    refused("keras-switches-its-guard-off", "CVE-2025-9906", file("m.keras", _keras_unlocked),
            KERAS),
    refused("keras-wraps-a-torch-module", "CVE-2025-49655", file("m.keras", _keras_torch), KERAS),
    refused("keras-without-a-lambda", "refused by type", file("m.zip", _keras_plain), KERAS),
    refused("keras-h5", "CVE-2025-9905, CVE-2024-3660", file("m.h5", _keras_h5), HDF5),
    refused("saved-model", "TensorFlow SavedModel", files([
        ("saved_model.pb", _saved_model), ("variables/variables.index", lambda m: bytes(8)),
        ("assets/vocab.txt", lambda m: b"a\n")]),
        "tensorflow-graph saved-model custom-code not-a-model unknown-field invalid-text "
        "control-character malformed truncated", "saved_model.pb"),
    refused("nemo-target", "CVE-2025-23304", file("m.nemo", _nemo), NEMO, "model_config.yaml"),
    refused("nemo-pickle", "CVE-2025-23304", file("m.nemo", _nemo_weights), NEMO),
    refused("skops-operator", "CVE-2025-54412", file("m.skops", _skops_operator), SKOPS),
    refused("skops-method", "CVE-2025-54413", file("m.skops", _skops_method), SKOPS),
    refused("skops-that-is-a-joblib-pickle", "CVE-2025-54886", file("m.skops", touching), SKOPS),
)  # fmt: skip
