"""Indexes are built, resumed, added to, merged and verified without losing what was there."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

from auditor.errors import (
    ConfigurationError,
    FileMissing,
    NothingToAudit,
    OperationFailed,
    OutputNotWritable,
    RefusedInput,
)
from auditor.trace import index as index_module
from auditor.trace.index import (
    UNFINISHED,
    add_to_index,
    build_index,
    merge_shards,
    verify_index,
)
from auditor.trace.manifest import MANIFEST, read_manifest
from auditor.trace.matches import TraceIndex
from auditor.trace.memory import needed_memory
from auditor.trace.shard_writer import sort_shard
from auditor.trace.surprisal import UnigramCounts
from tests.unit.trace.damage import notices_changed_bytes

SORT = "auditor.trace.building.sort_shard"


def corpus(folder: Path, *texts: bytes, name: str = "corpus") -> Path:
    """A folder with one file for each text."""
    made = folder / name
    made.mkdir()
    for number, text in enumerate(texts):
        (made / f"{number:03d}.txt").write_bytes(text)
    return made


ANIMALS = (b"the cat sat on the mat", b"the dog sat on the cat", b"a bird")


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """An index of three documents in one shard."""
    build_index([corpus(tmp_path, *ANIMALS)], tmp_path / "idx")
    return tmp_path / "idx"


def test_counts_and_places_are_those_of_the_documents(built: Path) -> None:
    index = TraceIndex(built)
    assert index.count(b"the cat") == 2
    assert index.count(b"sat on the") == 2
    assert index.count(b"cat sat on the mat and") == 0
    found = index.find(b"dog")
    (place,) = found.occurrences
    assert (place.document.source, place.offset) == ("corpus/001.txt", 4)
    assert (place.before, place.after) == ("the ", " sat on the cat")


def test_no_match_crosses_the_end_of_a_document(built: Path) -> None:
    index = TraceIndex(built)
    assert index.count(b"mat\xffthe") == 0
    assert index.count(b"matthe") == 0
    lengths = index.longest_matches(b"matthe")
    assert lengths.tolist() == [3, 2, 1, 3, 2, 1]


def test_occurrences_are_capped_and_the_count_is_not(built: Path) -> None:
    found = TraceIndex(built).find(b"the", most=2)
    assert found.count == 4
    assert len(found.occurrences) == 2


def test_spans_begin_and_end_at_words(built: Path) -> None:
    """`cat sat on the m` is cut back to `cat sat on the`; `zebra` is nowhere."""
    text = b"zebra cat sat on the moon bird"
    spans = TraceIndex(built).spans(text, least=4)
    assert [(text[s.start : s.stop], s.count) for s in spans] == [
        (b"cat sat on the", 1), (b"bird", 1)
    ]  # fmt: skip


def test_several_shards_answer_as_one(tmp_path: Path) -> None:
    """Documents of one word each, cut into shards of at most 16 bytes."""
    words = [f"word{number % 7} x{number}".encode() for number in range(30)]
    source = corpus(tmp_path, *words)
    build_index([source], tmp_path / "one")
    result = build_index([source], tmp_path / "many", shard_bytes=16)
    assert len(result.manifest.shards) == 30
    one, many = TraceIndex(tmp_path / "one"), TraceIndex(tmp_path / "many")
    for text in (b"word3", b"x1", b"word", b"7 x2"):
        assert one.count(text) == many.count(text)
        assert {(p.document.source, p.offset) for p in one.find(text, 99).occurrences} == {
            (p.document.source, p.offset) for p in many.find(text, 99).occurrences
        }
    query = b"word5 x5 word9 x12"
    assert one.longest_matches(query).tolist() == many.longest_matches(query).tolist()


def test_invalid_utf8_is_kept_and_reported(tmp_path: Path) -> None:
    """The byte 0xFF ends documents; in a text it is kept as 0xFE, and found by either."""
    source = corpus(tmp_path, b"caf\xe9 \xff end", b"", b"plain \x00 text")
    result = build_index([source], tmp_path / "idx")
    assert (result.documents, result.empty, result.not_text) == (2, 1, 1)
    index = TraceIndex(tmp_path / "idx")
    assert index.count(b"caf\xe9 \xff end") == 1
    assert index.count(b"plain \x00 text") == 1
    (place,) = index.find(b"caf").occurrences
    assert not place.document.is_text


def test_adding_writes_new_shards_and_leaves_the_old_ones(built: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (built / "shards").rglob("*") if path.is_file()}
    add_to_index([corpus(tmp_path, b"the cat again", name="more")], built)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert TraceIndex(built).count(b"the cat") == 3
    verify_index(built)


def test_merging_gives_the_same_answers_from_fewer_shards(tmp_path: Path) -> None:
    texts = [f"text {number} of many".encode() for number in range(12)]
    build_index([corpus(tmp_path, *texts)], tmp_path / "idx", shard_bytes=20)
    before = TraceIndex(tmp_path / "idx")
    found = Counter((p.document.source, p.offset) for p in before.find(b"of", 99).occurrences)
    merged = merge_shards(tmp_path / "idx", shard_bytes=10_000)
    assert (len(before.manifest.shards), len(merged.shards)) == (12, 1)
    after = TraceIndex(tmp_path / "idx")
    assert (
        Counter((p.document.source, p.offset) for p in after.find(b"of", 99).occurrences) == found
    )
    verify_index(tmp_path / "idx")
    assert len(list((tmp_path / "idx/shards").iterdir())) == 1


def interrupted(folder: Path) -> None:
    """Stands in for sorting, and is interrupted."""
    raise KeyboardInterrupt


def test_an_interrupted_build_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped while the third shard is sorted; two are not sorted again."""
    source = corpus(tmp_path, *(f"document {n:04d}".encode() for n in range(5)))
    sorted_folders: list[Path] = []

    def stopping(folder: Path) -> dict[str, str]:
        if len(sorted_folders) == 2:
            raise KeyboardInterrupt
        sorted_folders.append(folder)
        return sort_shard(folder)

    monkeypatch.setattr(SORT, stopping)
    with pytest.raises(KeyboardInterrupt):
        build_index([source], tmp_path / "idx", shard_bytes=14)
    assert not (tmp_path / "idx" / MANIFEST).exists()
    monkeypatch.setattr(SORT, sort_shard)
    result = build_index([source], tmp_path / "idx", shard_bytes=14)
    assert (result.resumed, result.documents, len(result.manifest.shards)) == (2, 5, 5)
    assert TraceIndex(tmp_path / "idx").count(b"document") == 5
    verify_index(tmp_path / "idx")
    assert not (tmp_path / "idx" / UNFINISHED).exists()


