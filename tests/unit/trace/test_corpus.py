"""A corpus comes out byte for byte, in one order, or with one line that says why not."""

from __future__ import annotations

import gzip
import json
import os
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from pyarrow import parquet

from auditor.errors import FileMissing, InvalidText, NothingToAudit, OperationFailed
from auditor.trace import corpus
from auditor.trace.corpus import (
    CHUNK_BYTES,
    CorpusFile,
    CorpusOptions,
    Document,
    corpus_files,
    is_utf8,
    read_documents,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

OPTIONS = CorpusOptions()
PACKERS = [
    pytest.param("", bytes, id="plain"),
    pytest.param(".gz", gzip.compress, id="gzip"),
    pytest.param(".zst", zstd.compress, id="zstd"),
]
ODD_BYTES = b"first\r\nsecond\rthird\n\x00\ttail \xc3\xa9\xf0\x9f\x98\x80 no line end"


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture(autouse=True)
def _from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources are asked for as somebody names them who stands in the folder."""
    monkeypatch.chdir(tmp_path)


def as_named(path: Path) -> Path:
    """The path from the folder that one stands in, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def documents(path: Path, options: CorpusOptions = OPTIONS) -> list[Document]:
    return [
        document
        for file in corpus_files([as_named(path)], options)
        for document in read_documents(file, options)
    ]


def sources(*paths: Path, options: CorpusOptions = OPTIONS) -> list[str]:
    return [file.source for file in corpus_files([as_named(path) for path in paths], options)]


def jsonl(*records: object) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


# Which files


def test_a_folder_gives_its_text_files_by_relative_path_in_order(tmp_path: Path) -> None:
    for name in (
        "b.txt",
        "a/z.md",
        "a/b/c.rst",
        "x.jsonl",
        "x.ndjson.gz",
        "p.parquet",
        "T.TXT.ZST",
    ):
        written(tmp_path / name, b"")
    for name in ("a.png", "README", "data.gz", "p.parquet.gz", "a/model.bin"):
        written(tmp_path / name, b"")
    assert sources(tmp_path) == [
        "T.TXT.ZST", "a/b/c.rst", "a/z.md", "b.txt", "p.parquet", "x.jsonl", "x.ndjson.gz",
    ]  # fmt: skip


def test_the_order_is_neither_that_of_the_disk_nor_that_of_the_arguments(tmp_path: Path) -> None:
    names = [f"{number * 37 % 100:02}.txt" for number in range(100)]
    paths = [written(tmp_path / "folder" / name, b"") for name in names]
    twin = written(tmp_path / "other" / "00.txt", b"")
    assert sources(*paths) == sources(tmp_path / "folder") == [f"folder/{n}" for n in sorted(names)]
    assert corpus_files([*paths, twin], OPTIONS) == corpus_files([twin, *paths[::-1]], OPTIONS)
    assert sources(twin, tmp_path / "folder")[0] == "folder/00.txt"


def test_a_file_reached_twice_is_read_once(tmp_path: Path) -> None:
    inner = written(tmp_path / "a" / "inner.txt", b"")
    (tmp_path / "z.txt").symlink_to(inner)
    assert sources(tmp_path, inner, tmp_path / "a") == ["a/inner.txt"]


def test_hidden_files_and_folders_are_skipped_but_not_above_the_folder(tmp_path: Path) -> None:
    home = tmp_path / ".cache"
    for name in (".secret.txt", ".git/config.txt", "seen.txt"):
        written(home / name, b"")
    assert sources(home) == [".cache/seen.txt"]
    assert sources(home / ".secret.txt") == [".cache/.secret.txt"]


def test_links_out_of_the_folder_and_linked_folders_are_skipped(tmp_path: Path) -> None:
    outside = written(tmp_path / "outside" / "o.txt", b"")
    home = tmp_path / "home"
    inside = written(home / ".store" / "blob", b"kept")
    (home / "in.txt").symlink_to(inside)
    (home / "out.txt").symlink_to(outside)
    (home / "folder").symlink_to(outside.parent)
    (home / "broken.txt").symlink_to(tmp_path / "nowhere")
    (home / "loop.txt").symlink_to(home / "loop.txt")
    assert sources(home) == ["home/in.txt"]
    assert documents(home)[0].content == b"kept"


def test_a_linked_path_that_is_named_is_followed(tmp_path: Path) -> None:
    written(tmp_path / "real" / "a.txt", b"")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert sources(tmp_path / "link") == ["link/a.txt"]


def test_suffixes_can_be_chosen(tmp_path: Path) -> None:
    for name in ("a.py", "b.PY.gz", "c.txt"):
        written(tmp_path / name, b"")
    options = CorpusOptions(suffixes=frozenset({".Py"}))
    assert sources(tmp_path, options=options) == ["a.py", "b.PY.gz"]


def test_folders_that_hold_files_of_one_name_give_documents_of_two(tmp_path: Path) -> None:
    """Also if the folders are of one name, or if the paths begin at the root."""
    for name in ("one/data/a.txt", "two/data/a.txt", "two/a.txt"):
        written(tmp_path / name, b"text")
    assert sources(tmp_path / "one", tmp_path / "two") == [
        "one/data/a.txt", "two/a.txt", "two/data/a.txt"
    ]  # fmt: skip
    whole = [tmp_path / "one/data", tmp_path / "two/data", tmp_path / "two/a.txt"]
    files = corpus_files(whole, OPTIONS)
    assert [file.source for file in files] == ["a.txt", "one/data/a.txt", "two/data/a.txt"]
    assert [file.path for file in files] == [whole[2], whole[0] / "a.txt", whole[1] / "a.txt"]
    [first, second] = [next(read_documents(file, OPTIONS)).identifier for file in files[1:]]
    assert first != second


def test_a_path_from_the_root_on_leaves_no_trace_of_the_machine(tmp_path: Path) -> None:
    """Of such a folder the last name is kept, as if one stood beside it."""
    written(tmp_path / "web/sub/a.txt", b"")
    (file,) = corpus_files([tmp_path / "web"], OPTIONS)
    assert file.source == "web/sub/a.txt"
    assert sources(tmp_path / "web") == ["web/sub/a.txt"]


def test_a_name_made_longer_is_not_that_of_another_file(tmp_path: Path) -> None:
    """`/.../x/data/a.txt` would become `x/data/a.txt`, which was given, too."""
    for name in ("x/data/a.txt", "y/x/data/a.txt", "z/data/a.txt"):
        written(tmp_path / name, b"")
    given = [Path("x"), tmp_path / "y/x/data", tmp_path / "z/data"]
    found = [file.source for file in corpus_files(given, OPTIONS)]
    assert found == ["x/data/a.txt", "y/x/data/a.txt", "z/data/a.txt"]


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"corpus file or folder not found: .*gone"):
        corpus_files([tmp_path / "gone"], OPTIONS)


