"""`auditor report`: write reports of a run, finished or interrupted."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from auditor.errors import ConfigurationError, UnknownName
from auditor.files import write_atomically
from auditor_cli.options import (
    gate_options,
    json_option,
    quiet_option,
)
from auditor_cli.output import Output
from auditor_cli.reporting import load_gated_run, write_reports
from auditor_reports.registry import WRITERS, render, writer

FORMATS = [w.name for w in WRITERS]


@click.command(name="report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", "formats", multiple=True, type=click.Choice(FORMATS),
              help="Format to write into the run's folder; repeatable (default: all).")  # fmt: skip
@click.option("-o", "--output", "targets", multiple=True, metavar="FORMAT=FILE",
              help="Write a format to a file of your choice; repeatable.")  # fmt: skip
@gate_options
@json_option
@quiet_option
def command(
    run: Path,
    formats: tuple[str, ...],
    targets: tuple[str, ...],
    policy_file: Path | None,
    waiver_file: Path | None,
    baseline: Path | None,
    fail_on: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Write reports of RUN (a run's folder). Always exits 0 when they were written."""
    output = Output(as_json, quiet)
    chosen = [_parse_target(target) for target in targets]
    report = load_gated_run(run, policy_file, waiver_file, baseline, fail_on)
    written = write_reports(report, run, formats or FORMATS) if formats or not targets else []
    for name, path in chosen:
        write_atomically(path, render(name, report))
        written.append(path)
    for path in written:
        output.data(str(path))
        output.record({"written": str(path)})
    return 0


def _parse_target(target: str) -> tuple[str, Path]:
    name, sign, file = target.partition("=")
    if not sign or not file:
        raise ConfigurationError(f"--output '{target}' is not of the form FORMAT=FILE")
    if name not in FORMATS:
        raise UnknownName("report format", name, FORMATS)
    return writer(name).name, Path(file)
