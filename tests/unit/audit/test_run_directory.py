"""Reports from a run's ledger alone: finished, partial, and after the plan has moved."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from auditor.audit.gate import Acceptance
from auditor.audit.ledger import Entry, Ledger
from auditor.audit.plan import Plan
from auditor.audit.policy import Policy
from auditor.audit.run_directory import (
    PlanChanged,
    PlanEntry,
    assemble_report,
    begin,
    known_keys,
    open_run,
    policy_of,
)
from auditor.audit.units import UnitRecord
from auditor.errors import ConfigurationError, FileMissing
from auditor.findings import (
    Answer,
    CheckResult,
    Environment,
    Severity,
    SourceLine,
    SubjectRecord,
    Timing,
    Verdict,
)

NOW = datetime(2026, 11, 23, tzinfo=UTC)
NOTHING = Acceptance((), {}, date(2026, 11, 23))


def unit(name: str, line: int = 5) -> UnitRecord:
    return UnitRecord(
        id=name, code="AUD201", title="t", version=1, subject="m", subject_digest="sha256:m",
        required=True, seed=0, parameters={}, data_digests={}, key=f"key of {name}",
        declared_at=SourceLine(file="plan.yaml", line=line),
    )  # fmt: skip


def plan_entry(*units: UnitRecord, title: str = "") -> PlanEntry:
    checks = [{"check": unit.code, "id": unit.id} for unit in units]
    fields = {"version": 1, "name": "p", "title": title, "subjects": [{"path": "m"}]}
    return PlanEntry(
        plan=Plan.model_validate({**fields, "checks": checks}),
        plan_file="plan.yaml",
        plan_digest="sha256:p",
        command="auditor run plan.yaml",
        environment=Environment(
            auditor="0", python="3", platform="x", device="cpu", threads=1, libraries={}
        ),
        subjects=(SubjectRecord(name="m", path="m", kind="onnx", digest="sha256:m", size=1),),
        cards=(),
        units=units,
        started=NOW,
    )


def result(of: UnitRecord, verdict: Verdict = Verdict.HOLDS) -> Entry:
    reason = "why" if verdict.is_open else ""
    made = CheckResult(
        **of.model_dump(),
        answer=Answer(verdict=verdict, summary="s", reason=reason),
        timing=Timing(started=NOW, finished=NOW, seconds=1),
    )
    return Entry(kind="result", body=made.model_dump(mode="json"))


def plan_line(entry: PlanEntry) -> Entry:
    return Entry(kind="plan", body=entry.model_dump(mode="json"))


def test_what_was_not_run_is_skipped_and_listed(tmp_path: Path) -> None:
    entries = [plan_line(plan_entry(unit("a"), unit("b"))), result(unit("a"))]
    report = assemble_report(tmp_path, entries, NOTHING)
    assert [r.verdict for r in report.results] == [Verdict.HOLDS, Verdict.SKIPPED]
    assert (report.complete, report.gate.exit_code) == (False, 3)
    assert report.not_assessed == ("b: skipped, the run ended before this check",)


def test_a_later_result_replaces_an_earlier_one(tmp_path: Path) -> None:
    entries = [
        plan_line(plan_entry(unit("a"))),
        result(unit("a"), Verdict.ERROR),
        result(unit("a")),
    ]
    assert assemble_report(tmp_path, entries, NOTHING).results[0].verdict is Verdict.HOLDS


def test_a_check_that_moved_in_the_plan_is_shown_where_it_stands_now(tmp_path: Path) -> None:
    entries = [plan_line(plan_entry(unit("a", line=9))), result(unit("a", line=5))]
    report = assemble_report(tmp_path, entries, NOTHING)
    assert report.results[0].declared_at == SourceLine(file="plan.yaml", line=9)


def test_a_ledger_without_plan_or_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no plan"):
        assemble_report(tmp_path, [], NOTHING)
    with pytest.raises(ConfigurationError, match="another version of auditor"):
        assemble_report(tmp_path, [Entry(kind="plan", body={"plan": {}})], NOTHING)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="run not found"):
        open_run(tmp_path)


def test_the_same_plan_goes_on_and_another_one_is_shown(tmp_path: Path) -> None:
    first, renamed = plan_entry(unit("a")), plan_entry(unit("a"), title="new")
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        begin(ledger, tmp_path, first, extend=False)
        begin(ledger, tmp_path, first, extend=False)
        assert len(ledger.entries) == 1
        with pytest.raises(PlanChanged, match="-title: ''; \\+title: new; add --extend"):
            begin(ledger, tmp_path, renamed, extend=False)
        begin(ledger, tmp_path, renamed, extend=True)
        assert len(ledger.entries) == 2
    assert "title: new" in (tmp_path / "plan.yaml").read_text()


def test_a_plan_that_was_not_written_before_a_kill_is_written_by_the_next_run(
    tmp_path: Path,
) -> None:
    """The ledger has it already."""
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        begin(ledger, tmp_path, plan_entry(unit("a")), extend=False)
        written = (tmp_path / "plan.yaml").read_bytes()
        (tmp_path / "plan.yaml").unlink()
        begin(ledger, tmp_path, plan_entry(unit("a")), extend=False)
        assert len(ledger.entries) == 1
    assert (tmp_path / "plan.yaml").read_bytes() == written


def test_a_changed_model_is_a_changed_plan(tmp_path: Path) -> None:
    before = plan_entry(unit("a"))
    after = plan_entry(unit("a").model_copy(update={"key": "other"}))
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        begin(ledger, tmp_path, before, extend=False)
        with pytest.raises(PlanChanged, match="model, data or environment changed for a"):
            begin(ledger, tmp_path, after, extend=False)


def test_answers_are_known_and_crashes_are_not(tmp_path: Path) -> None:
    assert known_keys(tmp_path) == set()
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        for name, verdict in (("a", Verdict.HOLDS), ("b", Verdict.ERROR), ("c", Verdict.UNKNOWN)):
            ledger.append("result", result(unit(name), verdict).body)
    assert known_keys(tmp_path) == {"key of a", "key of c"}


def test_another_policy_is_recorded_and_nothing_starts_anew(tmp_path: Path) -> None:
    """The folder's own thresholds are the last it was gated under."""
    strict = plan_entry(unit("a")).model_copy(
        update={"policy": Policy(fail_on=Severity.LOW), "started": NOW + timedelta(days=1)}
    )
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        begin(ledger, tmp_path, plan_entry(unit("a")), extend=False)
        assert "policy" not in ledger.entries[0].body
        assert policy_of(tmp_path, ledger.entries) == Policy()
        for _ in range(2):
            begin(ledger, tmp_path, strict, extend=False)
        assert len(ledger.entries) == 2
        report = assemble_report(tmp_path, ledger.entries, NOTHING)
        assert (report.gate.fail_on, report.timing.started) == (Severity.LOW, NOW)
        assert policy_of(tmp_path, ledger.entries).digest == report.gate.policy_digest
        begin(ledger, tmp_path, plan_entry(unit("a")), extend=False)
        assert policy_of(tmp_path, ledger.entries) == Policy()