def test_a_file_gone_since_it_was_listed_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"corpus file not found: .*gone\.txt"):
        next(read_documents(CorpusFile(tmp_path / "gone.txt", "gone.txt"), OPTIONS))


def test_a_folder_without_text_is_nothing_to_audit(tmp_path: Path) -> None:
    written(tmp_path / "a.png", b"")
    with pytest.raises(NothingToAudit, match=r"holds no file that ends in \.jsonl, \.md"):
        corpus_files([tmp_path], OPTIONS)


def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "a.txt", b"")
    written(tmp_path / "locked" / "b.txt", b"")
    scandir: Callable[[str], Iterator[os.DirEntry[str]]] = os.scandir

    def refuse(path: str) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InvalidText, match=r"locked: cannot be listed: Permission denied"):
        corpus_files([tmp_path], OPTIONS)


# Plain text


@pytest.mark.parametrize(("packing", "pack"), PACKERS)
def test_text_comes_out_byte_for_byte(
    tmp_path: Path, packing: str, pack: Callable[[bytes], bytes]
) -> None:
    name = f"a.txt{packing}"
    written(tmp_path / "sub" / name, pack(ODD_BYTES))
    source = f"sub/{name}"
    assert documents(tmp_path) == [Document(ODD_BYTES, source, 0, source, "unknown", True)]


