"""An index of tokens says what a naive search over the documents' tokens says."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from auditor.errors import ConfigurationError, FileMissing, RefusedInput
from auditor.files import plain_digest
from auditor.trace.index import add_to_index, build_index, merge_shards, verify_index
from auditor.trace.manifest import MANIFEST, StoredFile, read_manifest, write_manifest
from auditor.trace.matches import Span, TraceIndex
from tests.unit.trace.damage import notices_changed_bytes
from tests.unit.trace.tokenizers_for_tests import SENTENCES, byte_tokenizer, word_tokenizer

texts = st.one_of(
    st.text("ab ", max_size=20),
    st.text("aé😀 \n", max_size=12),
    st.lists(st.sampled_from(["the cat", " sat", " on", "the", "mat", ".", "😀", "é"]),
             max_size=8).map("".join),
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer with a few merges."""
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


def corpus(folder: Path, *texts: bytes, name: str = "corpus") -> Path:
    """A folder with one file for each text."""
    (folder / name).mkdir()
    for number, text in enumerate(texts):
        (folder / name / f"{number:03d}.txt").write_bytes(text)
    return folder / name


@pytest.fixture
def built(tmp_path: Path, tokenizer: Path) -> Path:
    """An index of the sentences by their tokens."""
    source = corpus(tmp_path, *(text.encode() for text in SENTENCES))
    build_index([source], tmp_path / "idx", tokenizer=tokenizer)
    return tmp_path / "idx"


