"""`auditor diff` as a user runs it: two runs, with and without their ledgers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from auditor.audit.comparison import Comparison, compare_reports
from auditor.audit.comparison.renaming import names_by_subject, rename_results
from auditor.findings import AuditReport, Verdict
from auditor_reports.audit_json import render_json, run_fingerprint
from auditor_reports.comparison.page import render_comparison
from tests.functional.command import Ended, auditor
from tests.golden.sample_comparison import sample_successor
from tests.golden.sample_report import DIGITS, sample_report
from tests.models import written_run
from tests.unit.reports.hostile_report import poisoned


def write_run(folder: Path, report: AuditReport) -> None:
    """A run's folder of which only `audit.json` was kept."""
    folder.mkdir()
    (folder / "audit.json").write_bytes(render_json(report))


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `v1` and `v2`; do not write to it."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "v1", sample_report())
    write_run(folder / "v2", sample_successor())
    return folder


def records(ended: Ended) -> list[dict[str, object]]:
    """The JSON lines it printed."""
    return [json.loads(line) for line in ended.out.splitlines()]


def test_what_changed_is_listed_with_what_is_incomparable_first(two_runs: Path) -> None:
    """A row for each change, and a last line that counts."""
    ended = auditor("diff", "v1", "v2", cwd=two_runs)
    comparison = compare_reports(sample_report(), sample_successor())
    rows = ended.out.splitlines()
    assert ended.code == 0
    assert rows[1].startswith("not comparable ")
    assert len(rows) == 1 + len(comparison.changes) + 1
    assert rows[-1] == comparison.summary


def test_json_lines_hold_every_change_and_the_counts(two_runs: Path) -> None:
    """And nothing else; stderr is empty."""
    ended = auditor("diff", "v1", "v2", "--json", cwd=two_runs)
    comparison = compare_reports(sample_report(), sample_successor())
    *changes, last = records(ended)
    assert changes == [json.loads(each.model_dump_json()) for each in comparison.changes]
    assert last == {"summary": comparison.summary, "counts": comparison.counts}
    assert ended.err == ""


def test_a_file_may_stand_for_its_run(two_runs: Path) -> None:
    """An `audit.json` that a build kept."""
    by_folder = auditor("diff", "v1", "v2", cwd=two_runs)
    by_file = auditor("diff", "v1/audit.json", "v2/audit.json", cwd=two_runs)
    assert by_file == by_folder


@pytest.mark.parametrize("kind", ["new", "unchanged", "metric"])
def test_only_one_kind_is_listed_when_asked(two_runs: Path, kind: str) -> None:
    """As many as are counted, unchanged ones too."""
    *changes, last = records(auditor("diff", "v1", "v2", "--only", kind, "--json", cwd=two_runs))
    counts = last["counts"]
    assert isinstance(counts, dict)
    assert len(changes) == counts[kind] > 0


def test_files_hold_the_whole_comparison(two_runs: Path, tmp_path: Path) -> None:
    """Whatever is listed, with the fingerprints of both runs."""
    targets = [("html", "c.html"), ("json", "c.json"), ("markdown", "c.md")]
    options = [part for name, file in targets for part in ("-o", f"{name}={tmp_path / file}")]
    ended = auditor("diff", "v1", "v2", "--only", "new", *options, "-q", cwd=two_runs)
    seals = run_fingerprint(sample_report()), run_fingerprint(sample_successor())
    comparison = compare_reports(sample_report(), sample_successor(), seals)
    assert ended.code == 0
    assert (tmp_path / "c.html").read_bytes() == render_comparison(comparison)
    written = (tmp_path / "c.json").read_text("utf-8")
    assert Comparison.model_validate_json(written) == comparison
    assert seals[0] in (tmp_path / "c.md").read_text("utf-8")


def test_the_exit_code_says_worse_only_when_asked(two_runs: Path) -> None:
    """0 otherwise, and 0 where nothing is worse."""
    assert auditor("diff", "v1", "v2", cwd=two_runs).code == 0
    assert auditor("diff", "v1", "v2", "--exit-code", cwd=two_runs).code == 1
    assert auditor("diff", "v1", "v1", "--exit-code", cwd=two_runs).code == 0


