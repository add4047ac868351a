"""What the configuration of a Keras archive would run or import.

Keras builds layers from `config.json`; a Lambda layer holds marshalled code there, and any other
module is imported by name (CVE-2024-3660, CVE-2025-1550, CVE-2025-8747, CVE-2025-9905).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from auditor.errors import RefusedModel
from auditor.models.limits import FolderLimits
from auditor.models.scan.decision import Problem
from auditor.models.scan.problem_list import shown
from auditor.models.strict_json import read_object, walk_keys

_LAMBDAS: Final = frozenset({"Lambda", "__lambda__"})
_WAY_OUT: Final = "build the model without custom layers and export it to ONNX"


def keras_problems(content: bytes, limits: FolderLimits) -> list[Problem]:
    """One problem for each Lambda layer and each class from outside of Keras.

    Args:
        content: The text of `config.json`; its length has been limited.
        limits: Of JSON.
    """
    try:
        config = read_object(Path(), "", content, limits)
    except RefusedModel as refusal:
        return [Problem(refusal.rule, refusal.problem, "", "save the model again with Keras")]
    found: dict[str, None] = {}
    for entry in (config, *(child for _, _, child in walk_keys(config))):
        if isinstance(entry, dict):
            found.update(dict.fromkeys(_code_of(entry)))
    return [Problem("custom-code", problem, "", _WAY_OUT) for problem in found]


def _code_of(entry: dict[str, Any]) -> Iterator[str]:
    """What one description of an object would run, in words."""
    name = entry.get("class_name")
    if isinstance(name, str) and name.rpartition(">")[2] in _LAMBDAS:
        inner = entry.get("config")
        layer = inner.get("name") if isinstance(inner, dict) else None
        yield f"a {name.rpartition('>')[2]} layer {shown(str(layer or name))}, which is code"
    for key in ("module", "registered_name", "fn_module"):
        value = entry.get(key)
        if isinstance(value, str) and "class_name" in entry and not _is_of_keras(key, value):
            yield f"{key} {shown(value)} of {shown(str(name))} is not part of Keras"


def _is_of_keras(key: str, value: str) -> bool:
    if key == "registered_name":
        # Functions and classes of Keras itself have no package before a `>`.
        package, separator, _ = value.rpartition(">")
        return not separator or package == "keras"
    return value == "keras" or value.startswith("keras.")