class Naive:
    """Lists of tokens, looked through from end to end."""

    def __init__(self, tokenizer: Path, documents: list[str]) -> None:
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.documents = [self.tokens(text) for text in documents]

    def tokens(self, text: str) -> list[tuple[int, int, int]]:
        """Ids with the bytes they cover."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        places = [len(text[:at].encode()) for at in range(len(text) + 1)]
        return [
            (number, places[start], places[stop])
            for number, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)
        ]

    def places(self, wanted: list[int]) -> list[tuple[int, int]]:
        """Document and first byte of each occurrence."""
        return [
            (number, document[at][1])
            for number, document in enumerate(self.documents)
            for at in range(len(document) - len(wanted) + 1)
            if [each[0] for each in document[at : at + len(wanted)]] == wanted
        ]

    def longest(self, text: str) -> list[int]:
        """Bytes of the longest match from each byte."""
        tokens = self.tokens(text)
        lengths = [0] * len(text.encode())
        for first, (_, begin, _) in enumerate(tokens):
            if first and tokens[first - 1][2] > begin:
                continue  # within a character
            for stop in range(first + 1, len(tokens) + 1):
                if not self.places([each[0] for each in tokens[first:stop]]):
                    break
                if stop == len(tokens) or tokens[stop][1] >= tokens[stop - 1][2]:
                    lengths[begin] = tokens[stop - 1][2] - begin
        return lengths

    def scores(self, text: str, order: int) -> list[float]:
        """Log shares with back-off, at the first byte of each token."""
        counts: Counter[tuple[int, ...]] = Counter()
        for document in self.documents:
            ids = [each[0] for each in document]
            counts.update(
                tuple(ids[at : at + size])
                for size in range(1, order + 1)
                for at in range(len(ids) - size + 1)
            )
        counts[()] = sum(map(len, self.documents))
        tokens = self.tokens(text)
        ids = [each[0] for each in tokens]
        found = [0.0] * len(text.encode())
        for place, (number, begin, _) in enumerate(tokens):
            context = tuple(ids[max(0, place - order + 1) : place])
            while not counts[context]:
                context = context[1:]
            factor = 1.0
            while context and not counts[(*context, number)]:
                context, factor = context[1:], factor * 0.4
            share = max(1, counts[(*context, number)]) / counts[context]
            found[begin] += math.log(factor * share)
        return found


def places_of(index: TraceIndex, text: str) -> list[tuple[int, int]]:
    """Number of the file and first byte of each occurrence."""
    found = index.find(text.encode(), 10_000)
    assert found.count == len(found.occurrences) == index.count(text.encode())
    return sorted((int(Path(each.document.source).stem), each.offset) for each in found.occurrences)


def agrees(index: TraceIndex, naive: Naive, query: str) -> None:
    """Every call gives the naive answer."""
    if query:
        wanted = [each[0] for each in naive.tokens(query)]
        assert places_of(index, query) == sorted(naive.places(wanted))
    lengths = index.longest_matches(query.encode())
    assert lengths.tolist() == naive.longest(query)
    for span in index.spans(query.encode()):
        found = index.find_span(query.encode(), span, 10_000)
        assert found.count == span.count == len(found.occurrences) > 0
    scores = index.log_probabilities(query.encode(), order=3)
    assert scores.tolist() == pytest.approx(naive.scores(query, 3))


@settings(deadline=None, max_examples=60)
@given(documents=st.lists(texts, min_size=1, max_size=5), queries=st.lists(texts, max_size=4))
@example(documents=["a"], queries=["", "a", "aa"])
@example(documents=["😀", "é😀"], queries=["😁", "é😀", "😀😁"])
def test_answers_are_those_of_a_naive_search_however_it_was_built(
    tokenizer: Path, documents: list[str], queries: list[str]
) -> None:
    """In one shard, in many, added to, and merged; and each of these is verified."""
    documents = [text or "x" for text in documents]
    naive = Naive(tokenizer, documents)
    queries = [*queries, documents[0] + documents[-1]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = corpus(folder, *(text.encode() for text in documents))
        files = sorted(source.iterdir())
        build_index([source], folder / "one", tokenizer=tokenizer)
        build_index(files[:1], folder / "many", tokenizer=tokenizer, shard_bytes=10)
        if files[1:]:
            add_to_index(files[1:], folder / "many", shard_bytes=10)
        for step in ("one", "many", "merged"):
            if step == "merged":
                merge_shards(folder / "many")
            at = folder / ("one" if step == "one" else "many")
            index = TraceIndex(at)
            for query in queries:
                agrees(index, naive, query)
            verify_index(at)


def test_spans_begin_and_end_at_words_and_count_as_they_stand(tokenizer: Path, built: Path) -> None:
    """`cat` has another token behind a blank; the span is counted with that token."""
    text = b"zebra cat sat on the moon"
    index = TraceIndex(built)
    (span, *_) = index.spans(text, least=4)
    assert text[span.start : span.stop] == b"cat sat on the"
    assert span.count == index.count(b" cat sat on the") == 1
    (place,) = index.find_span(text, span).occurrences
    assert (place.document.source, place.before, place.after) == (
        "corpus/000.txt", "the", " mat"
    )  # fmt: skip


def test_find_span_wants_a_span(built: Path) -> None:
    with pytest.raises(ConfigurationError, match="bytes 1 to 3 are no span of this text"):
        TraceIndex(built).find_span(b"the cat", Span(1, 3, 1))


def test_contexts_and_offsets_are_bytes_of_the_document(built: Path) -> None:
    (place,) = TraceIndex(built).find(" naïve".encode()).occurrences
    before = "é 😀"
    assert (place.offset, place.before, place.after) == (len(before.encode()), before, " the end")


def test_what_is_unknown_matches_nothing(tmp_path: Path) -> None:
    """Two unknown words are one token to the tokenizer, and not one word."""
    source = corpus(tmp_path, b"w1 zebra w2", b"w1 w2")
    build_index([source], tmp_path / "idx", tokenizer=word_tokenizer(tmp_path / "t.json"))
    index = TraceIndex(tmp_path / "idx")
    assert index.count(b"w1 cow w2") == index.count(b"zebra") == 0
    assert index.longest_matches(b"w1 cow w2").tolist() == [2, 0, 0, 0, 0, 0, 0, 2, 0]
    assert index.count(b"w1   w2") == 1
    verify_index(tmp_path / "idx")


def test_bytes_that_are_no_text_are_kept_and_match_nothing(tmp_path: Path, tokenizer: Path) -> None:
    content = b"the cat\xe9\xff sat \x00 on"
    result = build_index([corpus(tmp_path, content)], tmp_path / "idx", tokenizer=tokenizer)
    assert (result.documents, result.not_text) == (1, 1)
    index = TraceIndex(tmp_path / "idx")
    assert index.shards[0].content(0) == content.replace(b"\xff", b"\xfe")
    assert index.count(b"cat\xe9") == index.count(b"\xe9") == 0
    assert index.count(b"the cat") == index.count(b" sat \x00 on") == 1
    verify_index(tmp_path / "idx")


def test_a_document_without_a_token_is_kept(tmp_path: Path) -> None:
    source = corpus(tmp_path, b"  \n", b"", b"w1")
    result = build_index([source], tmp_path / "idx", tokenizer=word_tokenizer(tmp_path / "t.json"))
    assert (result.documents, result.empty) == (2, 1)
    index = TraceIndex(tmp_path / "idx")
    assert [each.document.source for each in index.find(b"w1").occurrences] == ["corpus/002.txt"]
    verify_index(tmp_path / "idx")


def test_an_index_of_nothing_but_white_space_answers(tmp_path: Path) -> None:
    build_index([corpus(tmp_path, b" ")], tmp_path / "idx",
                tokenizer=word_tokenizer(tmp_path / "t.json"))  # fmt: skip
    index = TraceIndex(tmp_path / "idx")
    assert index.count(b"w1") == 0
    assert index.longest_matches(b"w1").tolist() == [0, 0]
    verify_index(tmp_path / "idx")


def test_a_query_without_a_token_is_refused(tmp_path: Path) -> None:
    build_index([corpus(tmp_path, b"w1")], tmp_path / "idx",
                tokenizer=word_tokenizer(tmp_path / "t.json"))  # fmt: skip
    index = TraceIndex(tmp_path / "idx")
    with pytest.raises(ConfigurationError, match="has no token in this index"):
        index.count(b"  ")
    with pytest.raises(ConfigurationError, match="empty text"):
        index.find(b"")
    assert index.spans(b"  ") == []
    assert index.longest_matches(b"  ").tolist() == [0, 0]
    assert index.log_probabilities(b"  ").tolist() == [0, 0]


def test_a_query_longer_than_any_document_has_no_match(built: Path) -> None:
    index = TraceIndex(built)
    assert index.count(SENTENCES[0].encode() * 100) == 0
    assert index.longest_matches(SENTENCES[0].encode() * 2)[0] == len(SENTENCES[0])


@pytest.mark.parametrize(("words", "width"), [(65_535, 2), (65_536, 4), (70_000, 4)])
def test_ranks_take_two_bytes_where_they_fit(tmp_path: Path, words: int, width: int) -> None:
    """One rank is the separator's; every word is found again, and the first one twice."""
    text = " ".join(f"w{number}" for number in range(words)) + " w0"
    tokenizer = word_tokenizer(tmp_path / "t.json", 100_000)
    build_index([corpus(tmp_path, text.encode())], tmp_path / "idx", tokenizer=tokenizer)
    (record,) = read_manifest(tmp_path / "idx").shards
    assert (record.width, record.tokens) == (width, words + 2)
    index = TraceIndex(tmp_path / "idx")
    assert [index.count(f"w{number}".encode()) for number in (0, 1, words - 1, words)] == [
        2, 1, 1, 0
    ]  # fmt: skip
    assert index.count(b"w99 w100 w101") == 1
    verify_index(tmp_path / "idx")


