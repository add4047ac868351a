"""Rows of Parquet files as bytes, a few at a time.

The package takes long to import and has no types, hence the imports within.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from auditor.errors import InvalidText
from auditor.trace.parquet_pages import DamagedTable, largest_page

_MOST_ROWS: Final = 1024


def read_rows(
    path: Path, raw: IO[bytes], fields: Sequence[str], largest: int, buffer_bytes: int
) -> Iterator[tuple[bytes, ...]]:
    """The values of some columns row by row, as UTF-8 that may be invalid; null is empty.

    Args:
        path: The file's name for errors.
        raw: The file.
        fields: Columns. The first must be there and hold strings; others may be missing and are
            empty then, or hold numbers or times.
        largest: About how many bytes may be decoded at a time.
        buffer_bytes: How much of the file is read at a time.

    Raises:
        InvalidText: A column is missing, doubled, or of another type.
        DamagedTable: The file is damaged.
    """
    from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]

    try:
        table = parquet.ParquetFile(raw, buffer_size=buffer_bytes, page_checksum_verification=True)
        columns = _choose_columns(path, table.schema_arrow, fields)
        batches = table.iter_batches(
            batch_size=_rows_at_once(raw, table.schema, columns, largest),
            columns=columns,
            use_threads=False,
        )
        for batch in batches:
            yield from zip(*(_column_bytes(batch, name) for name in fields), strict=True)
    except (ArrowException, UnicodeDecodeError) as error:  # the latter of names in its footer
        raise DamagedTable(str(error)) from error


def _choose_columns(path: Path, schema: Any, fields: Sequence[str]) -> list[str]:
    names, wanted = schema.names, fields[0]
    columns = list(dict.fromkeys([wanted, *(name for name in fields[1:] if name in names)]))
    for name in columns:
        if names.count(name) != 1:
            raise InvalidText(
                str(path), f"no one column '{name}'; there are {names[:10]}; name one"
            )
        kind = schema.field(name).type
        if not _fits(kind, text=name == wanted):
            raise InvalidText(
                str(path), f"column '{name}' is of type {kind}; give strings, or name another"
            )
    return columns


def _fits(kind: Any, *, text: bool) -> bool:
    """Whether a column is of strings or null; for names, any type that has a short form."""
    from pyarrow import types

    value = kind.value_type if types.is_dictionary(kind) else kind
    strings = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    numbers = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
    accepted = strings if text else (*strings, *numbers, types.is_temporal)
    return any(accepts(value) for accepts in accepted)


def _rows_at_once(raw: IO[bytes], schema: Any, columns: Sequence[str], most: int) -> int:
    """Rows of a batch, so few that each may hold the largest value of the file.

    A dictionary keeps a value once and repeats it for a few bits a row: without this limit
    a small file would fill any memory.
    """
    numbers = {number for number in range(len(schema)) if schema.column(number).path in columns}
    return max(1, min(_MOST_ROWS, most // largest_page(raw, numbers)))


def _column_bytes(batch: Any, name: str) -> Iterator[bytes]:
    """One value a row, as UTF-8 that may be invalid; null and a missing column are empty."""
    import pyarrow as pa

    if name not in batch.schema.names:
        return itertools.repeat(b"", batch.num_rows)
    column = batch.column(name).cast(pa.large_string()).cast(pa.large_binary())
    return (value.as_py() or b"" for value in column)
