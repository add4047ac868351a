"""Parquet files of strangers: a footer is no promise, and memory follows the pages."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from auditor.errors import InvalidText
from auditor.trace import corpus, parquet_pages
from auditor.trace.corpus import CHUNK_BYTES, CorpusFile, CorpusOptions, read_documents
from auditor.trace.parquet_pages import DamagedTable, largest_page

OPTIONS = CorpusOptions()
PLAIN: dict[str, object] = {
    "compression": "none", "store_schema": False, "write_statistics": False,
}  # fmt: skip


def written(path: Path, table: pa.Table, **options: object) -> Path:
    """The file of a table."""
    parquet.write_table(table, path, **{**PLAIN, **options})
    return path


def varint(number: int, width: int = 0) -> bytes:
    """A whole number as Thrift writes it, with as many bytes as are wanted."""
    rest, parts = number << 1, list[int]()
    while rest or len(parts) < max(width, 1):
        parts.append(rest & 127)
        rest >>= 7
    return bytes(part | 128 for part in parts[:-1]) + bytes(parts[-1:])


def footer_changed(path: Path, old: int, new: int, which: int | None = None) -> None:
    """A number of the footer replaced, everywhere or at one of its places."""
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    sought, given = varint(old), varint(new, len(varint(old)))
    assert len(given) == len(sought)
    places = [at for at in range(start, len(content)) if content.startswith(sought, at)]
    assert places
    for at in places if which is None else [places[which]]:
        content = content[:at] + given + content[at + len(given) :]
    path.write_bytes(content)


def documents(path: Path) -> list[int]:
    """The length of each document."""
    return [len(each.content) for each in read_documents(CorpusFile(path, path.name), OPTIONS)]


def refusal(path: Path) -> str:
    """The message of a file that is not read, on one line."""
    with pytest.raises(InvalidText) as caught:
        documents(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: damaged: ")
    assert "\n" not in text
    assert len(text) < 600
    return text


@pytest.mark.parametrize(
    "options",
    [{"dictionary_pagesize_limit": 2**24},
     {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}}],
    ids=["dictionary", "delta"],
)  # fmt: skip
def test_a_footer_that_makes_a_file_small_does_not_make_batches_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    """One value, repeated for a few bits each, in a row group that is said to have one byte."""
    table = pa.table({"text": [os.urandom(CHUNK_BYTES // 4).hex()] * 128})
    path = written(tmp_path / "a.parquet", table, **options)
    size = parquet.ParquetFile(path).metadata.row_group(0).total_byte_size
    footer_changed(path, size, 1, which=2)
    assert parquet.ParquetFile(path).metadata.row_group(0).total_byte_size == 1
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", 8 * CHUNK_BYTES)
    usual = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counted)
    try:
        assert sum(documents(path)) == 128 * CHUNK_BYTES // 2
    finally:
        pa.set_memory_pool(usual)
    assert 0 < counted.max_memory() < 32 * CHUNK_BYTES


def test_a_page_that_unpacks_to_far_more_is_not_unpacked(tmp_path: Path) -> None:
    """Kilobytes that would become more than 64 MiB."""
    table = pa.table({"text": ["a" * (parquet_pages.MAX_UNPACKED + 1)]})
    path = written(tmp_path / "a.parquet", table, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 2**16
    assert "would unpack to" in refusal(path)


def test_rows_that_hold_nothing_are_counted(tmp_path: Path) -> None:
    """Nulls take a few bytes whatever their number."""
    table = pa.table({"text": pa.nulls(parquet_pages.MAX_ROWS + 1, pa.string())})
    path = written(tmp_path / "a.parquet", table, max_rows_per_page=2**24)
    assert path.stat().st_size < 1_000
    assert "rows" in refusal(path)


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2] + content[-8:]


def _long_footer(content: bytes) -> bytes:
    return content[:-8] + (2**32 - 1).to_bytes(4, "little") + b"PAR1"


def _no_footer(content: bytes) -> bytes:
    return content[:-8] + bytes(4) + b"PAR1"


def _blank_pages(content: bytes) -> bytes:
    return b"PAR1" + b"\xff" * 64 + content[68:]


def _nested_footer(content: bytes) -> bytes:
    footer = b"\x1c" * 100_000
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def _endless_list(content: bytes) -> bytes:
    footer = b"\x49\xfc" + b"\xff" * 4 + b"\x07"
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


@pytest.mark.parametrize(
    "change", [_cut, _long_footer, _no_footer, _blank_pages, _nested_footer, _endless_list]
)
def test_a_file_that_leads_astray_is_one_clear_line(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    """Cut off, a footer longer than the file, none, no page where one should be, too deep."""
    path = written(tmp_path / "a.parquet", pa.table({"text": ["one", "two"] * 50}))
    path.write_bytes(change(path.read_bytes()))
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_column_beyond_the_file_is_damage(tmp_path: Path, which: int) -> None:
    """Sizes and places of a column that no file of this length holds."""
    path = written(tmp_path / "a.parquet", pa.table({"text": ["x" * 3_000]}), use_dictionary=False)
    part = parquet.ParquetFile(path).metadata.row_group(0).column(0)
    footer_changed(path, part.total_compressed_size, 2**13 - 1, which)
    if which == 1:  # the size in the file; the others are only told
        assert "outside of the file" in refusal(path)
    else:
        assert documents(path) == [3_000]


def test_pages_are_found_behind_long_headers(tmp_path: Path) -> None:
    """Statistics may stand in a header, of values of any length."""
    table = pa.table({"text": ["x" * 40_000, "y" * 10]})
    path = written(
        tmp_path / "a.parquet", table, use_dictionary=False, write_statistics=True,
        data_page_version="2.0",
    )  # fmt: skip
    with path.open("rb") as raw:
        assert 40_010 <= largest_page(raw, {0}) < 41_000
    assert documents(path) == [40_000, 10]


SMALL = io.BytesIO()
parquet.write_table(pa.table({"text": ["a", "b"] * 20, "n": range(40)}), SMALL, **PLAIN)


@given(st.data())
def test_no_damage_is_a_crash(data: st.DataObject) -> None:
    """Whatever bytes change: a size, or damage."""
    content = bytearray(SMALL.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert largest_page(io.BytesIO(bytes(content)), {0, 1}) >= 1
    except DamagedTable:
        return
