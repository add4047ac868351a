"""Reading prompts with their categories from CSV or JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from auditor.errors import ConfigurationError, FileMissing, InvalidText, NothingToAudit
from auditor.trace.drift import Prompt

MAX_BYTES: Final = 64_000_000
MAX_FIELD: Final = 1_000_000
TEXT_COLUMNS: Final = ("prompt", "text", "behavior", "goal", "question")
CATEGORY_COLUMNS: Final = ("category", "semanticcategory", "type", "label")


def read_prompts(
    path: Path, *, text_column: str | None = None, category_column: str | None = None
) -> list[Prompt]:
    """The prompts of a CSV file (with a head) or of JSON lines, in order.

    Args:
        path: The file; `.jsonl` is read as JSON lines, all else as CSV.
        text_column: Column of the prompt; the first of `TEXT_COLUMNS` there is, if None.
        category_column: Column of the category; likewise, or none at all.

    Raises:
        FileMissing: There is no such file.
        InvalidText: It is no such file; names the line.
        ConfigurationError: There is no such column.
        NothingToAudit: It holds no prompt.
    """
    if not path.is_file():
        raise FileMissing(path, "prompts")
    if path.stat().st_size > MAX_BYTES:
        raise InvalidText(str(path), f"larger than {MAX_BYTES} bytes; split the prompts")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidText(str(path), f"not UTF-8 text at byte {error.start}") from None
    rows = _json_rows(text, path) if path.suffix == ".jsonl" else _csv_rows(text, path)
    found = []
    for line, fields in rows:
        column = _column(fields, text_column, TEXT_COLUMNS, path)
        if column is None:
            raise ConfigurationError(
                f"{path}:{line}: no column with prompts among {', '.join(fields)}; name it with "
                "--prompt-column"
            )
        category = _column(fields, category_column, CATEGORY_COLUMNS, path)
        content = fields[column].strip()
        if content:
            group = fields.get("group") or f"line {line}"
            found.append(Prompt(content, fields[category] if category else "", group))
    if not found:
        raise NothingToAudit(f"{path} holds no prompt")
    return found


def _column(
    fields: dict[str, str], wanted: str | None, usual: tuple[str, ...], path: Path
) -> str | None:
    if wanted is not None:
        if wanted not in fields:
            raise ConfigurationError(f"{path} has no column '{wanted}'; it has {', '.join(fields)}")
        return wanted
    lower = {name.lower(): name for name in fields}
    return next((lower[name] for name in usual if name in lower), None)


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    csv.field_size_limit(MAX_FIELD)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for fields in reader:
            if None in fields or None in fields.values():
                raise InvalidText(
                    f"{path}:{reader.line_num}", "another number of fields than the head has"
                )
            yield reader.line_num, fields
    except csv.Error as error:
        raise InvalidText(f"{path}:{reader.line_num}", f"no CSV: {error}") from None


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            fields: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidText(f"{path}:{number}", f"not a JSON object ({error})") from None
        if not isinstance(fields, dict):
            raise InvalidText(f"{path}:{number}", "not a JSON object")
        yield number, {str(key): str(value) for key, value in fields.items()}
