"""A cell says no more than its evidence: every rule, and what a declaration cannot do."""

from __future__ import annotations

import pytest

from auditor.findings import AuditReport, Severity, Verdict, WaiverUse
from auditor_reports.dossier.cells import decide_cell, derivation
from auditor_reports.dossier.evidence import EvidenceBook
from auditor_reports.dossier.mapping import Declaration, Row
from auditor_reports.dossier.record import NOT_RECORDED, Cell
from tests.golden.sample_report import sample_report, share
from tests.unit.reports.dossier_runs import gate_row, one_result, row, run_of

HOLDS, BROKEN = one_result("AUD201", Verdict.HOLDS), one_result("AUD201", Verdict.VIOLATED)
OPEN = one_result("AUD201", Verdict.UNKNOWN)


def decide(wanted: Row, report: AuditReport, declared: Declaration | None = None) -> Cell:
    return decide_cell(wanted, EvidenceBook(report), declared)


def said(reason: str) -> Declaration:
    return Declaration(framework="f", row="a", reason=reason, declared_by="owner")


def test_a_result_that_holds_is_evidence_that_passes() -> None:
    """The row is filled in whole by the one check."""
    cell = decide(row(), run_of([HOLDS], [gate_row(HOLDS, "pass")]))
    assert (cell.status, cell.results) == ("evidence pass", (HOLDS.id,))


def test_a_violated_result_fails_the_row() -> None:
    """The reason names the result."""
    cell = decide(row(), run_of([HOLDS, BROKEN], [gate_row(BROKEN, "fail")]))
    assert cell.status == "evidence fail"
    assert BROKEN.id in cell.reason


@pytest.mark.parametrize("status", ["waived", "baseline", "below"])
def test_what_the_gate_accepts_still_fails_the_row(status: str) -> None:
    """A waiver, a baseline or a low severity takes a finding out of the gate only."""
    report = run_of([HOLDS], [gate_row(HOLDS, "pass"), gate_row(HOLDS, status)])
    assert decide(row(), report).status == "evidence fail"


def test_a_waiver_is_told() -> None:
    """A reader sees that what fails was accepted by somebody."""
    mark = "f" * 32
    waived = gate_row(BROKEN, "waived").model_copy(update={"fingerprint": mark})
    report = run_of([BROKEN], [waived])
    use = WaiverUse(fingerprint=mark, match="x", reason="y", approved_by="z", expires="2026-12-31")
    report = report.model_copy(update={"gate": report.gate.model_copy(update={"waivers": (use,)})})
    assert decide(row(), report).reason.endswith(", waived")


def test_a_refused_subject_fails_the_row_of_the_files_safety() -> None:
    """A model that was refused has no result, and is no gap either."""
    report = run_of([])
    refused = report.subjects[0].model_copy(update={"facts": {"refused": "pickle"}})
    report = report.model_copy(update={"subjects": (refused,)})
    cell = decide(row(evidence=[{"check": "AUD101"}]), report)
    assert cell.status == "evidence fail"
    assert "pickle" in cell.reason


def test_no_result_is_not_assessed() -> None:
    """A check that was not run says nothing."""
    cell = decide(row(), run_of([one_result("AUD202", Verdict.HOLDS)]))
    assert (cell.status, cell.results) == ("not assessed", ())
    assert "AUD201" in cell.reason


@pytest.mark.parametrize("verdict", [Verdict.UNKNOWN, Verdict.SKIPPED, Verdict.ERROR])
def test_an_open_result_never_counts(verdict: Verdict) -> None:
    """No answer is no evidence."""
    assert decide(row(), run_of([one_result("AUD201", verdict)])).status == "not assessed"


@pytest.mark.parametrize("status", ["open", "warn"])
def test_an_open_threshold_never_counts(status: str) -> None:
    """A check that holds and misses what its threshold needs has no clear answer."""
    report = run_of([HOLDS], [gate_row(HOLDS, "pass"), gate_row(HOLDS, status)])
    assert decide(row(), report).status == "not assessed"


def test_an_open_result_beside_a_passing_one_is_partial() -> None:
    """What is missing is named."""
    other = one_result("AUD201", Verdict.UNKNOWN, name="slow")
    cell = decide(row(), run_of([HOLDS, other]))
    assert cell.status == "partial"
    assert other.id in cell.reason


def test_a_row_that_is_filled_in_part_is_at_most_partial() -> None:
    """What passes does not speak of the rest, and the rest is told."""
    cell = decide(row(covers="part", beyond="the rest"), run_of([HOLDS]))
    assert (cell.status, cell.beyond) == ("partial", "the rest")


def test_all_checks_are_needed_where_the_row_says_so() -> None:
    """One of two is partial; both are enough."""
    both = row(needs="all", evidence=[{"check": "AUD201"}, {"check": "AUD202"}])
    cell = decide(both, run_of([HOLDS]))
    assert (cell.status, "no result of AUD202" in cell.reason) == ("partial", True)
    report = run_of([HOLDS, one_result("AUD202", Verdict.HOLDS)])
    assert decide(both, report).status == "evidence pass"


