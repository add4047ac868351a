"""Records as plain JSON: sorted keys, ASCII only, and no NaN or Infinity literals.

Non-finite numbers are the strings "NaN", "Infinity" and "-Infinity", which reading a record
turns back into numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quote
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from pydantic import ValidationError

from auditor.errors import FileMissing, InvalidText, Place
from auditor.findings import Record

R = TypeVar("R", bound=Record)
MAX_VALUES: Final = 20_000_000


def plain_json(record: Record) -> bytes:
    """The record as JSON text with a newline at its end."""
    return (_text(record.model_dump(mode="json"), 0) + "\n").encode("ascii")


def plain_json_parts(record: Record) -> Iterator[bytes]:
    """The bytes of `plain_json` in turn; of a long list of records one at a time is held.

    For records whose fields are written as they are: neither this one nor one directly below it
    has a serialiser of its own.
    """
    yield from (part.encode("ascii") for part in _record_parts(record, 0))
    yield b"\n"


def _record_parts(record: Record, depth: int) -> Iterator[str]:
    start, inner = "{", "\n" + " " * (depth + 1)
    for name in sorted(type(record).model_fields):
        yield f'{start}{inner}"{name}": '
        value = getattr(record, name)
        if isinstance(value, tuple) and value and isinstance(value[0], Record):
            for number, each in enumerate(value):
                yield f"{',' if number else '['}{inner} "
                yield _text(each.model_dump(mode="json"), depth + 2)
            yield f"{inner}]"
        elif isinstance(value, Record):
            yield from _record_parts(value, depth + 1)
        else:
            yield _text(record.model_dump(mode="json", include={name})[name], depth + 1)
        start = ","
    yield f"{inner[:-1]}}}"


def _text(value: Any, depth: int) -> str:
    """The value as `json.dumps` writes it with an indent of 1, this deep inside.

    Its fast encoder knows no indentation: it gets what holds no list or mapping, with
    separators that start a line.
    """
    if type(value) is str:
        return quote(value)
    if not value or not isinstance(value, dict | list):
        return _encode(value, depth)
    outer, inner = "\n" + " " * depth, "\n" + " " * (depth + 1)
    if {dict, list}.isdisjoint(map(type, value.values() if isinstance(value, dict) else value)):
        text = _encode(value, depth + 1)
        return f"{text[0]}{inner}{text[1:-1]}{outer}{text[-1]}"
    if isinstance(value, dict):
        parts = [f"{quote(key)}: {_text(value[key], depth + 1)}" for key in sorted(value)]
        return f"{{{inner}{f',{inner}'.join(parts)}{outer}}}"
    return f"[{inner}{f',{inner}'.join(_text(each, depth + 1) for each in value)}{outer}]"


def _encode(value: Any, depth: int) -> str:
    encoder = _encoder(depth)
    try:
        return encoder.encode(value)
    except ValueError:  # a number that is not finite
        return encoder.encode(_spell_non_finite(value))


@lru_cache
def _encoder(depth: int) -> json.JSONEncoder:
    return json.JSONEncoder(sort_keys=True, allow_nan=False, separators=(",\n" + " " * depth, ": "))


def read_json(path: Path, role: str, most_bytes: int) -> Any:
    """What a JSON file holds.

    Args:
        path: The file.
        role: What it is, for messages.
        most_bytes: A larger one is not read.

    Raises:
        FileMissing: There is no such file.
        InvalidText: It is too large, not JSON, or cannot be read.
    """
    if not path.is_file():
        raise FileMissing(path, role)
    size = path.stat().st_size
    if size > most_bytes:
        raise InvalidText(str(path), f"{size:,} bytes; a report has at most {most_bytes:,}")
    return _parse(path)


def fit_record(record: type[R], data: Any, path: Path) -> R:
    """The data as a record of this type.

    Raises:
        InvalidText: It does not fit; the message names the first place that does not.
    """
    try:
        return record.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        more = error.error_count() - 1
        rest = f" (and {more} more problems)" if more else ""
        raise InvalidText(str(path), f"at {where}: {first['msg']}{rest}") from None


def _parse(path: Path) -> Any:
    try:
        content = path.read_bytes()
        # Two bytes of JSON may become an object of a hundred.
        if sum(content.count(sign) for sign in (b"{", b"[", b",")) > MAX_VALUES:
            raise InvalidText(str(path), f"more than {MAX_VALUES:,} values; a report has fewer")
        return json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InvalidText(
            Place(str(path), error.lineno, error.colno), f"not valid JSON: {error.msg}"
        ) from None
    except UnicodeDecodeError as error:
        raise InvalidText(str(path), f"not UTF-8 at byte {error.start}") from None
    except ValueError:
        raise InvalidText(str(path), "a number has more digits than anyone needs") from None
    except OSError as error:
        raise InvalidText(str(path), f"cannot be read: {error.strerror}") from None
    except RecursionError:
        raise InvalidText(str(path), "nested too deeply for a report") from None
    except _Constant as error:
        raise InvalidText(
            str(path), f'{error} is not valid JSON; write it as the string "{error}"'
        ) from None


class _Constant(Exception):
    """A NaN or Infinity literal was met."""


def _refuse_constant(text: str) -> NoReturn:
    raise _Constant(text)


def _spell_non_finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _spell_non_finite(item) for key, item in value.items()}
        case list():
            return [_spell_non_finite(item) for item in value]
        case float() if math.isnan(value):
            return "NaN"
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case _:
            return value
