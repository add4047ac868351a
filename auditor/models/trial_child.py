"""What the guarded child of `auditor.models.trial` does with an ONNX model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError, EncodeError

from auditor.errors import UnsupportedModel
from auditor.guarded.stages import StageLog, StageRejected
from auditor.models.onnx_model import OnnxModel
from auditor.models.session import Session


def load_model(log: StageLog, arguments: dict[str, Any], content: bytes) -> None:
    """Run every stage on the bytes of a model; `arguments` are none.

    Raises:
        StageRejected: The checker, shape inference or onnxruntime refuses the model.
        MemoryError: It asks for more than the child may have.
    """
    ort.set_default_logger_severity(4)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
        _run_stages(log, proto, len(content))
    except (DecodeError, EncodeError) as error:
        # The parent has written these bytes by the same library: only memory can be missing.
        raise MemoryError from error


def _run_stages(log: StageLog, proto: onnx.ModelProto, size: int) -> None:
    # Not from_proto: the checker has to run inside its stage.
    model = OnnxModel(Path("<memory>"), "", size, "onnx", proto)
    stages: list[tuple[str, Callable[[], object]]] = [
        ("checker and shape inference", lambda: onnx.checker.check_model(proto, full_check=True)),
        ("onnxruntime, not optimised", lambda: Session.create(model, optimised=False)),
        ("onnxruntime, optimised", lambda: Session.create(model, optimised=True)),
    ]
    for name, stage in stages:
        log.begin(name)
        try:
            stage()
        except (
            onnx.checker.ValidationError,
            onnx.shape_inference.InferenceError,
            UnsupportedModel,
            ValueError,
        ) as error:
            raise StageRejected(str(error)) from error
