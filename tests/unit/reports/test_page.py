"""What fails, what is open and where it stands on the page."""

from __future__ import annotations

import re

import pytest

from auditor_reports.page import Anchors, arrange
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, poisoned


def test_anchors_are_harmless_and_unique() -> None:
    """Whatever the names, ids have letters, digits and hyphens, and no two are the same."""
    anchors = Anchors()
    names = ["a", "A", "a ", "<a>", "", "é", "a--2", "a-2", *HOSTILE_TEXTS.values()]
    found = [anchors.take("result", name) for name in names]
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"result-[a-z0-9-]+", anchor) for anchor in found)


def test_failing_points_are_findings_and_missed_thresholds() -> None:
    """Both are listed, findings with their anchor."""
    failing = arrange(sample_report()).failing
    assert [(view.result.code, entry is not None) for view, entry, _ in failing] == [
        ("AUD201", True),
        ("AUD202", False),
    ]


def test_every_question_without_an_answer_is_open() -> None:
    """The gap list has every open result, required or not."""
    report = sample_report()
    found = {view.result.id for view, _ in arrange(report).open}
    assert found == {result.id for result in report.results if result.verdict.is_open}


def test_every_result_is_under_its_check() -> None:
    """No result is lost between the checks."""
    page = arrange(sample_report())
    below = [view.anchor for check in page.checks for view in check.results]
    assert sorted(below) == sorted(view.anchor for view in page.results)


def test_gate_rows_point_at_their_results() -> None:
    """Each row has the anchor of the result it speaks of."""
    page = arrange(sample_report())
    anchors = {view.result.id: view.anchor for view in page.results}
    assert all(anchor == anchors[row.result] for row, anchor in page.gate_rows)


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_results_with_one_id_keep_their_own_anchors(text: str) -> None:
    """A report whose results all have one id is still shown whole."""
    page = arrange(poisoned(text))
    assert len({view.anchor for view in page.results}) == len(page.results)
