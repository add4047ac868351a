"""One audit from start to end: resolve, look, estimate, run what is missing, commit.

Issuing the same audit again in the same folder resumes it: results that are committed
and whose key is unchanged are not computed again. Workers only compute; this process
alone writes the ledger, so killing it at any moment leaves a run that resumes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from auditor.audit import run_directory
from auditor.audit.answer_cache import AnswerCache
from auditor.audit.environment import describe_environment
from auditor.audit.gate import REFUSED_FACT, Acceptance
from auditor.audit.ledger import EvidenceFolder, Ledger
from auditor.audit.leftovers import remove_unfinished
from auditor.audit.observer import Observer, SilentObserver
from auditor.audit.plan import LoadedPlan, expand_subjects
from auditor.audit.policy import Policy
from auditor.audit.run_directory import PlanEntry, assemble_report
from auditor.audit.units import (
    Preparation,
    Unit,
    UnitAnswer,
    prepare_unit,
    resolve_units,
    run_unit,
)
from auditor.check import Check, Subject
from auditor.errors import AuditorError, ConfigurationError, NothingToAudit
from auditor.executor import Executor, LocalExecutor, Outcome, WorkUnit
from auditor.findings import (
    Answer,
    AuditReport,
    CheckResult,
    Environment,
    SubjectRecord,
    Timing,
    Verdict,
    fingerprint,
)
from auditor.models.first_load import crash_of
from auditor.models.session import resolve_device
from auditor.models.subject_files import ModelKind, look_at
from auditor.redaction import redact_answer
from auditor.registry import all_checks

# A check stops by itself at its limit; the process is killed this much later.
HARD_STOP_FACTOR, HARD_STOP_GRACE_S = 1.25, 20.0
PREPARE_LIMIT_S = 120.0
FILE_SAFETY = "AUD101"


@dataclass(frozen=True)
class AuditRequest:
    """Everything an audit is asked for.

    Attributes:
        loaded: The plan.
        folder: The run's folder.
        command: The command that repeats this audit, for the report.
        only: Codes or ids of the checks to run; empty means all.
        max_time_s: Checks still running or waiting after this many seconds are left
            for the next time the audit is issued.
        cache: Answers of earlier runs, and where new ones are kept; None for neither.
    """

    loaded: LoadedPlan
    folder: Path
    command: str
    acceptance: Acceptance
    policy: Policy | None = None
    only: tuple[str, ...] = ()
    device: str | None = None
    workers: int = 1
    threads: int = 1
    max_time_s: float = float("inf")
    extend: bool = False
    cache: AnswerCache | None = None
    observer: Observer = field(default_factory=SilentObserver)


@dataclass(frozen=True)
class ResolvedAudit:
    """A request after everything that can be wrong before the run was looked at."""

    units: tuple[Unit, ...]
    wanted: tuple[Unit, ...]
    subjects: tuple[SubjectRecord, ...]
    environment: Environment
    checks: dict[str, Check[Any]]
    notices: tuple[str, ...]

    @property
    def refused(self) -> dict[str, str]:
        """Subjects that must not be opened, with the reason."""
        return {s.name: s.facts[REFUSED_FACT] for s in self.subjects if REFUSED_FACT in s.facts}


def run_audit(request: AuditRequest) -> AuditReport:
    """Run what is not yet known and return the report.

    Raises:
        ConfigurationError: The plan does not fit its models or data; nothing was written.
        NothingToAudit: No check matched; nothing was written.
        OperationFailed: The disk failed; the ledger is consistent.
        KeyboardInterrupt: Interrupted; the ledger is consistent and the run resumes.
    """
    executor = LocalExecutor(request.workers, request.threads, request.observer.progressed)
    try:
        resolved = resolve_audit(request, executor)
        run_directory.make_folder(request.folder)
        with Ledger(request.folder / run_directory.LEDGER) as ledger:
            run_directory.begin(
                ledger, request.folder, _plan_entry(request, resolved), extend=request.extend
            )
            remove_unfinished(request.folder)
            _run_missing(request, resolved, ledger, executor)
            return assemble_report(
                request.folder, ledger.entries, request.acceptance, request.policy
            )
    finally:
        executor.close()


def resolve_audit(request: AuditRequest, executor: Executor) -> ResolvedAudit:
    """Look at plan, models and data, and write nothing.

    Raises:
        ConfigurationError: Something does not fit, with its place.
        NothingToAudit: `only` matches no check.
    """
    if request.cache:
        request.cache.is_there()  # another folder is refused before any work
    checks = all_checks()
    device = resolve_device(request.device or request.loaded.plan.device)
    environment = describe_environment(device, request.threads)
    # First loads happen in processes of their own, so that threads are enough.
    with ThreadPoolExecutor(max(1, request.workers)) as pool:
        look = partial(_look_at, request.loaded.folder)
        records = list(pool.map(lambda found: look(*found), expand_subjects(request.loaded)))
    subjects = [subject for subject, _ in records]
    units = resolve_units(request.loaded, subjects, checks, environment)
    wanted = [unit for unit in units if not request.only or _is_wanted(unit, request.only)]
    if not wanted:
        raise NothingToAudit(
            f"no check of {request.loaded.file} matches {', '.join(request.only)}; it has "
            f"{', '.join(sorted({unit.record.code for unit in units}))}"
        )
    refused = {record.name for _, record in records if REFUSED_FACT in record.facts}
    known = run_directory.known_keys(request.folder)
    unseen = [
        unit for unit in wanted
        if unit.subject.name not in refused and unit.record.key not in known
        and not (request.cache and request.cache.holds(unit.record.key))
    ]  # fmt: skip
    notices = _prepare(unseen, executor)
    return ResolvedAudit(
        units=tuple(units),
        wanted=tuple(wanted),
        subjects=tuple(record for _, record in records),
        environment=environment,
        checks=checks,
        notices=tuple(notices),
    )


def _is_wanted(unit: Unit, only: Iterable[str]) -> bool:
    names = {unit.record.code, unit.record.id, unit.record.id.split(":", 1)[0]}
    return any(name in names for name in only)


def _look_at(folder: Path, name: str, path: Path, kind: ModelKind) -> tuple[Subject, SubjectRecord]:
    """A subject and its record; one that must not be opened carries the reason."""
    files = look_at(path, kind)
    if files.refusal is None:
        files = replace(files, refusal=crash_of(path, kind))
    facts = {} if files.refusal is None else {REFUSED_FACT: str(files.refusal)}
    shown = path.relative_to(folder) if path.is_relative_to(folder) else path
    record = SubjectRecord(
        name=name, path=str(shown), kind=kind, digest=files.digest, size=files.size, facts=facts
    )
    return Subject(name=name, path=path.resolve(), kind=kind, digest=files.digest), record


def _prepare(units: Sequence[Unit], executor: Executor) -> list[str]:
    """Let every check look at its subject in a worker; returns what to tell the user.

    Raises:
        ConfigurationError: The first unit, in plan order, that cannot be asked.
    """
    for unit in units:
        executor.submit(WorkUnit(unit.record.id, prepare_unit, unit, PREPARE_LIMIT_S))
    outcomes = {outcome.id: outcome for outcome in executor.as_completed()}
    notices = []
    for unit in units:
        outcome = outcomes[unit.record.id]
        found = outcome.value if outcome.status == "done" else None
        if not isinstance(found, Preparation):
            notices.append(f"{unit.record.id}: looking at it ended with {outcome.status}")
        elif found.status == "configuration":
            place = unit.record.declared_at
            raise ConfigurationError(f"{place.file}:{place.line}: {found.message}")
        elif found.status != "ready":
            notices.append(f"{unit.record.id}: {found.message}")
    return notices


def _plan_entry(request: AuditRequest, resolved: ResolvedAudit) -> PlanEntry:
    loaded = request.loaded
    return PlanEntry(
        plan=loaded.plan,
        plan_file=loaded.file,
        plan_digest=loaded.digest,
        command=request.command,
        environment=resolved.environment,
        subjects=resolved.subjects,
        cards=tuple(check.card() for _, check in sorted(resolved.checks.items())),
        units=tuple(unit.record for unit in resolved.units),
        started=datetime.now(UTC),
        policy=None if request.policy in (None, loaded.plan.policy) else request.policy,
    )


def _run_missing(
    request: AuditRequest, resolved: ResolvedAudit, ledger: Ledger, executor: Executor
) -> None:
    known = run_directory.answered_keys(ledger.entries)
    missing = [unit for unit in resolved.wanted if unit.record.key not in known]
    request.observer.planned(
        len(resolved.wanted),
        len(resolved.wanted) - len(missing),
        estimate_seconds(missing, request.workers),
    )
    for notice in resolved.notices:
        request.observer.noticed(notice)
    waiting = {unit.record.id: unit for unit in missing}
    for unit in missing:
        reason = resolved.refused.get(unit.subject.name)
        if reason and unit.record.code != FILE_SAFETY:
            _commit(request, ledger, waiting.pop(unit.record.id), _skipped(reason))
        elif reused := _reused(request, unit):
            _commit(request, ledger, waiting.pop(unit.record.id), reused)
        else:
            executor.submit(_work_unit(unit, request.folder / run_directory.EVIDENCE))
    deadline = time.monotonic() + request.max_time_s
    for outcome in executor.as_completed():
        if outcome.status != "cancelled":
            _commit(request, ledger, waiting.pop(outcome.id), outcome)
        if time.monotonic() > deadline:
            for unit_id in waiting:
                executor.cancel(unit_id)


def estimate_seconds(units: Sequence[Unit], workers: int) -> float:
    """Rough wall-clock seconds for these units; an estimate, never a verdict."""
    return sum(unit.estimate_s for unit in units) / max(1, workers)


def _work_unit(unit: Unit, evidence: Path) -> WorkUnit:
    return WorkUnit(
        id=unit.record.id,
        function=run_unit,
        argument=(unit, evidence),
        time_limit_s=unit.limits.time_s * HARD_STOP_FACTOR + HARD_STOP_GRACE_S,
        memory_limit_mb=unit.limits.memory_mb,
        reports_progress=True,
    )


def _skipped(reason: str) -> Outcome:
    answer = Answer(verdict=Verdict.SKIPPED, summary="Not opened", reason=reason)
    return Outcome("", "done", UnitAnswer(answer))


def _reused(request: AuditRequest, unit: Unit) -> Outcome | None:
    """What an earlier run found out, if it is kept."""
    if request.cache is None:
        return None
    answer = request.cache.take(unit.record.key, _evidence(request))
    return None if answer is None else Outcome("", "done", UnitAnswer(answer))


def _keep(request: AuditRequest, result: CheckResult) -> None:
    """Keep an answer for later runs; a cache that cannot be written stops no audit."""
    if request.cache is None:
        return
    origin = (
        f"the run of {request.loaded.plan.name!r} in {request.folder}, "
        f"{result.timing.finished:%Y-%m-%d %H:%M:%S} UTC"
    )
    try:
        request.cache.keep(result, _evidence(request), origin)
    except AuditorError as error:
        request.observer.noticed(f"{result.id} is not kept in the cache: {error}")


def _evidence(request: AuditRequest) -> EvidenceFolder:
    return EvidenceFolder(request.folder / run_directory.EVIDENCE)


def _commit(request: AuditRequest, ledger: Ledger, unit: Unit, outcome: Outcome) -> None:
    """Stamp an outcome into a result, shorten the texts in it, and commit it."""
    answer, traceback = _answer_of(outcome)
    finished = datetime.now(UTC)
    findings = tuple(
        finding.model_copy(update={
            "fingerprint": fingerprint(
                unit.record.code, f"{unit.subject.name}\x1f{unit.record.id}", finding.location
            )
        })
        for finding in answer.findings
    )  # fmt: skip
    result = CheckResult(
        **unit.record.model_dump(),
        answer=redact_answer(answer.model_copy(update={"findings": findings})),
        traceback=traceback,
        timing=Timing(
            started=finished - timedelta(seconds=outcome.seconds),
            finished=finished,
            seconds=round(outcome.seconds, 3),
            peak_memory_mb=round(outcome.peak_memory_mb, 1),
        ),
    )
    ledger.append("result", result.model_dump(mode="json"))
    _keep(request, result)
    request.observer.finished(result)


def _answer_of(outcome: Outcome) -> UnitAnswer:
    """The answer a worker sent, or an open one that says what became of the worker."""
    if outcome.status == "done" and isinstance(outcome.value, UnitAnswer):
        return outcome.value
    if outcome.status in ("timeout", "memory"):
        verdict, reason = Verdict.UNKNOWN, f"limit reached: {outcome.detail}"
    else:
        verdict, reason = Verdict.ERROR, outcome.detail.strip().splitlines()[-1]
    answer = Answer(verdict=verdict, summary="No answer", reason=reason)
    return UnitAnswer(answer, outcome.detail if verdict is Verdict.ERROR else "")
