"""What a run records besides its results: the parts of it that a mapping may name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from auditor.findings import AuditReport
from auditor_reports.dossier.mapping import RecordName
from auditor_reports.dossier.record import Fact
from auditor_reports.number_text import byte_size, iso_moment
from auditor_reports.standing import gaps


def run_facts(name: RecordName, report: AuditReport) -> tuple[Fact, ...]:
    """The named part of the run's record; empty where the run holds nothing of it."""
    return tuple(_PARTS[name](report))


def _commands(report: AuditReport) -> Iterator[Fact]:
    yield Fact(name="command", value=report.command)
    yield Fact(name="seed", value=str(report.seed))


def _data(report: AuditReport) -> Iterator[Fact]:
    found = {
        (f"data digest, {name}", digest)
        for result in report.results
        for name, digest in result.data_digests.items()
    }
    for name, digest in sorted(found):
        yield Fact(name=name, value=digest)


def _dates(report: AuditReport) -> Iterator[Fact]:
    yield Fact(name="run started", value=iso_moment(report.timing.started))
    yield Fact(name="run ended", value=iso_moment(report.timing.finished))


def _gaps(report: AuditReport) -> Iterator[Fact]:
    for number, text in enumerate(gaps(report), 1):
        yield Fact(name=f"not assessed, {number}", value=text)


def _limits(report: AuditReport) -> Iterator[Fact]:
    ran = {result.code for result in report.results if not result.verdict.is_open}
    for card in report.checks:
        if card.code in ran and card.pass_does_not_mean:
            yield Fact(name=f"what a pass of {card.code} does not mean",
                       value=card.pass_does_not_mean)  # fmt: skip


def _methods(report: AuditReport) -> Iterator[Fact]:
    ran = {result.code for result in report.results if not result.verdict.is_open}
    for card in report.checks:
        if card.code in ran and card.method:
            yield Fact(name=f"method of {card.code}, version {card.version}", value=card.method)


def _plan(report: AuditReport) -> Iterator[Fact]:
    yield Fact(name="plan", value=report.plan_title or report.plan)
    yield Fact(name="plan digest", value=report.plan_digest)


def _policy(report: AuditReport) -> Iterator[Fact]:
    yield Fact(name="policy digest", value=report.gate.policy_digest)
    yield Fact(name="findings fail from severity", value=str(report.gate.fail_on))


def _subjects(report: AuditReport) -> Iterator[Fact]:
    for subject in report.subjects:
        yield Fact(name=f"digest of {subject.name}", value=subject.digest)
        size = f"{subject.kind}, {byte_size(subject.size)}"
        yield Fact(name=f"kind and size of {subject.name}", value=size)


def _versions(report: AuditReport) -> Iterator[Fact]:
    yield Fact(name="auditor", value=report.environment.auditor)
    yield Fact(name="python", value=report.environment.python)
    for name, version in sorted(report.environment.libraries.items()):
        yield Fact(name=name, value=version)


def _waivers(report: AuditReport) -> Iterator[Fact]:
    for use in report.gate.waivers:
        yield Fact(
            name=f"waiver of {use.match}",
            value=f"{use.reason} (approved by {use.approved_by}, until {use.expires})",
        )


_PARTS: dict[RecordName, Callable[[AuditReport], Iterator[Fact]]] = {
    "commands": _commands,
    "data": _data,
    "dates": _dates,
    "gaps": _gaps,
    "limits": _limits,
    "methods": _methods,
    "plan": _plan,
    "policy": _policy,
    "subjects": _subjects,
    "versions": _versions,
    "waivers": _waivers,
}