@pytest.mark.parametrize("name", ["data", "data.log", "a.json", "data.gz"])
def test_a_named_file_is_text_whatever_its_suffix(tmp_path: Path, name: str) -> None:
    content = gzip.compress(b"text") if name.endswith(".gz") else b"text"
    path = written(tmp_path / name, content)
    assert documents(path) == [Document(b"text", name, 0, name, "unknown", True)]


@pytest.mark.parametrize(("packing", "pack"), PACKERS)
def test_an_empty_text_is_a_document(
    tmp_path: Path, packing: str, pack: Callable[[bytes], bytes]
) -> None:
    path = written(tmp_path / f"a.txt{packing}", pack(b""))
    assert [(document.content, document.is_text) for document in documents(path)] == [(b"", True)]


def test_text_that_is_no_utf8_keeps_its_bytes(tmp_path: Path) -> None:
    path = written(tmp_path / "latin.txt", "café".encode("latin-1"))
    assert documents(path) == [
        Document(b"caf\xe9", "latin.txt", 0, "latin.txt", "unknown", is_text=False)
    ]


@pytest.mark.parametrize("size", [CHUNK_BYTES - 1, CHUNK_BYTES - 2, CHUNK_BYTES])
def test_a_character_across_two_chunks_is_still_utf8(size: int) -> None:
    assert is_utf8(b"a" * size + "é€😀".encode())
    assert not is_utf8(b"a" * size + "é€😀".encode()[:-1])


def test_a_file_name_that_is_no_utf8_gives_a_source_that_is(tmp_path: Path) -> None:
    try:
        path = written(tmp_path / os.fsdecode(b"a\xff.txt"), b"")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert sources(tmp_path) == sources(path) == ["a\\udcff.txt"]


@pytest.mark.parametrize(("packing", "pack"), PACKERS[1:])
def test_compressed_files_in_several_members_are_read_to_the_end(
    tmp_path: Path, packing: str, pack: Callable[[bytes], bytes]
) -> None:
    path = written(tmp_path / f"a.txt{packing}", pack(b"one ") + pack(b"two"))
    assert documents(path)[0].content == b"one two"


def test_zstd_with_a_window_wider_than_usual_is_read(tmp_path: Path) -> None:
    """What `zstd --long=28` writes; decoders refuse more than 27 unless they are told."""
    parameter = zstd.CompressionParameter
    compressor = zstd.ZstdCompressor(options={parameter.window_log: 28, parameter.strategy: 1})
    packed = compressor.compress(b"far ") + compressor.compress(b"apart") + compressor.flush()
    with pytest.raises(zstd.ZstdError):
        zstd.decompress(packed)
    assert documents(written(tmp_path / "a.txt.zst", packed))[0].content == b"far apart"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails to read")
def test_a_disk_that_fails_is_not_taken_for_a_damaged_file() -> None:
    with pytest.raises(OperationFailed, match="cannot read /proc/self/mem: Input/output error"):
        documents(Path("/proc/self/mem"))


@pytest.mark.parametrize("kept", [0, 1, 10, -1])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
@pytest.mark.parametrize(("packing", "pack"), PACKERS[1:])
def test_a_compressed_file_that_was_cut_is_damaged(
    tmp_path: Path, packing: str, pack: Callable[[bytes], bytes], name: str, kept: int
) -> None:
    whole = pack(jsonl(*({"text": f"{number}"} for number in range(50))))
    path = written(tmp_path / f"{name}{packing}", whole[:kept])
    with pytest.raises(InvalidText, match=rf"{name}{packing}: damaged: .*; fetch it anew"):
        documents(path)


