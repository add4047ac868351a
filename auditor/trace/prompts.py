"""Reading prompts with their categories from CSV or JSON lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from auditor.errors import ConfigurationError, InvalidText, NothingToAudit
from auditor.files import read_text_file
from auditor.json_lines import read_json_lines
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
    text = read_text_file(path, "prompts", MAX_BYTES)
    rows = _json_rows(path) if path.suffix.lower() == ".jsonl" else _csv_rows(text, path)
    found = []
    for line, fields in rows:
        column = _column(fields, text_column, TEXT_COLUMNS, path)
        if column is None:
            raise ConfigurationError(
                f"{path}:{line}: no column with prompts among {_names(fields)}; name it with "
                "--prompt-column"
            )
        category = _column(fields, category_column, CATEGORY_COLUMNS, path)
        content = fields[column].strip()
        if len(content) > MAX_FIELD:
            raise InvalidText(f"{path}:{line}", f"a prompt of more than {MAX_FIELD} characters")
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
            raise ConfigurationError(f"{path} has no column '{wanted}'; it has {_names(fields)}")
        return wanted
    lower = {name.lower(): name for name in fields}
    return next((lower[name] for name in usual if name in lower), None)


def _names(fields: dict[str, str]) -> str:
    """The names of columns on one line, the first ones of many."""
    shown = ", ".join(name[:40].encode("unicode_escape").decode() for name in list(fields)[:20])
    return f"{shown} and {len(fields) - 20} more" if len(fields) > 20 else shown


def _csv_rows(text: str, path: Path) -> list[tuple[int, dict[str, str]]]:
    before = csv.field_size_limit(MAX_FIELD)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    found = []
    try:
        head = list(reader.fieldnames or ())
        for name in head:
            if head.count(name) > 1:
                raise InvalidText(f"{path}:1", f"two columns are called {name[:40]!r}; rename one")
        for fields in reader:
            if None in fields or None in fields.values():
                raise InvalidText(
                    f"{path}:{reader.line_num}", "another number of fields than the head has"
                )
            found.append((reader.line_num, fields))
    except csv.Error as error:
        # The line that the inner reader is at; the outer one still counts the row before.
        raise InvalidText(f"{path}:{reader.reader.line_num}", f"no CSV: {error}") from None
    finally:
        csv.field_size_limit(before)
    return found


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    for line in read_json_lines(path, "prompts"):
        yield line.number, {
            key: "" if value is None else str(value) for key, value in line.fields.items()
            if not isinstance(value, dict | list)
        }  # fmt: skip
