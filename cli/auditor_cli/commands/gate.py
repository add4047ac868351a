"""`auditor gate`: apply policy, waivers and baseline to a finished run."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from auditor_cli.exit_codes import soften
from auditor_cli.options import (
    gate_options,
    json_option,
    quiet_option,
    soften_options,
)
from auditor_cli.output import Output
from auditor_cli.reporting import announce_github, load_gated_run


@click.command(name="gate")
@click.argument("run", type=click.Path(path_type=Path))
@gate_options
@soften_options
@json_option
@quiet_option
def command(
    run: Path,
    policy_file: Path | None,
    waiver_file: Path | None,
    baseline: Path | None,
    fail_on: str | None,
    exit_zero: bool,
    allow_inconclusive: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Decide whether the release of RUN (a run's folder) may go out.

    Needs neither the model nor an accelerator, and changes nothing in the folder.
    """
    output = Output(as_json, quiet)
    report = load_gated_run(run, policy_file, waiver_file, baseline, fail_on)
    output.decision(report.gate)
    output.record(report.gate.model_dump(mode="json"))
    announce_github(report, output)
    return soften(report.gate.exit_code, exit_zero=exit_zero, allow_inconclusive=allow_inconclusive)