@pytest.mark.parametrize(("packing", "pack"), PACKERS[1:])
def test_a_compressed_file_with_altered_bytes_is_damaged(
    tmp_path: Path, packing: str, pack: Callable[[bytes], bytes]
) -> None:
    whole = bytearray(pack(os.urandom(1000)))
    whole[:3] = b"abc"
    with pytest.raises(InvalidText, match="damaged"):
        documents(written(tmp_path / f"a.txt{packing}", bytes(whole)))


# JSONL


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".JSONL"])
@pytest.mark.parametrize(("packing", "pack"), PACKERS)
def test_records_carry_their_line_identifier_and_label(
    tmp_path: Path, packing: str, pack: Callable[[bytes], bytes], suffix: str
) -> None:
    lines = b'{"text": "one", "id": "x", "label": "web"}\r\n\r\n \t\n{"text": "two\\u0000\\r\\n"}'
    name = f"a{suffix}{packing}"
    assert documents(written(tmp_path / name, pack(lines))) == [
        Document(b"one", name, 1, "x", "web", True),
        Document(b"two\x00\r\n", name, 4, f"{name}#4", "unknown", True),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x", "x"), (7, "7"), (1.5, "1.5"), (True, "true"), ("é", "é"), (0, "0"),
        ("\ud800", "\\ud800"), (None, ""), ("", ""),
    ],
)  # fmt: skip
def test_identifiers_and_labels_become_strings(
    tmp_path: Path, value: object, expected: str
) -> None:
    path = written(tmp_path / "a.jsonl", jsonl({"text": "", "id": value, "label": value}))
    [document] = documents(path)
    assert document.identifier == (expected or "a.jsonl#1")
    assert document.label == (expected or "unknown")


def test_fields_can_be_chosen(tmp_path: Path) -> None:
    record = {"text": 5, "body": "words", "key": "k", "set": "s"}
    path = written(tmp_path / "a.jsonl", jsonl(record))
    options = CorpusOptions(text_field="body", id_field="key", label_field="set")
    assert documents(path, options) == [Document(b"words", "a.jsonl", 1, "k", "s", True)]


