"""`auditor baseline`: what a run had found, so that later only what is new or worse gates."""

from __future__ import annotations

from pathlib import Path

import rich_click as click
from rich.markup import escape

from auditor.audit.acceptance import Acceptance
from auditor.audit.baseline import Baseline, make_baseline
from auditor.audit.gate import Judgement, judge_run
from auditor.errors import ConfigurationError, InvalidText
from auditor.files import write_atomically
from auditor.findings import AuditReport
from auditor_cli.options import FILE, json_option, load_baseline, option, quiet_option
from auditor_cli.output import Output
from auditor_cli.reporting import load_gated_run, recorded_policy
from auditor_reports.audit_json import run_fingerprint
from auditor_reports.plain_json import plain_json
from auditor_reports.sanitise import one_line


@click.group(name="baseline")
def command() -> None:
    """Write what a run has found as a baseline, or show one."""


@command.command(name="create")
@click.argument("run", type=click.Path(path_type=Path))
@option("-o", "--output", "target", type=FILE, required=True,
        help="The baseline file to write; an older baseline there is replaced.")  # fmt: skip
@option("--policy", "policy_file", type=FILE, envvar="AUDITOR_POLICY",
        help="Policy whose missed thresholds are recorded (default: the run's).")  # fmt: skip
@json_option
@quiet_option
def create(run: Path, target: Path, policy_file: Path | None, as_json: bool, quiet: bool) -> int:
    """Write what RUN (a run's folder) has found to a file for --baseline."""
    output = Output(as_json, quiet)
    _refuse_other_file(target)
    report = load_gated_run(run, policy_file)
    baseline = make_baseline(report, run_fingerprint(report))
    write_atomically(target, plain_json(baseline))
    if not report.complete:
        output.warn(f"note: {run} has not ended; what it finds later will count as new")
    _warn_of_critical(baseline, output)
    output.data(f"{target}: {len(baseline.known)} known")
    output.record({"written": str(target), "known": len(baseline.known), "run": baseline.run})
    return 0


def _refuse_other_file(target: Path) -> None:
    if not target.exists():
        return
    try:
        load_baseline(target)
    except (ConfigurationError, InvalidText):
        raise ConfigurationError(
            f"{target} exists and is no baseline; name another file with --output"
        ) from None


def _warn_of_critical(baseline: Baseline, output: Output) -> None:
    critical = sum(point.severity == "critical" for point in baseline.known)
    if critical:
        output.warn(f"note: {critical} of these are critical; they gate all the same")


@command.command(name="show")
@click.argument("file", type=click.Path(path_type=Path))
@option("--against", "run", type=click.Path(path_type=Path),
        help="Say of each entry whether this run still has it.")  # fmt: skip
@json_option
def show(file: Path, run: Path | None, as_json: bool) -> int:
    """Print what a baseline FILE holds; an earlier run will do as well. Always exits 0."""
    output = Output(as_json)
    baseline = load_baseline(file)
    states, fresh = _compare(baseline, run) if run else ({}, [])
    rows = []
    for number, point in enumerate(baseline.known):
        state = states.get(number, "") if run else ""
        rows.append((*([state] if run else []), str(point.severity), escape(one_line(point.result)),
                     escape(one_line(point.title, 200)), point.fingerprint))  # fmt: skip
        output.record(point.model_dump(mode="json") | ({"state": state} if run else {}))
    heads = ("severity", "check", "what", "fingerprint")
    output.table(("state", *heads) if run else heads, rows)
    for severity, result, text, mark in fresh:
        output.record({"state": "gates", "severity": severity, "result": result, "title": text,
                       "fingerprint": mark})  # fmt: skip
        output.data(f"gates: {severity}: {one_line(result)}: {one_line(text, 200)}")
    made = baseline.run_finished.date()
    output.data(f"{len(baseline.known)} known, of plan {baseline.plan}, run {made} "
                f"({baseline.run[:19]}...)")  # fmt: skip
    for model in baseline.models:
        output.data(f"model {one_line(model.name)}: {one_line(model.digest)}")
    output.record(baseline.model_dump(mode="json", exclude={"known"}))
    return 0


def _compare(
    baseline: Baseline, run: Path
) -> tuple[dict[int, str], list[tuple[str, str, str, str]]]:
    """The state of each known point by its number, and what the run has that gates."""
    report = load_gated_run(run)
    judged = _judge(report, baseline, run)
    gone = list(judged.gone)
    states = {}
    for number, point in enumerate(baseline.known):
        found = next((each for each in gone if each[0] == point), None)
        if found is None:
            states[number] = "known"
            continue
        gone.remove(found)
        states[number] = "fixed" if found[1] else "no answer"
    fresh = [
        (str(row.severity), row.result, row.text, row.fingerprint)
        for row in judged.decision.rows
        if row.fingerprint and row.status == "fail"
    ]
    return states, fresh


def _judge(report: AuditReport, baseline: Baseline, run: Path) -> Judgement:
    acceptance = Acceptance((), baseline.by_fingerprint(), report.timing.finished.date())
    return judge_run(report.results, report.subjects, recorded_policy(run), acceptance)
