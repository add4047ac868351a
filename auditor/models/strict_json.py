"""JSON of a model's folder, read more strictly than the libraries that will read it again.

A key that stands twice is refused, because readers differ in which one they take; so are
NaN and infinity, which are not JSON, and nesting that could exhaust a reader's stack.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from auditor.bounded_json import UnreadableJson, parse_json
from auditor.errors import RefusedModel
from auditor.models.limits import FolderLimits

_WAY_OUT: Final = "save the model again with save_pretrained"


def read_object(path: Path, place: str, content: bytes, limits: FolderLimits) -> dict[str, Any]:
    """The JSON object in a text; arguments and errors are those of `read_json`.

    Raises:
        RefusedModel: It is not an object, besides.
    """
    value = read_json(path, place, content, limits)
    if not isinstance(value, dict):
        raise RefusedModel(path, "malformed", "not a JSON object", place=place, way_out=_WAY_OUT)
    return value


def read_json(path: Path, place: str, content: bytes, limits: FolderLimits) -> Any:
    """The JSON value in a text.

    Args:
        path: The model, for messages.
        place: The file in it, for messages.
        content: The text; its length has been limited.
        limits: How many values and how deep.

    Raises:
        RefusedModel: It is not UTF-8, not JSON, has a key twice, or asks for more than the
            limits allow.
    """

    def refuse(rule: str, problem: str) -> RefusedModel:
        return RefusedModel(path, rule, problem, place=place, way_out=_WAY_OUT)

    try:
        value = parse_json(content, most_values=limits.json_values, constants=False)
    except UnreadableJson as error:
        raise refuse(error.rule, f"JSON that is not read: {error}") from None
    if _is_deeper(value, limits.json_depth):
        raise refuse("nesting-limit", f"JSON nested deeper than {limits.json_depth}")
    return value


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether entries are nested deeper; level by level, because headers of weights are long."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(depth):
        level = [
            child
            for inner in level
            for child in (inner.values() if isinstance(inner, dict) else inner)
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return any(level)


def walk_keys(value: dict[str, Any] | list[Any]) -> Iterator[tuple[int, str, Any]]:
    """Depth, key and value of every entry at any depth; entries of lists have an empty key."""
    waiting: list[tuple[int, Any]] = [(1, value)]
    while waiting:
        depth, inner = waiting.pop()
        entries = inner.items() if isinstance(inner, dict) else (("", each) for each in inner)
        for key, child in entries:
            yield depth, key, child
            if isinstance(child, dict | list):
                waiting.append((depth + 1, child))