def test_a_folder_is_compared_as_it_was_decided(tmp_path: Path) -> None:
    """With its `audit.json` and without; an interrupted run is named as not complete."""
    results = [
        written_run.made_result("AUD101", Verdict.HOLDS),
        written_run.made_result("AUD202", Verdict.VIOLATED),
    ]
    written_run.write_run(tmp_path / "whole", results)
    ledger = (tmp_path / "whole/ledger.jsonl").read_bytes()
    (tmp_path / "ledger-only").mkdir()
    (tmp_path / "ledger-only/ledger.jsonl").write_bytes(ledger)
    (tmp_path / "part").mkdir()
    *lines, last = ledger.splitlines(keepends=True)
    (tmp_path / "part/ledger.jsonl").write_bytes(b"".join(lines) + last[:70])
    same = auditor("diff", "whole", "ledger-only", cwd=tmp_path)
    assert same.out.splitlines()[-1].endswith("0 new and 0 fixed findings, 0 differences")
    caveat, finding, verdict, _ = records(auditor("diff", "whole", "part", "--json", cwd=tmp_path))
    assert (caveat["what"], caveat["new"]) == ("run", "not complete")
    assert finding["status"] == "unanswered"
    assert (verdict["old"], verdict["new"]) == ("violated", "skipped")


def test_the_waivers_a_run_was_decided_with_count(tmp_path: Path) -> None:
    """They stand in its `audit.json`; a ledger that is newer by its time alone changes nothing."""
    report = written_run.write_run(
        tmp_path / "run", [written_run.made_result("AUD202", Verdict.VIOLATED)]
    )
    (row,) = report.gate.rows
    gate = report.gate.model_copy(
        update={"rows": (row.model_copy(update={"status": "waived"}),), "verdict": "pass"}
    )
    waived = report.model_copy(update={"gate": gate})
    (tmp_path / "run/audit.json").write_bytes(render_json(waived))
    os.utime(tmp_path / "run/audit.json", (0, 0))
    write_run(tmp_path / "kept", report)
    (change,) = records(
        auditor("diff", "run", "kept", "--only", "standing", "--json", cwd=tmp_path)
    )[:-1]
    assert (change["old_standing"], change["new_standing"]) == ("waived", "fail")


def test_a_subject_may_have_got_another_name(two_runs: Path, tmp_path: Path) -> None:
    """Of several subjects the pair is told: only then do its findings match."""
    report = sample_report()
    names = names_by_subject(report, {DIGITS: "digits-2"})
    write_run(tmp_path / "renamed", rename_results(report, names))
    runs = (two_runs / "v1", tmp_path / "renamed")
    untold = auditor("diff", *runs, cwd=tmp_path)
    assert "0 new and 0 fixed findings" not in untold.out.splitlines()[-1]
    told = auditor("diff", *runs, "--subject", f"{DIGITS}=digits-2", cwd=tmp_path)
    assert told.out.splitlines()[-1].endswith("0 new and 0 fixed findings, 0 differences")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("v1", "nowhere"), "nowhere"),
        (("v1", "v2", "-o", "html"), "FORMAT=FILE"),
        (("v1", "v2", "-o", "pdf=x"), "pdf"),
        (("v1", "v2", "--only", "better"), "better"),
        (("v1", "v2", "--subject", "a"), "OLD=NEW"),
        (("v1", "v2", "--subject", "nobody=a"), "subject of the old run 'nobody'"),
    ],
)
def test_what_cannot_be_compared_is_named(
    two_runs: Path, arguments: tuple[str, ...], named: str
) -> None:
    """One line, code 2, nothing on stdout."""
    ended = auditor("diff", *arguments, cwd=two_runs)
    assert (ended.code, ended.out) == (2, "")
    assert named in ended.err


def test_hostile_texts_reach_no_terminal(tmp_path: Path) -> None:
    """Escapes are spelt out, markup of tables is shown as it is, no line begins a command."""
    write_run(tmp_path / "plain", sample_report())
    write_run(tmp_path / "hostile", poisoned("\x1b[31m[bold]x[/bold]\n::error::y"))
    ended = auditor("diff", "plain", "hostile", cwd=tmp_path)
    assert ended.code == 0
    assert "\x1b" not in ended.out
    assert "[bold]x[/bold]" in ended.out
    assert not [line for line in ended.out.splitlines() if line.startswith("::")]