def test_the_index_is_asked_without_the_tokenizers_file(tmp_path: Path, tokenizer: Path) -> None:
    own = shutil.copy(tokenizer, tmp_path / "own.json")
    source = corpus(tmp_path, b"the cat")
    manifest = build_index([source], tmp_path / "idx", tokenizer=Path(own)).manifest
    Path(own).unlink()
    assert manifest.tokenizer == plain_digest(tokenizer)
    assert TraceIndex(tmp_path / "idx").count(b"the cat") == 1
    add_to_index([corpus(tmp_path, b"the cat sat", name="more")], tmp_path / "idx")
    assert TraceIndex(tmp_path / "idx").count(b"the cat") == 2


def test_a_missing_tokenizer_makes_no_index(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="tokenizer not found"):
        build_index([corpus(tmp_path, b"a")], tmp_path / "idx", tokenizer=tmp_path / "nowhere")
    assert not (tmp_path / "idx").exists()


def kept_tokenizer(built: Path) -> Path:
    (path,) = built.glob("tokenizer-*.json")
    return path


def test_another_tokenizer_in_its_place_is_refused(built: Path, tmp_path: Path) -> None:
    path = kept_tokenizer(built)
    path.write_bytes(byte_tokenizer(tmp_path / "t.json", merges=3).read_bytes())
    for ask in (TraceIndex, verify_index, merge_shards):
        with pytest.raises(RefusedInput, match="is damaged; build the index anew"):
            ask(built)
    path.unlink()
    with pytest.raises(RefusedInput, match="is no file of the index"):
        TraceIndex(built)
    path.symlink_to(tmp_path / "t.json")
    with pytest.raises(RefusedInput, match="is no file of the index"):
        TraceIndex(built)


