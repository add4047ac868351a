"""What is odd about a corpus, a disk or an index is named, and costs no index that was there."""

from __future__ import annotations

import gzip
import json
import resource
import subprocess
from pathlib import Path

import pytest

from auditor.errors import OperationFailed
from auditor.trace.index import add_to_index, build_index, verify_index
from auditor.trace.manifest import MANIFEST, read_manifest
from auditor.trace.matches import TraceIndex
from tests.functional.command import TIMEOUT_S, Ended, auditor, clean_environment, command_line
from tests.unit.trace.tokenizers_for_tests import byte_tokenizer

MODES = ("bytes", "tokens")


@pytest.fixture(params=MODES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with an index `idx` of one text, of bytes or of tokens."""
    (tmp_path / "first.txt").write_text("what was there before\n")
    options: tuple[str, ...] = ()
    if request.param == "tokens":
        byte_tokenizer(tmp_path / "tokenizer.json")
        options = ("--tokenizer", "tokenizer.json")
    built = auditor("trace", "index", "build", "first.txt", "--out", "idx", *options, cwd=tmp_path)
    assert built.code == 0, built.err
    return tmp_path


def files_of(index: Path) -> dict[str, bytes]:
    """Every file of an index with its content."""
    return {
        path.relative_to(index).as_posix(): path.read_bytes()
        for path in index.rglob("*")
        if path.is_file()
    }


def limited(limit: int, *arguments: str, cwd: Path) -> Ended:
    """Run a command that cannot make a file longer than so many bytes, as on a full disk."""

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    # Compiled code that is kept would meet the limit, too, and that is another matter.
    done = subprocess.run(
        command_line(*arguments), cwd=cwd, capture_output=True, text=True, check=False,
        env=clean_environment({"NUMBA_DISABLE_JIT": "1"}), timeout=TIMEOUT_S,
        preexec_fn=limit_files,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("limit", [3_000, 9_000])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_full_disk_leaves_the_index_as_it_was(folder: Path, limit: int, workers: str) -> None:
    """Whether the text finds no room, or what is sorted."""
    (folder / "more.txt").write_text("more of the same \u00e9 " * 200)
    before = files_of(folder / "idx")
    ended = limited(
        limit, "trace", "index", "add", "idx", "more.txt", "--workers", workers, cwd=folder
    )
    assert ended.code == 4, ended.err
    assert "cannot write" in ended.err
    assert "the index is as it was, mend that and run again" in ended.err
    assert "Traceback" not in ended.err
    assert files_of(folder / "idx") == before
    verify_index(folder / "idx")
    again = auditor("trace", "index", "add", "idx", "more.txt", cwd=folder)
    assert again.code == 0, again.err
    assert TraceIndex(folder / "idx").count(b"more of the same") > 0


def test_a_full_disk_at_the_first_build_makes_no_index(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text " * 2_000)
    ended = limited(3_000, "trace", "index", "build", "a.txt", "--out", "idx", cwd=tmp_path)
    assert ended.code == 4, ended.err
    assert not (tmp_path / "idx" / MANIFEST).exists()
    assert auditor("trace", "index", "build", "a.txt", "--out", "idx", cwd=tmp_path).code == 0


def test_a_file_that_changes_while_it_is_read_adds_nothing(folder: Path) -> None:
    """Written to when its first shard is finished."""
    records = [json.dumps({"text": f"record {number} " + "word " * 200}) for number in range(8)]
    (folder / "more.jsonl").write_text("\n".join(records))
    size = len("\n".join(records))
    before = (folder / "idx" / MANIFEST).read_bytes()

    def write(line: str) -> None:
        if line.startswith("shard ") and len((folder / "more.jsonl").read_text()) == size:
            with (folder / "more.jsonl").open("a") as file:
                file.write("\n" + records[0])

    with pytest.raises(OperationFailed, match=r"more\.jsonl changed while it was read"):
        add_to_index([folder / "more.jsonl"], folder / "idx", shard_bytes=1_000, progress=write)
    assert (folder / "idx" / MANIFEST).read_bytes() == before
    assert TraceIndex(folder / "idx").count(b"what was there") == 1
    verify_index(folder / "idx")
    result = add_to_index([folder / "more.jsonl"], folder / "idx")
    assert result.documents > len(records)


@pytest.mark.parametrize(
    ("name", "megabytes"),
    [("long.txt", 2), ("long.jsonl", 2), ("long.txt.gz", 2),
     pytest.param("long.txt", 200, marks=pytest.mark.slow)],
)  # fmt: skip
def test_one_long_line_is_one_document(tmp_path: Path, name: str, megabytes: int) -> None:
    """Without a line end from end to end; its first and last words are found where they are."""
    line = b"begin " + b"0123456 89abcd\xc3\xa9 " * (megabytes * 2**20 // 17) + b"ending"
    content = b'{"text": "' + line + b'"}' if name.endswith("jsonl") else line
    (tmp_path / name).write_bytes(gzip.compress(content, 1) if name.endswith("gz") else content)
    built = auditor("trace", "index", "build", name, "--out", "idx", cwd=tmp_path)
    assert built.code == 0, built.err
    index = TraceIndex(tmp_path / "idx")
    (shard,) = index.manifest.shards
    assert (shard.documents, shard.symbols) == (1, len(line) + 3)
    (place,) = index.find(b"ending").occurrences
    assert (place.offset, place.after) == (len(line) - 6, "")
    assert index.count(b"89abcd\xc3\xa9") == megabytes * 2**20 // 17


@pytest.mark.parametrize("megabytes", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_one_long_line_of_tokens_is_one_document(tmp_path: Path, megabytes: int) -> None:
    """Memory stays within what was said; it is tokenised in pieces."""
    line = b"begin " + b"the cat sat \xc3\xa9 " * (megabytes * 2**20 // 15) + b"ending"
    (tmp_path / "long.txt").write_bytes(line)
    tokenizer = byte_tokenizer(tmp_path / "t.json")
    build_index([tmp_path / "long.txt"], tmp_path / "idx", tokenizer=tokenizer)
    index = TraceIndex(tmp_path / "idx")
    (place,) = index.find(b" ending").occurrences
    assert (place.offset, place.after) == (len(line) - 7, "")
    assert index.count(b" the cat sat") > megabytes * 2**20 // 15 * 0.99


def test_nul_bytes_empty_documents_and_broken_text_are_kept_and_reported(folder: Path) -> None:
    (folder / "odd").mkdir()
    (folder / "odd/nul.txt").write_bytes(b"the\x00cat \x00\x00 end")
    (folder / "odd/empty.txt").touch()
    (folder / "odd/latin.txt").write_bytes("the caf\u00e9 and more".encode("latin-1"))
    ended = auditor("trace", "index", "add", "idx", "odd", cwd=folder)
    assert ended.code == 0, ended.err
    assert "1 documents are not valid UTF-8" in ended.err
    assert "1 documents without a byte are left out" in ended.err
    assert "2 documents added to idx" in ended.out
    index = TraceIndex(folder / "idx")
    assert index.count(b"the\x00cat \x00\x00 end") == 1
    assert index.count(b" and more") == 1
    assert read_manifest(folder / "idx").empty_documents == 1


@pytest.mark.parametrize("command", ["info", "verify", "merge", "add"])
def test_an_index_of_another_version_is_refused_and_kept(folder: Path, command: str) -> None:
    path = folder / "idx" / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"version": 9}))
    before = files_of(folder / "idx")
    more = ("first.txt",) if command == "add" else ()
    ended = auditor("trace", "index", command, "idx", *more, cwd=folder)
    assert ended.code == 2
    assert "is of version 9, and this auditor reads versions 1 and 2" in ended.err
    assert files_of(folder / "idx") == before


@pytest.mark.parametrize("command", ["info", "verify", "merge", "add"])
def test_a_manifest_that_points_outside_touches_nothing_there(folder: Path, command: str) -> None:
    path = folder / "idx" / MANIFEST
    plain = json.loads(path.read_bytes())
    (folder / "outside").mkdir()
    (folder / "outside/text.u8").write_bytes(b"mine")
    plain["shards"][0]["name"] = "../../outside"
    path.write_text(json.dumps(plain))
    more = ("first.txt",) if command == "add" else ()
    ended = auditor("trace", "index", command, "idx", *more, cwd=folder)
    assert ended.code == 6
    assert "index.json is damaged: shards.0.name" in ended.err
    assert (folder / "outside/text.u8").read_bytes() == b"mine"


def test_a_query_longer_than_any_document_is_no_error(folder: Path) -> None:
    ended = auditor("trace", "find", "idx", "what was there before\n" * 50, "--json", cwd=folder)
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["count"] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{}", "t.json is no tokenizer"), (None, "tokenizer not found: t.json")],
)
def test_a_wrong_tokenizer_is_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    (tmp_path / "a.txt").write_text("text")
    if content is not None:
        (tmp_path / "t.json").write_bytes(content)
    ended = auditor(
        "trace", "index", "build", "a.txt", "--out", "idx", "--tokenizer", "t.json", cwd=tmp_path
    )
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "idx").exists()