def test_an_interrupted_addition_leaves_the_index_as_it_was(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = corpus(tmp_path, b"one more", b"two more", name="more")
    manifest = (built / MANIFEST).read_bytes()

    def full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SORT, full)
    with pytest.raises(OperationFailed, match="No space left on device; the index is as it was"):
        add_to_index([more], built)
    assert (built / MANIFEST).read_bytes() == manifest
    assert TraceIndex(built).count(b"the cat") == 2
    assert [each.name for each in (built / "shards").iterdir()] == ["000000"]


def test_a_corpus_that_changed_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = corpus(tmp_path, b"first", b"second")
    monkeypatch.setattr(SORT, interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_index([source], tmp_path / "idx", shard_bytes=6)
    monkeypatch.setattr(SORT, sort_shard)
    (source / "000.txt").write_bytes(b"changed, and longer")
    result = build_index([source], tmp_path / "idx", shard_bytes=6)
    assert result.resumed == 0
    assert TraceIndex(tmp_path / "idx").count(b"changed") == 1


@pytest.mark.parametrize(
    "name",
    ["text.u8", "suffixes.i32", "buckets.i64", "starts.i64", "documents.jsonl", "tokens.i64"],
)
def test_every_changed_byte_is_noticed(built: Path, name: str) -> None:
    assert notices_changed_bytes(built, name)


def test_files_of_another_size_are_refused_when_the_index_is_opened(built: Path) -> None:
    path = built / "shards/000000/suffixes.i32"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(RefusedInput, match="bytes instead of"):
        TraceIndex(built)


def rewritten(built: Path, **changes: object) -> None:
    """The manifest with other entries, its digest made to fit."""
    plain = json.loads((built / MANIFEST).read_bytes()) | changes
    (built / MANIFEST).write_text(json.dumps(plain))


def test_a_manifest_that_points_outside_is_refused(built: Path) -> None:
    shard = json.loads((built / MANIFEST).read_bytes())["shards"][0]
    for name in ("../000000", "/etc", "a/b", ".."):
        rewritten(built, shards=[shard | {"name": name}])
        with pytest.raises(RefusedInput, match=r"index\.json is damaged"):
            read_manifest(built)


def test_a_link_in_place_of_a_file_is_refused(built: Path, tmp_path: Path) -> None:
    path = built / "shards/000000/text.u8"
    shutil.copy(path, tmp_path / "elsewhere")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RefusedInput, match="is no file of the index"):
        TraceIndex(built)


def test_another_version_and_other_files_are_told_apart(built: Path) -> None:
    rewritten(built, version=3)
    with pytest.raises(
        ConfigurationError, match="is of version 3, and this auditor reads versions 1 and 2"
    ):
        read_manifest(built)
    (built / MANIFEST).write_text("{")
    with pytest.raises(RefusedInput, match="is damaged"):
        read_manifest(built)
    with pytest.raises(FileMissing):
        read_manifest(built / "nowhere")


