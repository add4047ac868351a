"""Extraction as records: what is shown of spans, and what is not."""

from __future__ import annotations

import hashlib

import pytest

from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.extraction_evidence import (
    MATCH_COLUMNS,
    IndexMatch,
    completion_of,
    copies_table,
    curves,
    digest_of,
    span_table,
)
from auditor.memorization.language.extraction_metrics import extraction_controls, extraction_metrics
from auditor.memorization.language.extraction_record import SpanResult
from auditor.memorization.language.extraction_study import ExtractionStudy
from tests.models.language_models import random_model, save_folder, word_tokenizer
from tests.models.planted_results import extraction_of, result_of


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    """Its tokenizer alone is asked."""
    folder = tmp_path_factory.mktemp("model")
    return CausalLM.open(save_folder(folder, random_model("gpt2"), word_tokenizer()))


def results() -> list[SpanResult]:
    """Exact twice, exact at the longer prefix, near, and neither; at prefixes of 2 and 4."""
    rows = [("a", True, True, 2, None), ("b", False, True, 8, None), ("c", False, False, 4, 0.8),
            ("d", False, False, 16, 0.2)]  # fmt: skip
    return [
        result_of(name, exact, copies=copies, length=length, similarity=alike)
        for name, short, long, copies, alike in rows
        for length, exact in ((2, short), (4, long))
    ]


def test_spans_are_shown_by_name_length_and_digest(model: CausalLM) -> None:
    """Most copied first; what is neither exact nor near is not listed."""
    found = extraction_of(results(), lengths=(2, 4))
    table = span_table(model, found, 0.75)
    assert [row[:5] for row in table.rows] == [
        ("b", 8, "4", 1.0, 3), ("c", 4, "", 0.8, 2), ("a", 2, "2 4", 1.0, 3)
    ]  # fmt: skip
    said = model.decode(found.longest[1].span.continuation)
    digest = hashlib.sha256(said.encode()).hexdigest()
    assert table.rows[0][5] == digest_of(said) == f"sha256:{digest[:16]}"
    assert table.total_rows == 3


def test_completions_are_looked_up_in_an_index(model: CausalLM) -> None:
    """A match by its bytes, copies and some documents; none is none."""
    asked: list[str] = []

    def matcher(text: str) -> IndexMatch | None:
        asked.append(text)
        return None if len(asked) == 2 else IndexMatch(7, 9, tuple("uvwxyz"))

    found = extraction_of(results(), lengths=(2, 4))
    table = span_table(model, found, 0.75, matcher)
    assert table.columns[-3:] == MATCH_COLUMNS
    assert [row[-3:] for row in table.rows] == [
        (7, 9, "u, v, w, x, y"), (0, 0, ""), (7, 9, "u, v, w, x, y")
    ]  # fmt: skip
    assert asked == [
        model.decode(completion_of(found.longest[at])) for at in (1, 2, 0)
    ]  # fmt: skip


def test_a_completion_is_what_was_said_as_far_as_it_is_known() -> None:
    """An exact one is the continuation; of one that was not continued the agreed start is known."""
    exact, near = result_of("a", True), result_of("a", False, similarity=0.8)
    assert completion_of(exact) == exact.span.continuation
    assert near.compared is not None
    assert completion_of(near) == near.compared.completion
    assert completion_of(result_of("a", False)) == exact.span.continuation[:2]


def test_curves_have_a_line_for_each_prefix() -> None:
    """Over copies where these are known; near ones where there was something to compare."""
    by_prefix, by_copies = curves(extraction_of(results(), lengths=(2, 4)), 0.75)
    assert [(each.name, [point.y for point in each.points]) for each in by_prefix.series] == [
        ("exact", [0.25, 0.5]), ("similarity at least 0.75", [0.5, 0.75])
    ]  # fmt: skip
    assert [(each.name, [point.x for point in each.points]) for each in by_copies.series] == [
        ("prefix of 2 tokens", [2, 4, 8, 16]), ("prefix of 4 tokens", [2, 4, 8, 16])
    ]  # fmt: skip
    [alone] = curves(extraction_of([result_of("a", True), result_of("b", False)]), 0.75)
    assert ([each.name for each in alone.series], alone.description) == (["exact"], "")


def test_the_table_of_copies_counts_each_level() -> None:
    """Spans, exact and near ones at the longest prefix."""
    table = copies_table(extraction_of(results(), lengths=(2, 4)), 0.75)
    assert [(*row[:3], row[5]) for row in table.rows] == [
        (2, 1, 1, 1), (4, 1, 0, 1), (8, 1, 1, 1), (16, 1, 0, 0)
    ]  # fmt: skip


def test_metrics_and_controls_are_those_that_were_asked_for() -> None:
    """Without controls no control; the reference gives the gap in nats a token."""
    found = extraction_of([result_of("a", True), result_of("b", False)])
    study = ExtractionStudy(found)
    names = [metric.name for metric in extraction_metrics(study, 0.75, 1)]
    assert names == ["extracted_share", "extracted_share_prefix_4", "tokens_until_divergence",
                     "longest_guessed_run", "chance_in_1_draws"]  # fmt: skip
    assert extraction_controls(study) == ()
    other = extraction_of([result_of("a", False, nats=3.5), result_of("b", False, nats=2.5)])
    [control] = extraction_controls(ExtractionStudy(found, reference=other))
    assert {metric.name: metric.value for metric in control.metrics} == {
        "reference_extracted_share": 0, "extracted_by_subject_alone_share": 0.5,
        "gap_to_reference": 2.0,
    }  # fmt: skip
