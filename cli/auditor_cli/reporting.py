"""Reading a run's folder, writing its reports, and telling GitHub about it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from auditor.audit.policy import Policy
from auditor.audit.run_directory import assemble_report, make_folder, open_run, policy_of
from auditor.errors import OperationFailed
from auditor.files import write_atomically
from auditor.findings import AuditReport
from auditor_cli.options import read_acceptance, read_policy
from auditor_cli.output import Output
from auditor_reports.github import render_annotations, render_outputs, render_step_summary
from auditor_reports.registry import EVERY_WRITER, render
from auditor_reports.traced_text import Samples

ANNOTATIONS = "AUDITOR_GITHUB_ANNOTATIONS"


def load_gated_run(
    folder: Path,
    policy_file: Path | None = None,
    waiver_file: Path | None = None,
    baseline: Path | None = None,
    fail_on: str | None = None,
) -> AuditReport:
    """The report of a run's folder, gated as these options say."""
    entries = open_run(folder)
    policy = read_policy(policy_file, fail_on, policy_of(folder, entries))
    return assemble_report(folder, entries, read_acceptance(waiver_file, baseline), policy)


def recorded_policy(folder: Path, policy_file: Path | None = None) -> Policy:
    """The policy of a file, or the one a run was gated under."""
    return read_policy(policy_file, None, policy_of(folder, open_run(folder)))


def write_reports(
    report: AuditReport, folder: Path, formats: Sequence[str], samples: Samples | None = None
) -> list[Path]:
    """Write the named formats into the folder, always with `audit.json`; returns the files."""
    make_folder(folder)
    rendered = [
        (folder / writer.filename, render(writer.name, report, samples))
        for writer in EVERY_WRITER
        if writer.name in formats or writer.name == "json"
    ]
    for path, content in rendered:
        write_atomically(path, content)
    return [path for path, _ in rendered]


def announce_github(report: AuditReport, output: Output) -> None:
    """Annotations, step summary and outputs of the step, only inside GitHub Actions.

    Annotations go to the log, or to the file that `AUDITOR_GITHUB_ANNOTATIONS` names: a
    workflow that stops commands while the log of an audit is printed prints them afterwards.

    Raises:
        OperationFailed: One of the files that the environment names cannot be written.
    """
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    annotations = render_annotations(report)
    if os.environ.get(ANNOTATIONS):
        _append(ANNOTATIONS, lambda _: annotations.encode())
    elif annotations:
        output.text(annotations.removesuffix("\n"))
    _append("GITHUB_STEP_SUMMARY", lambda taken: render_step_summary(report, taken))
    _append("GITHUB_OUTPUT", lambda _: render_outputs(report).encode())


def _append(variable: str, content: Callable[[int], bytes]) -> None:
    """Append to the file that a variable names what follows from the bytes it already holds."""
    name = os.environ.get(variable)
    if not name:
        return
    try:
        with Path(name).open("ab") as file:
            file.write(content(file.seek(0, os.SEEK_END)))
    except OSError as error:
        reason = error.strerror or str(error)
        raise OperationFailed(
            f"cannot write {name}: {reason}; {variable} must name a file that can be written"
        ) from None
