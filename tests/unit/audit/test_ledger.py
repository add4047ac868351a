"""The ledger survives being cut at any byte, and says so when it was altered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import JsonValue

from auditor.audit.ledger import (
    Entry,
    EvidenceFolder,
    Ledger,
    LedgerDamaged,
    RunInUse,
    read_entries,
)
from auditor.errors import OutputNotWritable

BODIES: list[dict[str, JsonValue]] = [
    {"name": "first", "value": 0.1},
    {"name": "zweite Zeile \u2028 ü", "nested": {"list": [1, None, True]}},
    {"name": "third"},
]


def write(path: Path, bodies: list[dict[str, JsonValue]]) -> None:
    with Ledger(path) as ledger:
        for body in bodies:
            ledger.append("result", body)


def bodies(path: Path) -> list[dict[str, JsonValue]]:
    return [entry.body for entry in read_entries(path)]


def test_entries_are_read_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    write(path, BODIES)
    assert read_entries(path) == [Entry(kind="result", body=body) for body in BODIES]


def test_a_file_cut_at_any_byte_keeps_its_whole_lines_and_goes_on(tmp_path: Path) -> None:
    """The law of `Ledger`, for every prefix."""
    whole = tmp_path / "whole.jsonl"
    write(whole, BODIES)
    content = whole.read_bytes()
    ends = [position + 1 for position, byte in enumerate(content) if byte == ord("\n")]
    cut = tmp_path / "cut.jsonl"
    for length in range(len(content) + 1):
        cut.write_bytes(content[:length])
        kept = sum(end <= length for end in ends)
        assert bodies(cut) == BODIES[:kept]
        write(cut, BODIES[kept:])
        assert cut.read_bytes() == content


@pytest.mark.parametrize("line", [0, 1])
def test_an_altered_line_is_damage_and_is_named(tmp_path: Path, line: int) -> None:
    path = tmp_path / "ledger.jsonl"
    write(path, BODIES)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"name"', b'"nome"')
    path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerDamaged, match=rf"ledger.jsonl:{line + 1}: the line does not fit"):
        Ledger(path)
    assert path.read_bytes() == b"".join(lines)


def test_a_removed_or_swapped_line_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    write(path, BODIES)
    lines = path.read_bytes().splitlines(keepends=True)
    for altered in (lines[1:], [lines[0], lines[2]], [lines[1], lines[0], lines[2]]):
        path.write_bytes(b"".join(altered))
        with pytest.raises(LedgerDamaged):
            read_entries(path)


def test_a_later_format_is_refused_politely(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    write(path, BODIES)
    record = json.loads(path.read_text().splitlines()[0])
    record["entry"]["format"] = 99
    path.write_text(json.dumps(record) + "\n" + "\n".join(path.read_text().splitlines()[1:]) + "\n")
    with pytest.raises(LedgerDamaged, match="written in format 99, this auditor reads format 1"):
        read_entries(path)


def test_two_writers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with Ledger(path), pytest.raises(RunInUse, match="in use by another"):
        Ledger(path)


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputNotWritable, match="choose another folder"):
        Ledger(tmp_path / "missing" / "ledger.jsonl")


def test_evidence_is_stored_once_under_its_digest(tmp_path: Path) -> None:
    store = EvidenceFolder(tmp_path / "evidence")
    first = store.put(b"pixels", "image/png", "witness.png")
    second = store.put(b"pixels", "image/png", "witness.png")
    assert first == second
    assert store.path(first.digest).read_bytes() == b"pixels"
    files = [path for path in (tmp_path / "evidence").rglob("*") if path.is_file()]
    assert files == [store.path(first.digest)]
