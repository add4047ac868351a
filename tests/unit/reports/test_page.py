"""What fails, what is open and where it stands on the page."""

from __future__ import annotations

import re

from auditor_reports.page import Anchors, arrange
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS


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
    assert [(point.check, point.anchor == point.result) for point in failing] == [
        ("AUD201 stays-zero", False),
        ("AUD202 robust-0.05", True),
    ]


def test_every_question_without_an_answer_is_open() -> None:
    """The gap list has every open result, required or not."""
    page = arrange(sample_report())
    found = {point.result for point in page.open if point.result}
    assert found == {view.anchor for view in page.results if view.verdict.is_open}


def test_required_check_that_was_not_run_is_open() -> None:
    """What the policy asks for and nobody answers is a gap, though it has no result."""
    (loose,) = [point for point in arrange(sample_report()).open if not point.result]
    assert (loose.check, loose.anchor) == ("AUD205", "gate")


def test_every_result_is_under_its_check() -> None:
    """No result is lost between the checks."""
    page = arrange(sample_report())
    below = [view.anchor for check in page.checks for view in check.results]
    assert sorted(below) == sorted(view.anchor for view in page.results)


def test_gate_rows_point_at_their_results() -> None:
    """Each row has the anchor of the result it speaks of."""
    page = arrange(sample_report())
    anchors = {view.result.id: view.anchor for view in page.results}
    assert all(anchor == anchors.get(row.result, "") for row, anchor in page.gate_rows)
    assert sum(anchor == "" for _, anchor in page.gate_rows) == 1


def test_results_with_one_id_keep_their_own_anchors() -> None:
    """A report whose results all have one id is still shown whole."""
    report = sample_report()
    same = tuple(result.model_copy(update={"id": "x"}) for result in report.results)
    page = arrange(report.model_copy(update={"results": same}))
    assert len({view.anchor for view in page.results}) == len(page.results)


def test_refused_subject_fails_and_has_no_result() -> None:
    """A subject that was not opened stands first among what fails."""
    report = sample_report()
    refused = report.subjects[0].model_copy(update={"facts": {"refused": "holds a pickle"}})
    page = arrange(report.model_copy(update={"subjects": (refused,), "results": ()}))
    first = page.failing[0]
    assert first.subject == "digit-classifier"
    assert first.text == "refused as unsafe to open: holds a pickle"
    assert page.sentence == ("1 subject was refused as unsafe to open; nothing was executed.")
