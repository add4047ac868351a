"""`auditor runs`: list, show, remove, sign and verify runs."""

from __future__ import annotations

from pathlib import Path

import rich_click as click
from rich.markup import escape

from auditor_cli.confirming import may_remove, yes_option
from auditor_cli.exit_codes import ExitCode
from auditor_cli.options import FILE, json_option, option, quiet_option
from auditor_cli.output import Output
from auditor_reports.sanitise import one_line

RUN = click.Path(path_type=Path)


@click.group(name="runs")
def command() -> None:
    """List runs, show or remove one, sign one or verify its signature."""


@command.command(name="list")
@click.argument("folder", type=RUN, default=Path("auditor-runs"))
@json_option
def list_(folder: Path, as_json: bool) -> int:
    """Print the runs below FOLDER (default: auditor-runs). Always exits 0."""
    from auditor.audit.runs import list_runs

    output = Output(as_json)
    runs = list_runs(folder)
    rows = []
    for run in runs:
        report = run.report
        verdict = report.gate.verdict if report else "unreadable"
        complete = report.complete if report else False
        rows.append((
            escape(one_line(str(run.folder))),
            escape(one_line(report.plan)) if report else "",
            f"{run.started:%Y-%m-%d %H:%M}" if run.started else "",
            verdict if complete or not report else f"{verdict}, not ended",
            f"{run.size / 1e6:.1f} MB",
        ))  # fmt: skip
        output.record({
            "folder": str(run.folder), "plan": report.plan if report else None,
            "started": run.started.isoformat() if run.started else None, "gate": verdict,
            "complete": complete, "bytes": run.size, "problem": run.problem,
        })  # fmt: skip
    output.table(("folder", "plan", "started", "gate", "size"), rows)
    for run in runs:
        if run.problem:
            output.warn(f"note: {run.problem}")
    output.data(f"{len(runs)} runs")
    return 0


@command.command(name="show")
@click.argument("run", type=RUN)
@json_option
def show(run: Path, as_json: bool) -> int:
    """Print what RUN asked and found, gated under its own policy. Always exits 0."""
    from auditor.audit.runs import own_report
    from auditor_reports.audit_json import run_fingerprint

    output = Output(as_json)
    report = own_report(run)
    facts = {
        "plan": report.plan,
        "title": report.plan_title,
        "started": report.timing.started.isoformat(),
        "command": report.command,
        "complete": "yes" if report.complete else "no; issue the command again to go on",
        "plan digest": report.plan_digest,
        "policy digest": report.gate.policy_digest,
        "run fingerprint": run_fingerprint(report),
    }
    facts |= {f"model {subject.name}": subject.digest for subject in report.subjects}
    for name, value in facts.items():
        if value:
            output.data(f"{one_line(name)}: {one_line(value)}")
    output.results(report.results)
    output.decision(report.gate)
    output.record({
        **facts, "complete": report.complete, "gate": report.gate.verdict,
        "exit_code": report.gate.exit_code, "counts": report.gate.counts,
        "results": {result.id: str(result.verdict) for result in report.results},
    })  # fmt: skip
    return 0


@command.command(name="rm")
@click.argument("run", type=RUN)
@yes_option
@json_option
def rm(run: Path, yes: bool, as_json: bool) -> int:
    """Remove RUN with its evidence. Refuses a folder that is no run or holds other files."""
    from auditor.audit.runs import check_removable, remove_run
    from auditor_reports.dossier.formats import DOSSIER_WRITERS
    from auditor_reports.registry import EVERY_WRITER

    output = Output(as_json)
    reports = {writer.filename for writer in EVERY_WRITER}
    reports |= {writer.filename("*") for writer in DOSSIER_WRITERS}
    check_removable(run, reports)
    if not may_remove(f"{run} with its evidence", output, yes=yes):
        return 0
    remove_run(run, reports)
    output.data(f"removed {run}")
    output.record({"removed": str(run)})
    return 0


@command.command(name="sign")
@click.argument("run", type=RUN)
@option("--private-key", type=FILE, required=True,
        help="PEM file, unencrypted, on the curve P-256, P-384 or P-521.")  # fmt: skip
@option("--signature", type=FILE, help="File to write (default: RUN.sig beside the folder).")
@json_option
@quiet_option
def sign(run: Path, private_key: Path, signature: Path | None, as_json: bool, quiet: bool) -> int:
    """Sign every file of RUN with your own key; nothing leaves the machine.

    The signature says that the key's owner vouches for these files, not that what they say is
    right.
    """
    from auditor.audit.signing import sign_run, signature_path

    output = Output(as_json, quiet)
    target = signature or signature_path(run)
    count = sign_run(run, private_key, target)
    output.data(f"{target}: {count} files signed")
    output.record({"signature": str(target), "files": count})
    return 0


@command.command(name="verify")
@click.argument("run", type=RUN)
@option("--public-key", type=FILE, required=True,
        help="PEM file, the other half of the key it was signed with.")  # fmt: skip
@option("--signature", type=FILE, help="The signature (default: RUN.sig beside the folder).")
@json_option
@quiet_option
def verify(run: Path, public_key: Path, signature: Path | None, as_json: bool, quiet: bool) -> int:
    """Check that RUN is, file for file, what was signed. Exits 1 when it is not."""
    from auditor.audit.signing import signature_path, verify_run

    output = Output(as_json, quiet)
    source = signature or signature_path(run)
    found = verify_run(run, public_key, source)
    output.record({
        "valid": found.valid, "files": found.files, "signature": str(source),
        "problem": found.problem,
    })  # fmt: skip
    if not found.valid:
        output.warn(f"{run} does not fit {source}: {found.problem}")
        output.styled("signature: does not fit", "bold red")
        return ExitCode.FAILED
    output.styled(f"signature: fits, {found.files} files", "bold green")
    return ExitCode.PASSED
