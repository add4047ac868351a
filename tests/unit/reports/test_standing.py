"""The gate's rows are read, and silence of the gate is never a pass."""

from __future__ import annotations

import pytest

from auditor.findings import AuditReport, GateRow, Severity, Verdict
from auditor_reports.standing import (
    Standings,
    check_cards,
    gaps,
    loose_points,
    own_name,
    verdict_sentence,
)
from tests.golden.sample_report import sample_report


def with_rows(*rows: GateRow) -> AuditReport:
    """The sample report with these gate rows instead of its own."""
    report = sample_report()
    return report.model_copy(update={"gate": report.gate.model_copy(update={"rows": rows})})


def test_statuses_of_the_sample() -> None:
    """Each result stands as its worst row says."""
    report = sample_report()
    standings = Standings(report)
    assert [standings.of_result(result) for result in report.results] == [
        *("pass", "pass", "pass", "fail", "fail"),
        *("open", "below", "warn", "waived", "warn", "pass", "warn"),
    ]


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Verdict.HOLDS, {"pass"}),
        (Verdict.VIOLATED, {"fail"}),
        (Verdict.UNKNOWN, {"open", "warn"}),
        (Verdict.ERROR, {"warn"}),
        (Verdict.SKIPPED, {"warn"}),
    ],
)
def test_without_rows_the_verdict_decides(verdict: Verdict, status: set[str]) -> None:
    """A result of which the gate says nothing passes only when it holds; errors, skips
    and one of the unknowns are optional in the sample."""
    report = with_rows()
    standings = Standings(report)
    found = {standings.of_result(r) for r in report.results if r.verdict is verdict}
    assert found == status


@pytest.mark.parametrize("number", [3, 5, 7])
def test_a_pass_row_cannot_make_a_pass_of_another_verdict(number: int) -> None:
    """A row that says pass about something violated or open is not believed."""
    result = sample_report().results[number]
    row = GateRow(status="pass", result=result.id, code=result.code, subject="s", text="holds")
    assert Standings(with_rows(row)).of_result(result) != "pass"


def test_worst_come_first() -> None:
    """Failing results lead, passed ones end."""
    report = sample_report()
    codes = [result.code for result in Standings(report).worst_first(report.results)]
    assert codes == [
        *("AUD201", "AUD202", "AUD203", "AUD303", "AUD301", "AUD402", "AUD401", "AUD302"),
        *("AUD101", "AUD101", "AUD103", "AUD303"),
    ]


def test_order_does_not_depend_on_the_order_of_results() -> None:
    """The order is total: shuffled results give the same list."""
    report = sample_report()
    standings = Standings(report)
    assert standings.worst_first(report.results[::-1]) == standings.worst_first(report.results)


def test_missed_threshold_is_beyond_the_findings() -> None:
    """A row about a metric is told apart from the rows about findings."""
    report = sample_report()
    rows = Standings(report).beyond_findings(report.results[4])
    assert [row.text for row in rows] == ["certified share (ci lower) >= 0.95: measured 0.8448"]


def test_waiver_belongs_to_the_waived_finding_only() -> None:
    """The waived finding has its waiver, its neighbour has none."""
    report = sample_report()
    result = report.results[8]
    waivers = [Standings(report).waiver(result, f) for f in result.answer.findings]
    assert waivers == [report.gate.waivers[0], None]


def test_missing_card_is_made_up_from_the_result() -> None:
    """A report without its cards still names every check."""
    report = sample_report()
    cards = check_cards(report.model_copy(update={"checks": ()}))
    assert [card.code for card in cards] == sorted(
        {"AUD205", *(result.code for result in report.results)}
    )


def test_own_name_is_what_the_plan_adds() -> None:
    """Code and subject are no name of their own."""
    names = [own_name(result) for result in sample_report().results[2:5]]
    assert names == ["", "stays-zero", "robust-0.05"]


def test_rows_about_no_result_are_loose_points() -> None:
    """A required check that was not run is kept although no result speaks of it."""
    assert [row.code for row in loose_points(sample_report())] == ["AUD205"]


def test_refused_subject_is_a_critical_loose_point() -> None:
    """A subject that was not opened fails, also where the gate has no row about it."""
    report = sample_report()
    refused = report.subjects[0].model_copy(update={"facts": {"refused": "holds a pickle"}})
    first = loose_points(report.model_copy(update={"subjects": (refused,)}))[0]
    assert (first.status, first.subject, first.severity) == ("fail", refused.name, "critical")


def test_repeated_open_results_are_no_gaps() -> None:
    """A line that repeats an open result is told once, among the open questions."""
    report = sample_report()
    repeated = f"{report.results[5].id}: unknown, and so on"
    assert gaps(report.model_copy(update={"not_assessed": (repeated, "other")})) == ("other",)


def test_check_without_a_result_is_a_gap() -> None:
    """A check that is described and was never run is named among the gaps."""
    report = sample_report()
    ran = tuple(result for result in report.results if result.code != "AUD302")
    assert gaps(report) == report.not_assessed
    assert gaps(report.model_copy(update={"results": ran})) == (
        *report.not_assessed,
        "AUD302 refusal behaviour: no result in this run",
    )


def test_sentence_names_open_questions_even_in_a_pass() -> None:
    """A pass with tolerated gaps says so."""
    row = GateRow(
        status="warn", result="x", code="AUD402", subject="s", severity=Severity.LOW, text="open"
    )
    report = with_rows(row)
    passed = report.model_copy(update={"gate": report.gate.model_copy(update={"verdict": "pass"})})
    assert verdict_sentence(passed) == (
        "Every required check met the policy; 1 open question is tolerated by the policy."
    )
