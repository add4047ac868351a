"""Reading a run's folder, writing its reports, and telling GitHub about it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from auditor.audit.run_directory import assemble_report, make_folder, open_run, plan_of
from auditor.files import write_atomically
from auditor.findings import AuditReport
from auditor_cli.options import read_acceptance, read_policy
from auditor_cli.output import Output
from auditor_reports.github import render_annotations
from auditor_reports.registry import WRITERS, render
from auditor_reports.traced_text import Samples


def load_gated_run(
    folder: Path,
    policy_file: Path | None = None,
    waiver_file: Path | None = None,
    baseline: Path | None = None,
    fail_on: str | None = None,
) -> AuditReport:
    """The report of a run's folder, gated as these options say."""
    entries = open_run(folder)
    policy = read_policy(policy_file, fail_on, plan_of(folder, entries).policy)
    return assemble_report(folder, entries, read_acceptance(waiver_file, baseline), policy)


def write_reports(
    report: AuditReport, folder: Path, formats: Sequence[str], samples: Samples | None = None
) -> list[Path]:
    """Write the named formats into the folder, always with `audit.json`; returns the files."""
    make_folder(folder)
    rendered = [
        (folder / writer.filename, render(writer.name, report, samples))
        for writer in WRITERS
        if writer.name in formats or writer.name == "json"
    ]
    for path, content in rendered:
        write_atomically(path, content)
    return [path for path, _ in rendered]


def announce_github(report: AuditReport, output: Output) -> None:
    """Annotations and step summary, only inside GitHub Actions."""
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    output.data(render_annotations(report))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("ab") as file:
            file.write(render("markdown", report))