def test_one_field_may_serve_as_all(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", jsonl({"text": "words"}))
    options = CorpusOptions(id_field="text", label_field="text")
    assert documents(path, options) == [Document(b"words", "a.jsonl", 1, "words", "words", True)]


def test_an_empty_text_field_is_a_document(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", jsonl({"text": ""}, {"text": "b"}))
    assert [document.content for document in documents(path)] == [b"", b"b"]


def test_a_file_of_blank_lines_holds_no_document(tmp_path: Path) -> None:
    assert documents(written(tmp_path / "a.jsonl", b"\n\r\n  \n")) == []


def test_a_byte_order_mark_before_the_first_record_is_no_part_of_it(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + jsonl({"text": "\ufeffone"}))
    assert [document.content for document in documents(path)] == [b"\xef\xbb\xbfone"]


@pytest.mark.parametrize(
    ("written_as", "content", "is_text"),
    [
        (b"\\ud83d\\ude00", "😀".encode(), True),
        (b"a\\ud800b", b"a\xed\xa0\x80b", False),
        (b"a\\udc80b", b"a\xed\xb2\x80b", False),
        (b"caf\xe9", b"caf\xe9", False),
        (b"\xed\xa0\x80", b"\xed\xa0\x80", False),
        (b"\xff\\ud800\xc3\xa9", b"\xff\xed\xa0\x80\xc3\xa9", False),
    ],
)
def test_what_is_no_utf8_in_a_record_keeps_its_bytes(
    tmp_path: Path, written_as: bytes, content: bytes, is_text: bool
) -> None:
    path = written(tmp_path / "a.jsonl", b'{"text": "' + written_as + b'"}\n')
    assert documents(path) == [Document(content, "a.jsonl", 1, "a.jsonl#1", "unknown", is_text)]


def test_one_line_of_five_megabytes_is_one_document(tmp_path: Path) -> None:
    text = "".join(f"{number:07} " for number in range(5 * 2**17))
    path = written(tmp_path / "a.jsonl", jsonl({"text": text}, {"text": "next"}))
    assert [document.content for document in documents(path)] == [text.encode(), b"next"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"not json", r":2:1: not JSON: Expecting value"),
        (b'{"text": "cut', r":2:10: not JSON: Unterminated string"),
        (b'{"text": "a"} {"text": "b"}', r":2:15: not JSON: Extra data"),
        ('{"text": "a"}'.encode("utf-16"), r":2:1: not JSON"),
        (b'["text"]', r":2:1: JSON of type array; give one object a line"),
        (b"null", r":2:1: JSON of type null"),
        (b'{"body": "a", "id": 1}', r":2:1: no field 'text'; there are \['body', 'id'\]"),
        (b'{"text": null}', r":2:1: field 'text' is of type null; give a string"),
        (b'{"text": ["a"]}', r":2:1: field 'text' is of type array"),
        (b'{"text": 1.5}', r":2:1: field 'text' is of type number"),
        (b'{"text": "a", "id": [1]}', r":2:1: field 'id' is of type array"),
        (b'{"text": "a", "label": {}}', r":2:1: field 'label' is of type object"),
        (b"[" * 100_000, r":2:1: JSON that cannot be read: maximum recursion"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", r":2:1: JSON that cannot be read: Exceeds"),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: bytes, problem: str) -> None:
    path = written(tmp_path / "a.jsonl", jsonl({"text": "fine"}) + line + b"\n")
    stream = read_documents(CorpusFile(path, "a.jsonl"), OPTIONS)
    assert next(stream).content == b"fine"
    with pytest.raises(InvalidText, match=r"a\.jsonl" + problem) as raised:
        next(stream)
    assert "\n" not in str(raised.value)


# Parquet


def test_rows_are_counted_across_row_groups(tmp_path: Path) -> None:
    rows = 2500
    table = pa.table({
        "id": list(range(rows)),
        "text": [f"text {row}" for row in range(rows)],
        "label": [None if row % 2 else "even" for row in range(rows)],
        "other": [[row] for row in range(rows)],
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=1100)
    assert parquet.ParquetFile(tmp_path / "a.parquet").num_row_groups == 3
    assert documents(tmp_path) == [
        Document(
            content=f"text {row}".encode(),
            source="a.parquet",
            place=row,
            identifier=str(row),
            label="unknown" if row % 2 else "even",
            is_text=True,
        )
        for row in range(rows)
    ]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)  # fmt: skip
def test_every_type_of_string_is_text_and_null_is_empty(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array(["é\x00\r\n", None, ""], kind)})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert documents(tmp_path) == [
        Document(content, "a.parquet", row, f"a.parquet#{row}", "unknown", True)
        for row, content in enumerate(["é\x00\r\n".encode(), b"", b""])
    ]


def test_a_column_of_nothing_but_null_is_empty_documents(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": pa.nulls(2)}), tmp_path / "a.parquet")
    assert [document.content for document in documents(tmp_path)] == [b"", b""]


def test_a_table_without_rows_holds_no_document(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert documents(tmp_path) == []


def test_a_string_that_is_no_utf8_keeps_its_bytes_and_names_can_be_written(tmp_path: Path) -> None:
    broken = pa.array([b"caf\xe9"]).view(pa.string())
    table = pa.table({"text": broken, "id": broken, "label": broken})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert documents(tmp_path) == [
        Document(b"caf\xe9", "a.parquet", 0, "caf\\xe9", "caf\\xe9", is_text=False)
    ]


def test_columns_can_be_chosen_and_one_may_serve_as_all(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"body": ["words"], "text": [1]}), tmp_path / "a.parquet")
    options = CorpusOptions(text_field="body", id_field="body", label_field="body")
    assert documents(tmp_path, options) == [
        Document(b"words", "a.parquet", 0, "words", "words", True)
    ]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"body": ["a"], "key": [1]}, r"no one column 'text'; there are \['body', 'key'\]"),
        ({"text": [1]}, "column 'text' is of type int64; give strings"),
        ({"text": [b"a"]}, "column 'text' is of type binary"),
        ({"text": [["a"]]}, "column 'text' is of type list<"),
        ({"text": [{"a": "b"}]}, "column 'text' is of type struct<"),
        ({"text": ["a"], "id": [["a"]]}, "column 'id' is of type list<"),
        ({"text": ["a"], "label": [b"a"]}, "column 'label' is of type binary"),
    ],
)
def test_a_column_that_does_not_fit_is_named(
    tmp_path: Path, columns: dict[str, list[object]], problem: str
) -> None:
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(InvalidText, match=rf"a\.parquet: {problem}"):
        documents(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "page", "name"])
