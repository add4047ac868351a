"""Passages drawn from an index."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from auditor.errors import ConfigurationError
from auditor.trace.index import build_index
from auditor.trace.matches import TraceIndex
from auditor.trace.sampling import draw_passages
from tests.models.small_index import index_of

LONG = " ".join(f"word{number:03d}" for number in range(300))
SHORT = "a short note ."


def an_index(folder: Path, shard_bytes: int = 2**20) -> TraceIndex:
    documents = [("long", "x", LONG), *((f"short {n}", "x", SHORT) for n in range(4))]
    return index_of(folder, documents, shard_bytes)


@pytest.mark.parametrize("shard_bytes", [2**20, 40])
def test_passages_stand_where_they_say(tmp_path: Path, shard_bytes: int) -> None:
    """In one shard and in several: whole words of the document, no longer than asked for."""
    texts = {"long": LONG} | {f"short {n}": SHORT for n in range(4)}
    passages = draw_passages(an_index(tmp_path, shard_bytes), 2_000, 100)
    assert {each.record.identifier for each in passages} == set(texts)
    for each in passages:
        whole = texts[each.record.identifier]
        assert whole[each.offset :].startswith(each.text)
        assert set(each.text.split()) <= set(whole.split())
        assert 0 < len(each.text) <= 100


def test_a_short_document_is_drawn_whole_and_once(tmp_path: Path) -> None:
    """However many of its bytes are drawn."""
    passages = draw_passages(an_index(tmp_path), 2_000, 100)
    counts = Counter(each.text for each in passages if each.record.identifier != "long")
    assert counts == {SHORT: 4}


def test_bytes_are_equally_likely(tmp_path: Path) -> None:
    """The long document has 2,399 of 2,460 bytes, and so most passages."""
    passages = draw_passages(an_index(tmp_path), 100, 20)
    long = sum(each.record.identifier == "long" for each in passages)
    assert long > 0.8 * len(passages)


def test_a_seed_draws_the_same_passages_again(tmp_path: Path) -> None:
    """And another seed draws others."""
    index = an_index(tmp_path)
    first, again, other = (draw_passages(index, 20, 60, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_bytes_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    """A document of such bytes gives no passage."""
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe" * 40)
    (tmp_path / "b.txt").write_text("plain words here", "utf-8")
    build_index([tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "index")
    passages = draw_passages(TraceIndex(tmp_path / "index"), 50, 60)
    assert [each.text for each in passages] == ["plain words here"]


@pytest.mark.parametrize(("count", "size"), [(0, 10), (10, 0)])
def test_nothing_cannot_be_drawn(tmp_path: Path, count: int, size: int) -> None:
    """Fewer than one passage, or passages of nothing."""
    with pytest.raises(ConfigurationError, match="give at least 1 of each"):
        draw_passages(an_index(tmp_path), count, size)
