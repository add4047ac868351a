"""Records as plain JSON: sorted keys, ASCII only, and no NaN or Infinity literals.

Non-finite numbers are the strings "NaN", "Infinity" and "-Infinity", which reading a record
turns back into numbers.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import ValidationError

from auditor.errors import FileMissing, InvalidText, Place
from auditor.findings import Record

R = TypeVar("R", bound=Record)


def plain_json(record: Record) -> bytes:
    """The record as JSON text with a newline at its end."""
    plain = _spell_non_finite(record.model_dump(mode="json"))
    return (json.dumps(plain, sort_keys=True, indent=1, allow_nan=False) + "\n").encode("ascii")


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
        return json.loads(path.read_text("utf-8"), parse_constant=_refuse_constant)
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