def test_a_manifest_changed_by_hand_is_refused(built: Path) -> None:
    rewritten(built, empty_documents=7)
    with pytest.raises(RefusedInput, match="its digest is another"):
        read_manifest(built)


def test_an_index_is_not_built_over(built: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputNotWritable, match="an index is there"):
        build_index([tmp_path / "corpus"], built)


def test_two_writers_at_once_are_refused(built: Path, tmp_path: Path) -> None:
    more = corpus(tmp_path, b"more", name="more")
    with (
        index_module._only_writer(built),
        pytest.raises(ConfigurationError, match="another process"),
    ):
        add_to_index([more], built)


def test_a_corpus_without_a_byte_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(NothingToAudit):
        build_index([corpus(tmp_path, b"", b"")], tmp_path / "idx")
    assert not (tmp_path / "idx" / MANIFEST).exists()


def test_shards_beyond_the_memory_are_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Memory:
        available = 2**30

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    with pytest.raises(ConfigurationError, match="choose smaller shards"):
        build_index([corpus(tmp_path, b"a")], tmp_path / "idx", shard_bytes=2**30)
    assert not (tmp_path / "idx").exists()
    assert needed_memory(2**30) > 5 * 2**30


def test_tokens_are_counted_over_all_shards(tmp_path: Path) -> None:
    source = corpus(tmp_path, *ANIMALS, b"The CAT, the end")
    build_index([source], tmp_path / "idx", shard_bytes=24)
    index = TraceIndex(tmp_path / "idx")
    assert len(index.manifest.shards) > 1
    found = index.unigrams()
    expected = UnigramCounts.of([*ANIMALS, b"The CAT, the end"])
    assert (found.total, found.types) == (expected.total, expected.types)
    for token in (b"the", b"cat", b",", b"bird", b"zebra"):
        assert found.count(token) == expected.count(token)


def naive_log_probabilities(texts: list[bytes], query: bytes, order: int) -> list[float]:
    """The same from counts of every n-gram of the documents."""
    counts = Counter(
        text[at : at + size]
        for text in texts
        for size in range(1, order + 1)
        for at in range(len(text) - size + 1)
    )
    counts[b""] = sum(map(len, texts))
    found = []
    for place in range(len(query)):
        contexts = [query[start:place] for start in range(max(0, place - order + 1), place + 1)]
        context = next(each for each in contexts if counts[each])
        factor = 1.0
        while context and not counts[context + query[place : place + 1]]:
            context, factor = context[1:], factor * 0.4
        count = max(1, counts[context + query[place : place + 1]])
        found.append(math.log(factor * count / counts[context]))
    return found


@pytest.mark.parametrize("order", [1, 3, 8])
@pytest.mark.parametrize("shard_bytes", [10_000, 24])
def test_probabilities_back_off_to_contexts_that_are_known(
    tmp_path: Path, order: int, shard_bytes: int
) -> None:
    """`cat sat` is known, `a cow` only in part, and `Q` not at all."""
    build_index([corpus(tmp_path, *ANIMALS)], tmp_path / "idx", shard_bytes=shard_bytes)
    index = TraceIndex(tmp_path / "idx")
    query = b"the cat sat, a cow Q the bird"
    expected = naive_log_probabilities(list(ANIMALS), query, order)
    assert index.log_probabilities(query, order).tolist() == pytest.approx(expected)


def test_wrong_orders_are_refused(built: Path) -> None:
    index = TraceIndex(built)
    assert index.log_probabilities(b"").tolist() == []
    for wrong in ({"order": 0}, {"backoff": 0.0}, {"backoff": 1.5}):
        with pytest.raises(ConfigurationError, match="give at least 1, and a number in"):
            index.log_probabilities(b"cat", **wrong)


def test_a_query_longer_than_any_document_has_no_match(built: Path) -> None:
    index = TraceIndex(built)
    assert index.count(ANIMALS[0] * 100) == 0
    assert index.longest_matches(ANIMALS[0] * 2)[0] == len(ANIMALS[0])
    with pytest.raises(ConfigurationError, match="empty text"):
        index.count(b"")
    assert index.longest_matches(b"").tolist() == []
    assert index.spans(b"") == []
    assert np.array_equal(index.longest_matches(b"cat", [3]), [0])


def test_places_are_named_of_every_shard_that_has_some(tmp_path: Path) -> None:
    """A text that stands everywhere does not hide what a later shard holds."""
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("the mill grinds. " * (50 if number < 2 else 2))
    folder = tmp_path / "index"
    build_index([tmp_path / "0.txt"], folder)
    for number in (1, 2):
        add_to_index([tmp_path / f"{number}.txt"], folder)
    found = TraceIndex(folder).find(b"the mill grinds", 10)
    assert found.count == 102
    assert len(found.occurrences) == 10
    assert {each.document.identifier for each in found.occurrences} == {"0.txt", "1.txt", "2.txt"}
