"""JSON lines that a stranger may have written: one object on each line, bounded, named by line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from auditor.bounded_json import UnreadableJson, parse_json
from auditor.errors import FileMissing, InvalidText

MAX_LINE: Final = 16_000_000
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class JsonLine(NamedTuple):
    """One object.

    Attributes:
        place: File and line, for messages.
        number: The line, from 1.
        fields: What the object holds.
    """

    place: str
    number: int
    fields: dict[str, Any]

    def text(self, name: str) -> str:
        """A field that has to be a string.

        Raises:
            InvalidText: It is missing or something else.
        """
        found = self.fields.get(name)
        if not isinstance(found, str):
            raise InvalidText(self.place, f"no field '{name}' with a string")
        return found


def read_json_lines(path: Path, role: str) -> Iterator[JsonLine]:
    """The objects of a file, in order; lines of white space count as lines and are left out.

    Lines end at line feeds alone: a JSON string may hold other line ends, such as U+2028.

    Args:
        path: The file.
        role: What it is, for the message where it is missing.

    Raises:
        FileMissing: There is no such file.
        InvalidText: A line is longer than `MAX_LINE` bytes, no object, a key twice, more
            than a million values, or a lone surrogate.
    """
    if not path.is_file():
        raise FileMissing(path, role)
    with path.open("rb") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE), b""), 1):
            place = f"{path}:{number}"
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                raise InvalidText(place, f"longer than {MAX_LINE} bytes; split it")
            inside = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
            if inside.strip():
                yield JsonLine(place, number, _object(inside, place))


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        fields: Any = parse_json(line)
    except UnreadableJson as error:
        raise InvalidText(place, f"not a JSON object on one line ({error})") from None
    if not isinstance(fields, dict):
        raise InvalidText(place, "not a JSON object on one line")
    for name, value in fields.items():
        for inside in (name, value):
            if isinstance(inside, str) and not inside.isascii() and _SURROGATE.search(inside):
                raise InvalidText(
                    place,
                    f"a lone surrogate in {name[:40]!r}, which is no character; write the one "
                    "that is meant",
                )
    return fields
