"""The child process of `auditor.models.trial`: reads a model from standard input.

It writes one JSON line before each stage, so that the parent knows which stage a
crash belongs to, and a line `done` at the end. Called as
`python -m auditor.models.trial_child <memory bytes> <cpu seconds>`.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import onnx
import onnxruntime as ort

from auditor.errors import UnsupportedModel
from auditor.models.onnx_model import OnnxModel
from auditor.models.session import Session


def main(arguments: list[str], content: bytes, output: TextIO) -> int:
    """Run every stage; 0 also when a stage rejects the model in an orderly way."""
    limit_resources(int(arguments[0]), int(arguments[1]))
    proto = onnx.ModelProto()
    proto.ParseFromString(content)
    # Not from_proto: the checker has to run inside its stage.
    model = OnnxModel(Path("<memory>"), "", len(content), "onnx", proto)
    stages: list[tuple[str, Callable[[], object]]] = [
        ("checker and shape inference", lambda: onnx.checker.check_model(proto, full_check=True)),
        ("onnxruntime, not optimised", lambda: Session.create(model, optimised=False)),
        ("onnxruntime, optimised", lambda: Session.create(model, optimised=True)),
    ]
    for name, stage in stages:
        _say(output, stage=name)
        try:
            stage()
        except (
            onnx.checker.ValidationError,
            onnx.shape_inference.InferenceError,
            UnsupportedModel,
            ValueError,
        ) as error:
            _say(output, stage=name, rejected=" ".join(str(error).split())[:300])
            return 0
    _say(output, stage="done")
    return 0


def limit_resources(memory_bytes: int, seconds: int) -> None:
    """Bound the address space and the processor time where the system can."""
    ort.set_default_logger_severity(4)
    with contextlib.suppress(ImportError):
        import resource  # not on Windows

        with contextlib.suppress(ValueError, OSError):  # a lower hard limit is in force already
            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _say(output: TextIO, **record: str) -> None:
    output.write(json.dumps(record) + "\n")
    output.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin.buffer.read(), sys.stdout))
