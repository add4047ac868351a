"""Reading prompts with their categories from CSV or JSON lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from auditor.errors import ConfigurationError, InvalidText, NothingToAudit
from auditor.files import read_text_file
from auditor.json_lines import read_json_lines

MAX_BYTES: Final = 64_000_000
MAX_FIELD: Final = 1_000_000
TEXT_COLUMNS: Final = ("prompt", "text", "behavior", "goal", "question")
CATEGORY_COLUMNS: Final = ("category", "semanticcategory", "type", "label")


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        text: What the models are asked.
        category: What it belongs to, for the table.
        group: Prompts that hang together, resampled as one.
        line: Where it stands in its file, from 1; 0 if in none.
    """

    text: str
    category: str = ""
    group: str = ""
    line: int = field(default=0, compare=False)

    @property
    def topic(self) -> str:
        """The group that its file names; nothing where the prompt stands alone."""
        return "" if self.group == f"line {self.line}" else self.group


@dataclass(frozen=True)
class Selection:
    """Which rows of a file that holds several sets are meant.

    Attributes:
        column: Tells the sets apart.
        wanted: Values of the rows that are read.
        others: Values of rows that are left out; any third value is an error.
    """

    column: str
    wanted: frozenset[str]
    others: frozenset[str]

    def takes(self, fields: dict[str, str], path: Path, line: int) -> bool:
        """Whether a row is meant.

        Raises:
            ConfigurationError: There is no such column.
            InvalidText: Its value is neither wanted nor known.
        """
        if self.column not in fields:
            raise ConfigurationError(
                f"{path} has no column '{self.column}'; it has {_names(fields)}"
            )
        value = fields[self.column].strip()
        if value not in self.wanted | self.others:
            known = ", ".join(sorted(self.wanted | self.others))
            raise InvalidText(
                f"{path}:{line}", f"'{self.column}' is {value[:40]!r}; known are {known}"
            )
        return value in self.wanted


def read_prompts(
    path: Path, *, text_column: str | None = None, category_column: str | None = None,
    selection: Selection | None = None,
) -> list[Prompt]:  # fmt: skip
    """The prompts of a CSV file (with a head) or of JSON lines, in order.

    Args:
        path: The file; `.jsonl` is read as JSON lines, all else as CSV.
        text_column: Column of the prompt; the first of `TEXT_COLUMNS` there is, if None.
        category_column: Column of the category; likewise, or none at all.
        selection: Of the rows, where a file holds several sets; all of them if None.

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
        if selection is not None and not selection.takes(fields, path, line):
            continue
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
            found.append(Prompt(content, fields[category] if category else "", group, line))
    if not found:
        which = ""
        if selection is not None:
            which = f" whose {selection.column} is {', '.join(sorted(selection.wanted))}"
        raise NothingToAudit(f"{path} holds no prompt{which}")
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
