"""`auditor report`: write reports of a run, finished or interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

from auditor.errors import ConfigurationError, UnknownName
from auditor.files import write_atomically
from auditor.findings import AuditReport
from auditor_cli.options import (
    gate_options,
    json_option,
    option,
    quiet_option,
)
from auditor_cli.output import Output
from auditor_cli.reporting import load_gated_run, write_reports
from auditor_reports.registry import WRITERS, render, writer
from auditor_reports.traced_text import Samples

FORMATS = [w.name for w in WRITERS]


class RunOrRepair(click.RichCommand):
    """The command for a run's folder; `fix` as the first word is the one for a repair's record."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:  # fmt: skip
        """The context of the command that is meant."""
        if args[:1] == ["fix"]:
            from auditor_cli.commands.report_fix import command as of_repair

            return of_repair.make_context(f"{info_name} fix", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(name="report", cls=RunOrRepair)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", "formats", multiple=True, type=click.Choice(FORMATS),
              help="Format to write into the run's folder; repeatable (default: all).")  # fmt: skip
@click.option("-o", "--output", "targets", multiple=True, metavar="FORMAT=FILE",
              help="Write a format to a file of your choice; repeatable.")  # fmt: skip
@option("--show-samples", is_flag=True,
        help="Show prompts and traced texts in full, in HTML and Markdown only; as far as the "
             "run kept them.")  # fmt: skip
@gate_options
@json_option
@quiet_option
def command(
    run: Path,
    formats: tuple[str, ...],
    targets: tuple[str, ...],
    show_samples: bool,
    policy_file: Path | None,
    waiver_file: Path | None,
    baseline: Path | None,
    fail_on: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Write reports of RUN (a run's folder). Always exits 0 when they were written.

    auditor report fix RECORD writes the page of a repair instead.
    """
    output = Output(as_json, quiet)
    chosen = [_parse_target(target) for target in targets]
    report = load_gated_run(run, policy_file, waiver_file, baseline, fail_on)
    inside = formats or (() if targets else FORMATS)
    samples = None
    if show_samples:
        _require_readable({*inside, *(name for name, _ in chosen)})
        samples = _samples_of(report, run, output)
    written = write_reports(report, run, inside, samples) if inside else []
    for name, path in chosen:
        write_atomically(path, render(name, report, samples))
        written.append(path)
    for path in written:
        output.data(str(path))
        output.record({"written": str(path)})
    return 0


def _require_readable(formats: set[str]) -> None:
    readable = [each.name for each in WRITERS if each.render_in_full]
    if not formats.intersection(readable):
        raise ConfigurationError(
            f"--show-samples changes nothing in {', '.join(sorted(formats))}; ask for "
            f"{' or '.join(readable)}"
        )


def _samples_of(report: AuditReport, run: Path, output: Output) -> Samples:
    """The full texts the run kept; says which of them cannot be read."""
    from auditor.audit.ledger import EvidenceFolder
    from auditor.audit.run_directory import EVIDENCE
    from auditor.audit.samples import read_samples

    samples = read_samples(report, EvidenceFolder(run / EVIDENCE))
    if not samples:
        output.warn("--show-samples: this run kept no traced text in full")
    for problem in samples.values():
        if isinstance(problem, str):
            output.warn(f"not shown in full: {problem}")
    return samples


def _parse_target(target: str) -> tuple[str, Path]:
    name, sign, file = target.partition("=")
    if not sign or not file:
        raise ConfigurationError(f"--output '{target}' is not of the form FORMAT=FILE")
    if name not in FORMATS:
        raise UnknownName("report format", name, FORMATS)
    return writer(name).name, Path(file)
