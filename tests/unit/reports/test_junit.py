"""The JUnit file parses with any text in it, and only a pass looks like one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped

from auditor.findings import AuditReport
from auditor_reports.junit import render_junit
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, poisoned, with_waived_threshold


def read_back(report: AuditReport, folder: Path) -> Any:
    """The file as an independent parser sees it."""
    path = folder / "junit.xml"
    path.write_bytes(render_junit(report))
    return JUnitXml.fromfile(str(path))


def outcomes(report: AuditReport, folder: Path) -> dict[str, type[Any] | None]:
    """The outcome of each case by its class name and, in brackets, its own."""
    found: dict[str, type[Any] | None] = {}
    for suite in read_back(report, folder):
        for case in suite:
            own = "".join(case.name.partition("[")[1:])
            found[f"{case.classname} {own}".strip()] = type(case.result[0]) if case.result else None
    return found


def test_outcomes_of_the_sample(tmp_path: Path) -> None:
    """Failures, open questions, waivers and passes are told apart."""
    expected = {
        "AUD101:digit-classifier": None,
        "AUD101:support-assistant": None,
        "AUD103:digit-classifier": None,
        "stays-zero:digit-classifier": Failure,
        "robust-0.05:digit-classifier": Failure,
        "AUD203:digit-classifier": Error,
        "AUD301:support-assistant": Skipped,
        "AUD302:support-assistant": Skipped,
        "AUD303:support-assistant": Skipped,
        "refusal-experts:support-assistant": None,
        "AUD401:support-assistant": Skipped,
        "AUD402:support-assistant": Skipped,
    }
    class_names = {each.id: f"{each.code}.{each.subject}" for each in sample_report().results}
    assert outcomes(sample_report(), tmp_path) == {
        **{f"{class_names[name]} [{name}]": outcome for name, outcome in expected.items()},
        "AUD205": Error,
    }


def test_waiver_names_its_last_day(tmp_path: Path) -> None:
    """A waived case says until when."""
    messages = {
        case.classname: case.result[0].message
        for suite in read_back(sample_report(), tmp_path)
        for case in suite
        if case.result
    }
    assert messages["AUD401.support-assistant"] == "waived until 2027-03-31"


def test_waived_threshold_is_no_failure(tmp_path: Path) -> None:
    """A waiver covers numbers that miss their threshold like findings."""
    (case,) = [
        case
        for suite in read_back(with_waived_threshold(), tmp_path)
        for case in suite
        if case.classname == "AUD202.digit-classifier"
    ]
    assert [(type(each), each.message) for each in case.result] == [
        (Skipped, "waived until 2026-12-31")
    ]


def test_suites_are_families_and_counts_add_up(tmp_path: Path) -> None:
    """Every result is a case of exactly one suite."""
    report = sample_report()
    root = read_back(report, tmp_path)
    assert [suite.name[:6] for suite in root] == ["AUD1xx", "AUD2xx", "AUD3xx", "AUD4xx"]
    assert sum(suite.tests for suite in root) == root.tests == len(report.results) + 1
    assert sum(suite.failures for suite in root) == root.failures == 2
    assert sum(suite.errors for suite in root) == root.errors == 2
    assert sum(suite.skipped for suite in root) == root.skipped == 5


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_parses(text: str, tmp_path: Path) -> None:
    """Control characters would make the file unreadable; markup must stay text."""
    report = poisoned(text)
    root = read_back(report, tmp_path)
    assert sum(len(list(suite)) for suite in root) == len(report.results) + 1


def test_no_verdict_but_holds_passes(tmp_path: Path) -> None:
    """With no word from the gate, every violated or open result still has an outcome."""
    report = sample_report()
    silent = report.model_copy(update={"gate": report.gate.model_copy(update={"rows": ()})})
    passed = {name for name, outcome in outcomes(silent, tmp_path).items() if outcome is None}
    assert passed == {
        f"{r.code}.{r.subject} [{r.id}]" for r in report.results if r.verdict == "holds"
    }