def test_damaged_parquet_is_one_clear_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"text {row}" for row in range(1000)], "unread": range(1000)})
    parquet.write_table(
        table,
        path,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
        store_schema=False,
    )
    whole = path.read_bytes()
    path.write_bytes({
        "cut": whole[:-20],
        "empty": b"",
        "text": b"plain text with the wrong name",
        "page": whole.replace(b"text 500", b"text 5O0"),
        "name": whole.replace(b"unread", b"un\xffead"),
    }[damage])  # fmt: skip
    assert path.read_bytes() != whole
    with pytest.raises(InvalidText, match=r"a\.parquet: damaged: .*; fetch it anew") as raised:
        documents(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["text", "id"])
def test_two_columns_of_one_name_are_not_chosen_between(tmp_path: Path, name: str) -> None:
    columns = [pa.array(["a"]), pa.array(["b"]), pa.array(["c"])]
    table = pa.Table.from_arrays(columns, names=["text", name, name])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InvalidText, match=f"no one column '{name}'"):
        documents(tmp_path)


def test_columns_that_are_not_needed_are_not_read(tmp_path: Path) -> None:
    """Damage in another column goes unseen."""
    path = tmp_path / "a.parquet"
    parquet.write_table(
        pa.table({"text": ["words"], "image": ["pixels" * 9]}),
        path,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )
    whole = path.read_bytes()
    assert b"pixelspixels" in whole
    path.write_bytes(whole.replace(b"pixelspixels", b"pixelspicsel"))
    assert [document.content for document in documents(path)] == [b"words"]
    with pytest.raises(InvalidText, match="damaged"):
        documents(path, CorpusOptions(text_field="image"))


def test_compressed_parquet_is_not_taken_for_text(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet.gz", gzip.compress(b"PAR1"))
    with pytest.raises(InvalidText, match=r"Parquet within \.gz; unpack it"):
        documents(path)


# Files that change


def test_a_file_appended_to_between_two_records_has_changed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", jsonl({"text": "one"}, {"text": "two"}))
    stream = read_documents(CorpusFile(path, "a.jsonl"), OPTIONS)
    assert next(stream).content == b"one"
    with path.open("ab") as file:
        file.write(jsonl({"text": "three"}))
    with pytest.raises(
        OperationFailed,
        match=r"a\.jsonl changed while it was read; build again when it is at rest",
    ):
        list(stream)


def test_a_record_half_written_is_a_change_and_not_a_mistake_in_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", jsonl({"text": "one"}))
    stream = read_documents(CorpusFile(path, "a.jsonl"), OPTIONS)
    next(stream)
    with path.open("ab") as file:
        file.write(b'{"text": "tw')
    with pytest.raises(OperationFailed, match="changed while it was read"):
        list(stream)


@pytest.mark.parametrize("change", ["replaced", "removed", "touched", "cut"])
def test_every_change_is_seen(tmp_path: Path, change: str) -> None:
    path = written(tmp_path / "a.jsonl", jsonl({"text": "one"}, {"text": "two"}))
    stream = read_documents(CorpusFile(path, "a.jsonl"), OPTIONS)
    next(stream)
    if change == "replaced":
        status = path.stat()
        twin = written(tmp_path / "twin", path.read_bytes())
        os.utime(twin, ns=(status.st_atime_ns, status.st_mtime_ns))
        twin.replace(path)
    elif change == "removed":
        path.unlink()
    elif change == "touched":
        os.utime(path, ns=(1, 1))
    else:
        os.truncate(path, 5)
    with pytest.raises(OperationFailed, match="changed while it was read"):
        list(stream)


def test_parquet_that_changes_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"text": ["one", "two"]}), path)
    stream = read_documents(CorpusFile(path, "a.parquet"), OPTIONS)
    next(stream)
    os.utime(path, ns=(1, 1))
    with pytest.raises(OperationFailed, match="changed while it was read"):
        list(stream)