@pytest.mark.parametrize(
    "name",
    ["text.u8", "symbols.u16", "alphabet.u32", "places.i32", "suffixes.i32", "buckets.i64",
     "starts.i64", "documents.jsonl", "tokens.i64"],
)  # fmt: skip
def test_every_changed_byte_is_noticed(built: Path, name: str) -> None:
    assert notices_changed_bytes(built, name)


def swap_first_two(values: Any) -> Any:
    values[[0, 1]] = values[[1, 0]]
    return values


def set_first(values: Any) -> Any:
    values[0] = values[-1]
    return values


def add_one(values: Any) -> Any:
    values[0] += 1
    return values


@pytest.mark.parametrize(
    ("name", "dtype", "change", "message"),
    [
        ("symbols.u16", "<u2", swap_first_two, "not the tokens of its text"),
        ("symbols.u16", "<u2", set_first, "."),
        ("alphabet.u32", "<u4", swap_first_two, "alphabet is not in order"),
        ("alphabet.u32", "<u4", add_one, "."),
        ("places.i32", "<i4", add_one, "not the tokens of its text"),
        ("suffixes.i32", "<i4", swap_first_two, "out of order"),
        ("suffixes.i32", "<i4", set_first, "no permutation"),
        ("buckets.i64", "<i8", add_one, "buckets"),
        ("tokens.i64", "<i8", add_one, "words are not those of its text"),
    ],
)
def test_files_with_fitting_digests_and_other_content_are_noticed(
    built: Path, name: str, dtype: str, change: Callable[[Any], Any], message: str
) -> None:
    """As somebody leaves them who alters an index on purpose."""
    path = built / "shards/000000" / name
    change(np.fromfile(path, dtype=dtype)).tofile(path)
    manifest = read_manifest(built)
    (shard,) = manifest.shards
    stored = StoredFile(size=path.stat().st_size, digest=plain_digest(path))
    altered = shard.model_copy(update={"files": shard.files | {name: stored}})
    write_manifest(built, manifest.model_copy(update={"shards": (altered,)}))
    with pytest.raises(RefusedInput, match=message):
        verify_index(built)


def test_versions_say_which_auditor_reads_an_index(built: Path, tmp_path: Path) -> None:
    """An index of bytes is of version 1 as ever, without a word of tokens."""
    build_index([corpus(tmp_path, b"text", name="plain")], tmp_path / "bytes")
    plain = json.loads((tmp_path / "bytes" / MANIFEST).read_bytes())
    assert (plain["version"], plain["mode"], "tokenizer" in plain) == (1, "bytes", False)
    assert set(plain["shards"][0]) == {"name", "symbols", "documents", "files"}
    tokens = json.loads((built / MANIFEST).read_bytes())
    assert (tokens["version"], tokens["mode"]) == (2, "tokens")


@pytest.mark.parametrize(
    "changes", [{"mode": "bytes"}, {"version": 1}, {"tokenizer": ""}, {"tokenizer": "../t.json"}]
)
def test_a_manifest_that_contradicts_itself_is_refused(
    built: Path, changes: dict[str, object]
) -> None:
    plain = json.loads((built / MANIFEST).read_bytes()) | changes
    (built / MANIFEST).write_text(json.dumps(plain))
    with pytest.raises(RefusedInput, match=r"index\.json is damaged"):
        read_manifest(built)


@pytest.mark.parametrize("mode", ["bytes", "tokens"])
@pytest.mark.parametrize("threads", [1, 3])
def test_many_texts_are_answered_as_one_by_one(
    tmp_path: Path, tokenizer: Path, mode: str, threads: int
) -> None:
    source = corpus(tmp_path, *(text.encode() for text in SENTENCES))
    build_index([source], tmp_path / "idx", shard_bytes=30,
                tokenizer=tokenizer if mode == "tokens" else None)  # fmt: skip
    index = TraceIndex(tmp_path / "idx")
    asked = [b"", *(f"{a} {b}".encode() for a in SENTENCES for b in SENTENCES)]
    assert index.spans_of(asked, 4, threads) == [index.spans(text, 4) for text in asked]
    found = index.longest_matches_of(asked, threads)
    assert [each.tolist() for each in found] == [
        index.longest_matches(text).tolist() for text in asked
    ]
    with pytest.raises(ConfigurationError, match="0 threads; give at least 1"):
        index.spans_of(asked, 4, threads=0)
