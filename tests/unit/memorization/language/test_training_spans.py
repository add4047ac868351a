"""Training spans: read from files, cut in two, and refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditor.errors import ConfigurationError, InvalidText, NothingToAudit
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.training_spans import (
    SpanShape,
    SpanSource,
    TrainingSpan,
    cut_spans,
    read_span_sources,
)
from tests.models.language_models import random_model, save_folder, word_tokenizer

SHAPE = SpanShape(2, 3)
TEXT = "the cat sees a red bird and"


@pytest.fixture(scope="module", params=[False, True], ids=["bare", "start"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    """With and without a token before every text."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = word_tokenizer(start=request.param)
    return CausalLM.open(save_folder(folder, random_model("llama"), tokenizer))


def source_of(content: str | tuple[int, ...], *, drawn: bool = False) -> SpanSource:
    return SpanSource("a", "a", "file:1", content, drawn)


def bare(model: CausalLM, text: str) -> tuple[int, ...]:
    ids = model.encode(text)
    return tuple(ids[1:] if model.start is not None else ids)


def test_a_file_gives_its_texts(tmp_path: Path) -> None:
    """With and without names, groups and copies; blank lines count as lines."""
    lines = [
        {"text": "one", "id": "x", "group": "doc", "copies": 3},
        {"document": "two"},
        {"tokens": [1, 2], "id": 7},
    ]
    path = tmp_path / "spans.jsonl"
    path.write_text("\n\n".join(json.dumps(line) for line in lines), "utf-8")
    assert read_span_sources(path) == [
        SpanSource("x", "doc", f"{path}:1", "one", False, 3),
        SpanSource("line 3", "line 3", f"{path}:3", "two", True, None),
        SpanSource("7", "7", f"{path}:5", (1, 2), False, None),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("text,copies", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ('{"words": "a"}', "unknown field 'words'; known are copies, document"),
        ('{"id": "a"}', "nothing of text, document, tokens; give one"),
        ('{"text": "a", "tokens": [1]}', "text and tokens of text, document, tokens; give one"),
        ('{"text": 3}', "no field 'text' with a string"),
        ('{"tokens": [1, "a"]}', "tokens are no list of whole numbers"),
        ('{"tokens": [true]}', "tokens are no list of whole numbers"),
        ('{"text": "a", "copies": -1}', "-1 copies; give a whole number"),
        ('{"text": "a", "copies": 1.5}', "1.5 copies; give a whole number"),
        ('{"text": "a", "id": [1]}', "field 'id' is no text"),
    ],
)
def test_lines_that_are_no_spans_are_named(tmp_path: Path, line: str, problem: str) -> None:
    """By file and line."""
    path = tmp_path / "spans.jsonl"
    path.write_text('{"text": "a"}\n' + line, "utf-8")
    with pytest.raises(InvalidText) as caught:
        read_span_sources(path)
    assert f"{path}:2: " in str(caught.value)
    assert problem in str(caught.value)


def test_an_empty_file_gives_nothing_to_audit(tmp_path: Path) -> None:
    """Blank lines are no spans."""
    (tmp_path / "spans.jsonl").write_text("\n \n", "utf-8")
    with pytest.raises(NothingToAudit, match="holds no span"):
        read_span_sources(tmp_path / "spans.jsonl")


def test_a_text_is_cut_from_its_beginning(model: CausalLM) -> None:
    """Prefix and continuation follow each other, without any token before them."""
    [span] = cut_spans(model, [source_of(TEXT)], SHAPE)
    assert span == TrainingSpan("a", "a", bare(model, "the cat"), bare(model, "sees a red"), None)
    assert span.last(1) == bare(model, "cat")


def test_a_document_is_cut_anywhere(model: CausalLM) -> None:
    """By the seed: one place for one seed, all places over many, always what stands there."""
    ids = bare(model, TEXT)
    found = []
    for seed in range(40):
        [span] = cut_spans(model, [source_of(TEXT, drawn=True)], SHAPE, seed)
        assert cut_spans(model, [source_of(TEXT, drawn=True)], SHAPE, seed) == [span]
        whole = (*span.prefix, *span.continuation)
        found.append(next(at for at in range(len(ids)) if ids[at : at + SHAPE.tokens] == whole))
    assert set(found) == set(range(len(ids) - SHAPE.tokens + 1))


def test_token_ids_are_taken_as_they_are(model: CausalLM) -> None:
    """Nothing is decoded, so ids of special tokens may stand there."""
    [span] = cut_spans(model, [source_of((6, 2, 8, 9, 3))], SHAPE)
    assert (span.prefix, span.continuation) == ((6, 2), (8, 9, 3))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("the cat sees a", "file:1 has 4 tokens, and a prefix of 2 with a continuation of 3 has 5"),
        ("", "file:1 has 0 tokens"),
        ((6, 7), "file:1 has 2 tokens"),
        ((6, 7, 8, 9, 36), "holds a token that the model does not know; give ids from 0 to 35"),
        ((6, 7, 8, 9, -1), "holds a token that the model does not know"),
        ("the cat sees a zebra", "file:1 is another text after the tokenizer"),
        ("the cat </s> sees a bird", "file:1 is another text after the tokenizer"),
    ],
)
def test_spans_that_do_not_fit_are_named(
    model: CausalLM, content: str | tuple[int, ...], problem: str
) -> None:
    """Too short, unknown ids, and text that does not come back from its tokens."""
    with pytest.raises(ConfigurationError) as caught:
        cut_spans(model, [source_of(TEXT), source_of(content)], SHAPE)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_white_space_alone_makes_no_other_text(model: CausalLM) -> None:
    """Blanks and line ends between words are not the tokenizer's to keep."""
    [span] = cut_spans(model, [source_of("the  cat\nsees a red")], SHAPE)
    assert span.continuation == bare(model, "sees a red")


def test_spans_longer_than_the_context_are_refused(model: CausalLM) -> None:
    """Before any text is cut; the token before every text counts."""
    most = 64 - (model.start is not None)
    cut_spans(model, [], SpanShape(most - 3, 3))
    with pytest.raises(ConfigurationError, match="need 65, the model sees 64; shorten"):
        cut_spans(model, [], SpanShape(most - 2, 3))