def test_a_reader_that_stops_early_closes_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", jsonl({"text": "one"}, {"text": "two"}))
    stream = read_documents(CorpusFile(path, "a.jsonl"), OPTIONS)
    next(stream)
    assert str(path) in open_files()
    del stream
    assert str(path) not in open_files()


def open_files() -> set[str]:
    return {file.path for file in psutil.Process().open_files()}


# Limits


@pytest.mark.parametrize(("packing", "pack"), PACKERS)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_the_limit_is_the_longest_that_is_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    packing: str,
    pack: Callable[[bytes], bytes],
) -> None:
    line = jsonl({"text": "a" * 50})
    path = written(tmp_path / f"{name}{packing}", pack(line))
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", len(line))
    assert len(documents(path)) == 1
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", len(line) - 1)
    with pytest.raises(InvalidText, match=rf"{name}.*more than {len(line) - 1} bytes.*split it"):
        documents(path)


@pytest.mark.parametrize(("packing", "pack"), PACKERS[1:])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    packing: str,
    pack: Callable[[bytes], bytes],
) -> None:
    path = written(tmp_path / f"{name}{packing}", pack(bytes(64 * CHUNK_BYTES)))
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", 2 * CHUNK_BYTES)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidText, match="split it"):
            documents(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * CHUNK_BYTES


def test_a_long_file_of_short_lines_is_never_held_whole(tmp_path: Path) -> None:
    line = jsonl({"text": "a" * 1000})
    path = written(tmp_path / "a.jsonl.gz", gzip.compress(line * 30_000))
    tracemalloc.start()
    try:
        stream = read_documents(CorpusFile(path, "a.jsonl.gz"), OPTIONS)
        assert sum(len(document.content) for document in stream) == 30_000_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * CHUNK_BYTES


def test_a_parquet_value_over_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet.write_table(pa.table({"text": ["a" * 10, "a" * 11]}), tmp_path / "a.parquet")
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", 10)
    with pytest.raises(InvalidText, match=r"a\.parquet, row 1: more than 10 bytes.*split it"):
        documents(tmp_path)


def test_a_value_that_many_rows_share_is_not_unpacked_for_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    text = os.urandom(CHUNK_BYTES // 2).hex()
    parquet.write_table(
        pa.table({"text": pa.array([text] * 256).dictionary_encode()}),
        path,
        dictionary_pagesize_limit=16 * CHUNK_BYTES,
        store_schema=False,
    )
    assert path.stat().st_size < 4 * CHUNK_BYTES
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", 8 * CHUNK_BYTES)
    usual = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counted)
    try:
        stream = read_documents(CorpusFile(path, "a.parquet"), OPTIONS)
        assert sum(len(document.content) for document in stream) == 256 * CHUNK_BYTES
    finally:
        pa.set_memory_pool(usual)
    assert 0 < counted.max_memory() < 64 * CHUNK_BYTES
