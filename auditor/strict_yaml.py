"""YAML that a stranger may have written, read into a strict pydantic model.

Safe tags only; size, nesting and alias limits are checked while the text is parsed
and before anything is built; duplicate keys are errors; every problem is one line
with file, line and column. Merge keys and anchors are refused: plans, policies and
properties are short, and expansion is how small files become large.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, JsonValue, ValidationError

from auditor.errors import InvalidText, Place, did_you_mean

MAX_CHARACTERS = 4_000_000
MAX_DEPTH = 32
MAX_NODES = 400_000
MAX_NUMBER_CHARACTERS = 400
SHOWN_CHARACTERS = 80

M = TypeVar("M", bound=BaseModel)
Keys = tuple[str | int, ...]

_YAML_TAG = "tag:yaml.org,2002:"
_SCALAR_TYPES = ("str", "int", "float", "bool", "null", "timestamp")
_NUMBER_TYPES = ("int", "float")
# What the library's scanner and constructors raise on numbers and escapes beyond all ranges.
_UNREADABLE = (ValueError, OverflowError, KeyError, IndexError)


@dataclass(frozen=True)
class Document:
    """A parsed YAML text and where each of its parts stands.

    Attributes:
        value: Plain data: dict, list, str, int, float, bool, None.
        source: Name of the file, used in messages.
        places: Where the part under each path of keys stands.
    """

    value: JsonValue
    source: str
    places: Mapping[Keys, Place]

    def place(self, keys: Sequence[str | int]) -> Place:
        """Where the part under `keys` stands, or its nearest enclosing part."""
        path = tuple(keys)
        while path and path not in self.places:
            path = path[:-1]
        return self.places[path]


class _BoundedLoader(yaml.SafeLoader):
    """A safe loader that counts nodes and refuses aliases, anchors and merge keys."""

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self.source = source
        self.nodes = 0
        self.nesting = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        place = _place(self.source, event.start_mark)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InvalidText(place, "anchors and aliases are not allowed; write the value out")
        self.nodes += 1
        self.nesting += 1
        if self.nodes > MAX_NODES:
            raise InvalidText(place, f"more than {MAX_NODES} values; split the file")
        if self.nesting > MAX_DEPTH:
            raise InvalidText(place, f"nested deeper than {MAX_DEPTH} levels; flatten it")
        try:
            return super().compose_node(parent, index)
        finally:
            self.nesting -= 1


def _place(source: str, mark: yaml.Mark) -> Place:
    return Place(source, mark.line + 1, mark.column + 1)


def parse(text: str, source: str, *, numbers_as_text: bool = False) -> Document:
    """Parse a YAML text into plain data with positions.

    Args:
        text: The file's content.
        source: Its name, for messages.
        numbers_as_text: Keep every number as the text it was written as, so that
            decimals can be read exactly.

    Raises:
        InvalidText: Not YAML, a limit is passed, a duplicate key, an alias.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidText(source, f"longer than {MAX_CHARACTERS} characters; split the file")
    loader = None
    try:
        loader = _BoundedLoader(text, source)
        root = loader.get_single_node()
        places: dict[Keys, Place] = {(): Place(source, 1)}
        if root is None:
            return Document(None, source, places)
        value = _build(loader, root, (), places, numbers_as_text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = _place(source, mark) if mark else Place(source, 1)
        raise InvalidText(where, f"not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise InvalidText(source, f"not valid YAML: {' '.join(str(error).split())}") from None
    except _UNREADABLE as error:
        at = _place(source, loader.get_mark()) if loader else Place(source, 1)
        problem = f"a character or number that does not exist ({_shortened(str(error))})"
        raise InvalidText(at, f"not valid YAML: {problem}; write it out") from None
    finally:
        if loader is not None:
            loader.dispose()
    return Document(value, source, places)


def _build(
    loader: _BoundedLoader, node: yaml.Node, path: Keys, places: dict[Keys, Place], as_text: bool
) -> Any:
    place = places[path] = _place(loader.source, node.start_mark)
    kind = node.tag.removeprefix(_YAML_TAG)
    if isinstance(node, yaml.SequenceNode) and kind == "seq":
        return [
            _build(loader, child, (*path, number), places, as_text)
            for number, child in enumerate(node.value)
        ]
    if isinstance(node, yaml.MappingNode) and kind == "map":
        return _build_mapping(loader, node, path, places, as_text)
    if not isinstance(node, yaml.ScalarNode) or kind not in _SCALAR_TYPES:
        shown = _shortened(str(node.tag))
        raise InvalidText(place, f"tag '{shown}' is not allowed; remove it")
    text = str(node.value)
    if kind == "timestamp" or (as_text and kind in _NUMBER_TYPES):
        return text
    if kind in _NUMBER_TYPES and len(text) > MAX_NUMBER_CHARACTERS:
        raise InvalidText(
            place, f"a number of {len(text)} characters; {MAX_NUMBER_CHARACTERS} are read, quote it"
        )
    try:
        return loader.construct_object(node)
    except _UNREADABLE:
        raise InvalidText(
            place, f"'{_shortened(text)}' is no {kind}; mend it, or quote it"
        ) from None


def _build_mapping(
    loader: _BoundedLoader,
    node: yaml.MappingNode,
    path: Keys,
    places: dict[Keys, Place],
    as_text: bool,
) -> dict[str, Any]:
    built: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
        place = _place(loader.source, key_node.start_mark)
        if key is None:
            raise InvalidText(place, "a key must be a plain word")
        if key_node.tag == _YAML_TAG + "merge":
            raise InvalidText(place, "merge keys are not allowed; write the values out")
        if key in built:
            raise InvalidText(place, f"key '{_shortened(key)}' stands twice; keep one")
        built[key] = _build(loader, value_node, (*path, key), places, as_text)
        places[(*path, key)] = place
    return built


def _shortened(text: str) -> str:
    """A text of the file for a message."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 3]}..."


def validate(document: Document, model: type[M], keys: Keys = ()) -> M:
    """Check the part of a document under `keys` against a pydantic model.

    Raises:
        InvalidText: The first problem, with its place and, for an unknown key, the
            nearest known one.
    """
    value: Any = document.value
    for key in keys:
        value = value[key]
    if not isinstance(value, dict):
        kind = "empty" if value is None else f"a {type(value).__name__}"
        raise InvalidText(document.place(keys), f"expected keys and values, found {kind}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _first_problem(document, model, keys, error) from None


def load_strict(text: str, source: str, model: type[M], *, numbers_as_text: bool = False) -> M:
    """`parse` and `validate` in one step."""
    return validate(parse(text, source, numbers_as_text=numbers_as_text), model)


def _first_problem(
    document: Document, model: type[BaseModel], keys: Keys, error: ValidationError
) -> InvalidText:
    problems = error.errors(include_url=False)
    # An unknown key is the likeliest slip and often causes the others (a field is "missing").
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    location = tuple(problem["loc"])
    place = document.place((*keys, *_existing(document, keys, location)))
    shown = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        known = sorted(_known_keys(model, location[:-1]))
        key = _shortened(str(location[-1]))
        hint = did_you_mean(key, known) or (f"; known keys: {', '.join(known)}" if known else "")
        return InvalidText(place, f"unknown key '{key}'{hint}")
    if problem["type"] == "missing":
        return InvalidText(place, f"key '{shown}' is missing")
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    if isinstance(given, str):
        given = _shortened(given)
    value = f" (found {given!r})" if isinstance(given, str | int | float | bool) else ""
    return InvalidText(place, f"{shown}: {message}{value}" if shown else f"{message}{value}")


def _existing(document: Document, keys: Keys, location: Keys) -> Iterator[str | int]:
    """The parts of a pydantic location that are keys of the document (not union tags)."""
    value: Any = document.value
    for key in keys:
        value = value[key]
    for part in location:
        in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if not (in_list or (isinstance(value, dict) and part in value)):
            continue
        value = value[part]
        yield part


def _known_keys(model: type[BaseModel], location: Keys) -> set[str]:
    """Field names (and aliases) of the model that `location` leads to."""
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        fields = getattr(current, "model_fields", {})
        field = fields.get(part) or next((f for f in fields.values() if f.alias == part), None)
        if field is None:
            continue
        current = next(iter(_models_in(field.annotation)), None)
    fields = getattr(current, "model_fields", {})
    return {field.alias or name for name, field in fields.items()}


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Pydantic models that appear in a type annotation, outermost first."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)