def test_a_subject_without_an_answer_makes_the_row_partial() -> None:
    """Evidence about one model is none about another."""
    report = run_of([HOLDS], subjects=sample_report().subjects)
    cell = decide(row(), report)
    assert cell.status == "partial"
    assert sample_report().subjects[1].name in cell.reason


def test_a_row_judged_by_record_ignores_the_verdict() -> None:
    """Whether a domain is stated does not depend on what was found in it."""
    wanted = row(judged="by record", evidence=[{"check": "AUD201", "facts": ["domain"]}])
    broken = one_result("AUD201", Verdict.VIOLATED, facts={"domain": "[0, 1]"})
    cell = decide(wanted, run_of([broken], [gate_row(broken, "fail")]))
    assert cell.status == "evidence pass"
    assert [fact.value for fact in cell.facts] == ["[0, 1]"]


def test_a_missing_fact_is_told_as_not_recorded() -> None:
    """Nothing is filled in."""
    wanted = row(judged="by record", evidence=[{"check": "AUD201", "facts": ["domain"]}])
    cell = decide(wanted, run_of([HOLDS]))
    assert cell.status == "partial"
    assert [fact.value for fact in cell.facts] == [NOT_RECORDED]


def test_a_result_that_holds_emptily_is_no_answer() -> None:
    """A digest that was compared with nothing tests nothing; one that was broken still fails."""
    wanted = row(evidence=[{"check": "AUD103", "unless": {"compared": "nothing"}}])
    said = {"nothing": "not assessed", "the file digest": "evidence pass"}
    for compared, status in said.items():
        held = one_result("AUD103", Verdict.HOLDS, facts={"compared": compared})
        assert decide(wanted, run_of([held])).status == status
    broken = one_result("AUD103", Verdict.VIOLATED, facts={"compared": "nothing"})
    assert decide(wanted, run_of([broken])).status == "evidence fail"


def test_a_record_alone_does_not_assess_a_row_that_needs_results() -> None:
    """A seed is no test."""
    wanted = row(evidence=[{"check": "AUD201"}, {"record": "commands"}])
    assert decide(wanted, run_of([])).status == "not assessed"


def test_a_row_without_evidence_is_never_assessed() -> None:
    """It says why."""
    cell = decide(row(evidence=[], beyond="nobody looks"), sample_report_run())
    assert (cell.status, cell.reason) == ("not assessed", "nobody looks")


def sample_report_run() -> AuditReport:
    return run_of([HOLDS], [gate_row(HOLDS, "pass")])


def test_a_declaration_makes_a_row_not_applicable() -> None:
    """Its reason and the role stand in the cell."""
    cell = decide(row(), run_of([]), said("no such data"))
    assert cell.status == "not applicable"
    assert "no such data" in cell.reason
    assert cell.declared is not None
    assert (cell.declared.reason, cell.declared.declared_by) == ("no such data", "owner")


def test_a_declaration_never_hides_evidence_that_fails() -> None:
    """Who declares a failing row away is told so."""
    cell = decide(row(), run_of([BROKEN], [gate_row(BROKEN, "fail")]), said("not for us"))
    assert cell.status == "evidence fail"
    assert "not hidden" in cell.reason
    assert cell.declared is not None


def test_numbers_carry_sample_size_interval_and_origin() -> None:
    """Only the metrics that the row names are taken over, and whole."""
    asked, other = share("certified_share", 47, 50), share("other", 1, 2)
    report = run_of([one_result("AUD202", Verdict.HOLDS, metrics=(asked, other))])
    wanted = row(evidence=[{"check": "AUD202", "metrics": ["certified*"]}])
    (number,) = decide(wanted, report).numbers
    assert number.model_dump(include={"name", "value", "unit", "sample_size"}) == asked.model_dump(
        include={"name", "value", "unit", "sample_size"}
    )
    assert (number.interval, number.origin) == (asked.interval, "measured")


def test_attack_classes_are_tested_or_not_tested() -> None:
    """An open result tests nothing."""
    for results, tested in (([HOLDS], True), ([BROKEN], True), ([OPEN], False), ([], False)):
        book = EvidenceBook(run_of(results))
        assert decide_cell(row(), book, None, is_attack_class=True).tested is tested


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "Fails where a result of AUD201 fails, waived or not; needs an answer."),
        ({"evidence": [], "beyond": "b"}, "Never assessed"),
        ({"evidence": [{"record": "dates"}]}, "Answered by the run's own record."),
        ({"judged": "by record"}, "whatever the verdict"),
        ({"covers": "part", "beyond": "b"}, "At most partial"),
        ({"needs": "all", "evidence": [{"check": "AUD201"}, {"check": "AUD202"}]}, "each of them"),
    ],
)
def test_the_rule_is_said_in_words(fields: dict[str, object], words: str) -> None:
    """A reader can follow how a status came about."""
    assert words in derivation(row(**fields))


def test_findings_below_the_failing_severity_are_found_all_the_same() -> None:
    """A policy that tolerates a finding does not make it go away."""
    low = BROKEN.answer.findings[0].model_copy(update={"severity": Severity.LOW})
    answer = BROKEN.answer.model_copy(update={"findings": (low,)})
    found = BROKEN.model_copy(update={"answer": answer})
    assert decide(row(), run_of([found], [gate_row(found, "below")])).status == "evidence fail"
