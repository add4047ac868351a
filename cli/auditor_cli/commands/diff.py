"""`auditor diff`: what changed between two runs."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from auditor.audit.comparison import compare_reports
from auditor_cli.options import json_option
from auditor_cli.output import Output
from auditor_cli.reporting import load_gated_run


@click.command(name="diff")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@json_option
def command(old: Path, new: Path, as_json: bool) -> int:
    """Compare two runs: verdicts, findings and metrics. Always exits 0."""
    output = Output(as_json)
    comparison = compare_reports(load_gated_run(old), load_gated_run(new))
    output.table(
        ("change", "check", "old", "new"),
        [(change.kind, change.result, change.old, change.new) for change in comparison.changes],
    )
    output.data(comparison.summary)
    for change in comparison.changes:
        output.record(change.model_dump(mode="json"))
    output.record({"summary": comparison.summary})
    return 0
