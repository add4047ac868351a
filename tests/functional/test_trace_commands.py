"""`auditor trace` from outside: an index is built, asked, extended, checked and merged."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.functional.command import Ended, auditor

FOX = "The quick brown fox jumps over the lazy dog.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a corpus `c` of two documents, and its index `idx`."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c/a.txt").write_text(FOX)
    (tmp_path / "c/b.jsonl").write_text(
        json.dumps({"text": "quick brown foxes are [red]", "id": "d1", "label": "unsafe"}) + "\n"
    )
    built = auditor("trace", "index", "build", "c", "--out", "idx", cwd=tmp_path)
    assert built.code == 0, built.err
    assert "2 documents added to idx" in built.out
    assert "memory" in built.err
    return tmp_path


def records(ended: Ended) -> list[dict[str, object]]:
    assert ended.code == 0, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


def test_a_text_is_found_with_its_documents(folder: Path) -> None:
    (found,) = records(auditor("trace", "find", "idx", "quick brown fox", "--json", cwd=folder))
    assert found["count"] == 2
    assert found["occurrences"] == [
        {"document": "c/a.txt", "source": "c/a.txt", "place": 0, "label": "unknown", "byte": 4,
         "before": "The ", "after": " jumps over the lazy dog.\n"},
        {"document": "d1", "source": "c/b.jsonl", "place": 1, "label": "unsafe", "byte": 0,
         "before": "", "after": "es are [red]"},
    ]  # fmt: skip
    table = auditor("trace", "find", "idx", "quick", "--most", "1", cwd=folder)
    assert table.out.splitlines()[0] == "2 times, 1 shown"


def test_what_is_between_brackets_is_shown_as_it_is(folder: Path) -> None:
    assert "es are [red]" in auditor("trace", "find", "idx", "quick brown fox", cwd=folder).out


def test_spans_of_a_text_are_shown(folder: Path) -> None:
    (folder / "answer.txt").write_text("I saw the quick brown fox jumps over a lazy cat")
    (span,) = records(
        auditor("trace", "text", "idx", "answer.txt", "--least", "6", "--json", cwd=folder)
    )
    assert (span["text"], span["start"], span["count"], span["documents"]) == (
        "quick brown fox jumps over", 10, 1, ["c/a.txt"]
    )  # fmt: skip
    # Of 17 tokens two are `quick` and two `brown`; `fox`, `jumps` and `over` stand once.
    assert span["bci"] == pytest.approx(-2 * math.log(2 / 17) - 3 * math.log(1 / 17))
    assert span["log10_e_value"] == pytest.approx(
        math.log10(17) - float(span["bci"]) / math.log(10)  # type: ignore[arg-type]
    )


def test_adding_and_merging_keep_what_was_there(folder: Path) -> None:
    (folder / "more.txt").write_text("one more quick brown fox")
    added = records(auditor("trace", "index", "add", "idx", "more.txt", "--json", cwd=folder))
    assert [len(record["shards"]) for record in added] == [2]  # type: ignore[arg-type]
    (merged,) = records(auditor("trace", "index", "merge", "idx", "--json", cwd=folder))
    assert (merged["documents"], len(merged["shards"])) == (3, 1)  # type: ignore[arg-type]
    assert auditor("trace", "index", "verify", "idx", cwd=folder).code == 0
    (info,) = records(auditor("trace", "index", "info", "idx", "--json", cwd=folder))
    assert info["digest"] == merged["digest"]


def test_damage_is_refused_as_unsafe(folder: Path) -> None:
    path = folder / "idx/shards/000000/suffixes.i32"
    content = bytearray(path.read_bytes())
    content[8:16] = content[12:16] + content[8:12]
    path.write_bytes(content)
    ended = auditor("trace", "index", "verify", "idx", cwd=folder)
    assert ended.code == 6
    assert "suffixes.i32 is damaged; build the index anew" in ended.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("index", "build", "c", "--out", "idx"), 2, "cannot write to idx: an index is there"),
        (("index", "build", "nowhere", "--out", "new"), 2, "not found: nowhere"),
        (("index", "build", "empty", "--out", "new"), 5, "no document with a byte"),
        (("index", "build", "broken.jsonl", "--out", "new"), 2, "broken.jsonl:1:2: not JSON"),
        (("index", "add", "c", "c"), 2, "index not found: c/index.json"),
        (("find", "idx", ""), 2, "an empty text stands everywhere"),
        (("text", "idx", "nowhere"), 2, "text not found: nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    folder: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (folder / "empty").mkdir()
    (folder / "empty/a.txt").touch()
    (folder / "broken.jsonl").write_text("{broken")
    ended = auditor("trace", *arguments, cwd=folder)
    assert ended.code == code
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert not (folder / "new/index.json").exists()
    assert auditor("trace", "index", "verify", "idx", cwd=folder).code == 0
