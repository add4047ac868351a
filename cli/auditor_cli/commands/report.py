"""`auditor report`: write reports of a run, finished or interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from auditor.errors import ConfigurationError
from auditor.files import write_atomically
from auditor.findings import AuditReport
from auditor_cli.options import (
    FILE,
    gate_options,
    json_option,
    option,
    parse_target,
    quiet_option,
)
from auditor_cli.output import Output
from auditor_cli.reporting import load_gated_run, write_reports
from auditor_reports.dossier.formats import DEFAULT_FORMATS, DOSSIER_WRITERS
from auditor_reports.registry import EVERY_WRITER, WRITERS, render
from auditor_reports.traced_text import Samples

FORMATS = [w.name for w in EVERY_WRITER]
UNASKED = [w.name for w in WRITERS]
DOSSIER_FORMATS = [w.name for w in DOSSIER_WRITERS]


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
              help="Format to write into the run's folder; repeatable (default: all but "
                   "pdf).")  # fmt: skip
@click.option("-o", "--output", "targets", multiple=True, metavar="FORMAT=FILE",
              help="Write a format to a file of your choice; repeatable.")  # fmt: skip
@option("--show-samples", is_flag=True,
        help="Show prompts and traced texts in full, in HTML, Markdown and PDF only; as far "
             "as the run kept them.")  # fmt: skip
@click.option("--framework", "frameworks", multiple=True, metavar="ID",
              help="Write a dossier of this framework into the run's folder; repeatable (names: "
                   "auditor list frameworks).")  # fmt: skip
@click.option("--framework-format", "framework_formats", multiple=True,
              type=click.Choice(DOSSIER_FORMATS),
              help="Format of dossiers; repeatable (default: html and markdown).")  # fmt: skip
@option("--applicability", "applicability_file", type=FILE,
        help="File with rows of frameworks that you declare as not applicable.")  # fmt: skip
@gate_options
@json_option
@quiet_option
def command(
    run: Path,
    formats: tuple[str, ...],
    targets: tuple[str, ...],
    show_samples: bool,
    frameworks: tuple[str, ...],
    framework_formats: tuple[str, ...],
    applicability_file: Path | None,
    policy_file: Path | None,
    waiver_file: Path | None,
    baseline: Path | None,
    fail_on: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Write reports of RUN (a run's folder). Always exits 0 when they were written.

    With --framework only dossiers are written, beside the formats that are asked for by name.

    auditor report fix RECORD writes the page of a repair instead.
    """
    output = Output(as_json, quiet)
    chosen = [parse_target(target, FORMATS, "report format") for target in targets]
    dossiers = _read_dossiers(frameworks, framework_formats, applicability_file)
    report = load_gated_run(run, policy_file, waiver_file, baseline, fail_on)
    # A dossier names the digest of audit.json, which therefore is written with it.
    inside = formats or (["json"] if frameworks else () if targets else UNASKED)
    samples = None
    if show_samples:
        _require_readable({*inside, *(name for name, _ in chosen)})
        samples = _samples_of(report, run, output)
    made = list(dossiers(report, output))
    written = write_reports(report, run, inside, samples) if inside else []
    for name, path in chosen:
        write_atomically(path, render(name, report, samples))
        written.append(path)
    for filename, content in made:
        write_atomically(run / filename, content)
        written.append(run / filename)
    for path in written:
        output.data(str(path))
        output.record({"written": str(path)})
    return 0


def _read_dossiers(
    frameworks: Sequence[str], formats: Sequence[str], applicability_file: Path | None
) -> Callable[[AuditReport, Output], Iterator[tuple[str, bytes]]]:
    """What makes the dossiers' files of a report; mappings and declarations are read before."""
    if not frameworks:
        if formats or applicability_file:
            name = "--framework-format" if formats else "--applicability"
            raise ConfigurationError(f"{name} belongs to a dossier; name one with --framework ID")
        return lambda report, output: iter(())
    from auditor_cli.frameworks import find_mappings, read_applicability
    from auditor_reports.dossier.build import build_dossier

    mappings, declared = find_mappings(frameworks), read_applicability(applicability_file)

    def files(report: AuditReport, output: Output) -> Iterator[tuple[str, bytes]]:
        for mapping in mappings:
            if set(mapping.aliases).intersection(frameworks):
                output.warn(f"{mapping.id}: {mapping.alias_note}")
            dossier = build_dossier(report, mapping, declared)
            for warning in dossier.warnings:
                output.warn(f"{mapping.id}: {warning}")
            for each in DOSSIER_WRITERS:
                if each.name in (formats or DEFAULT_FORMATS):
                    yield each.filename(mapping.id), each.render(dossier)

    return files


def _require_readable(formats: set[str]) -> None:
    readable = [each.name for each in EVERY_WRITER if each.render_in_full]
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
