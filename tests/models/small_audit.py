"""The smallest audit that asks a formal question: |x| is never negative."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.models.tiny import absolute_value

PROPERTY: Final = """\
version: 1
id: not-negative
inputs:
  box: {lower: [-1], upper: [1]}
then:
  - at_least: {output: 0, value: 0}
"""
PLAN: Final = """\
version: 1
name: small
subjects:
  - path: model.onnx
checks:
  - check: AUD101
  - check: AUD201
    params: {property: property.yaml}
"""


def write_small_audit(folder: Path) -> Path:
    """The folder, with a model, a property and a plan."""
    (folder / "model.onnx").write_bytes(absolute_value().SerializeToString())
    (folder / "property.yaml").write_text(PROPERTY)
    (folder / "plan.yaml").write_text(PLAN)
    return folder
