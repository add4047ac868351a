"""A run's folder: the resolved plan, the ledger, evidence, and what they add up to.

`assemble_report` builds the whole `AuditReport` from the folder alone, also from a run
that was interrupted: what has no answer yet is listed as skipped, never left out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import unified_diff
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import JsonValue, ValidationError

from auditor.audit.gate import Acceptance, decide
from auditor.audit.ledger import Entry, Ledger, read_entries
from auditor.audit.plan import Plan
from auditor.audit.policy import Policy
from auditor.audit.unit_record import UnitRecord
from auditor.errors import ConfigurationError, FileMissing, OutputNotWritable
from auditor.files import write_atomically
from auditor.findings import (
    Answer,
    AuditReport,
    CheckCard,
    CheckResult,
    Environment,
    Record,
    SubjectRecord,
    Timing,
    Verdict,
)

R = TypeVar("R", bound=Record)

LEDGER, PLAN, EVIDENCE, REPORT = "ledger.jsonl", "plan.yaml", "evidence", "audit.json"


class PlanEntry(Record):
    """The ledger's first entry, and again whenever the plan was extended or gated otherwise.

    `policy` is the policy the run was gated under, None where it is the plan's own.
    """

    plan: Plan
    plan_file: str
    plan_digest: str
    command: str
    environment: Environment
    subjects: tuple[SubjectRecord, ...]
    cards: tuple[CheckCard, ...]
    units: tuple[UnitRecord, ...]
    started: datetime
    policy: Policy | None = None

    @property
    def policy_in_force(self) -> Policy:
        """The thresholds of the run."""
        return self.policy or self.plan.policy

    def body(self) -> dict[str, JsonValue]:
        """As the ledger holds it."""
        body: dict[str, JsonValue] = self.model_dump(mode="json")
        if self.policy is None:
            del body["policy"]
        return body


class PlanChanged(ConfigurationError):
    """The folder holds a run of another plan."""

    def __init__(self, folder: Path, difference: Sequence[str]) -> None:
        self.folder, self.difference = folder, tuple(difference)
        shown = "; ".join(line for line in difference[:4])
        more = f" (and {len(difference) - 4} more lines)" if len(difference) > 4 else ""
        super().__init__(
            f"{folder} holds a run of a different plan: {shown}{more}; add --extend to go on "
            "with the new plan or choose another --out"
        )


def plan_yaml(plan: Plan) -> str:
    """The resolved plan as YAML."""
    return yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def make_folder(folder: Path) -> None:
    """Create a run's folder and try that it can be written.

    Raises:
        OutputNotWritable: It cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A name that nobody can foresee: a link that was planted would be followed.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputNotWritable(folder, error.strerror or str(error)) from None


def begin(ledger: Ledger, folder: Path, entry: PlanEntry, *, extend: bool) -> None:
    """Commit the plan, or find that the folder already holds this plan.

    Another policy alone is no other run: it is recorded, and nothing starts anew.

    Raises:
        PlanChanged: The folder holds another plan and `extend` was not asked for.
    """
    earlier = _latest_plan(ledger.entries)
    if earlier is not None:
        difference = _difference(earlier, entry)
        if not difference and earlier.policy_in_force == entry.policy_in_force:
            # It was killed between the two.
            if not (folder / PLAN).exists():
                write_atomically(folder / PLAN, plan_yaml(earlier.plan).encode())
            return
        if difference and not extend:
            raise PlanChanged(folder, difference)
        if not difference:
            entry = earlier.model_copy(update={"policy": entry.policy})
    ledger.append("plan", entry.body())
    write_atomically(folder / PLAN, plan_yaml(entry.plan).encode())


def _difference(old: PlanEntry, new: PlanEntry) -> list[str]:
    """Changed lines of the plan, and units whose key changed with an equal plan."""
    before, after = (_canonical(entry.plan) for entry in (old, new))
    lines = [
        line for line in unified_diff(before, after, lineterm="", n=0)
        if not line.startswith(("---", "+++", "@@"))
    ]  # fmt: skip
    if lines:
        return [" ".join(line.split()) for line in lines]
    keys = {unit.id: unit.key for unit in old.units}
    changed = [unit.id for unit in new.units if keys.get(unit.id) != unit.key]
    if changed or len(old.units) != len(new.units):
        return [f"model, data or environment changed for {', '.join(changed[:5]) or 'a check'}"]
    return []


def _canonical(plan: Plan) -> list[str]:
    return yaml.safe_dump(plan.model_dump(mode="json"), allow_unicode=True).splitlines()


def committed_results(entries: Sequence[Entry]) -> dict[str, CheckResult]:
    """The latest committed result of each key."""
    results = (_validate(CheckResult, e.body) for e in entries if e.kind == "result")
    return {result.key: result for result in results}


def answered_keys(entries: Sequence[Entry]) -> set[str]:
    """Keys whose answer need not be computed again; a crash is tried again."""
    committed = committed_results(entries)
    return {key for key, result in committed.items() if result.verdict is not Verdict.ERROR}


def known_keys(folder: Path) -> set[str]:
    """`answered_keys` of a folder that may not exist yet; nothing is written."""
    path = folder / LEDGER
    return answered_keys(read_entries(path)) if path.is_file() else set()


def _latest_plan(entries: Sequence[Entry]) -> PlanEntry | None:
    plans = [entry for entry in entries if entry.kind == "plan"]
    return _validate(PlanEntry, plans[-1].body) if plans else None


def open_run(folder: Path) -> list[Entry]:
    """The ledger entries of a run's folder.

    Raises:
        FileMissing: It is not the folder of a run.
    """
    path = folder / LEDGER
    if not path.is_file():
        raise FileMissing(path, "run")
    return read_entries(path)


def assemble_report(
    folder: Path,
    entries: Sequence[Entry],
    acceptance: Acceptance,
    policy: Policy | None = None,
) -> AuditReport:
    """The whole report of a run, finished or not.

    Args:
        folder: The run's folder, for messages.
        entries: Its ledger entries.
        acceptance: Waivers and baseline for the gate.
        policy: Used instead of the policy the run was gated under.

    Raises:
        ConfigurationError: The ledger holds no plan or was written by another version.
    """
    entry = _stored_plan(folder, entries)
    committed = committed_results(entries)
    results = [_result_of(unit, committed, entry.started) for unit in entry.units]
    missing = [unit.id for unit in entry.units if unit.key not in committed]
    finished = max([entry.started, *(result.timing.finished for result in results)])
    return AuditReport(
        plan=entry.plan.name,
        plan_title=entry.plan.title,
        plan_digest=entry.plan_digest,
        plan_file=entry.plan_file,
        seed=entry.plan.seed,
        command=entry.command,
        environment=entry.environment,
        subjects=entry.subjects,
        checks=entry.cards,
        results=tuple(results),
        not_assessed=tuple(_gaps(entry, results)),
        gate=decide(results, entry.subjects, policy or entry.policy_in_force, acceptance),
        complete=not missing,
        timing=Timing(
            started=entry.started,
            finished=finished,
            seconds=sum(result.timing.seconds for result in results),
        ),
    )


def policy_of(folder: Path, entries: Sequence[Entry]) -> Policy:
    """The policy a run was gated under; `ConfigurationError` when it cannot be read."""
    return _stored_plan(folder, entries).policy_in_force


def _stored_plan(folder: Path, entries: Sequence[Entry]) -> PlanEntry:
    entry = _latest_plan(entries)
    if entry is None:
        raise ConfigurationError(f"{folder / LEDGER} holds no plan; run the audit again")
    return entry


def _validate(model: type[R], body: object) -> R:
    """A ledger body as a record; a body of another version is refused politely."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise ConfigurationError(
            f"the run's ledger was written by another version of auditor ({problem}); run the "
            "audit again in a new folder"
        ) from None


def _result_of(
    unit: UnitRecord, committed: Mapping[str, CheckResult], started: datetime
) -> CheckResult:
    """The unit's result, stamped as the plan says now: its line may have moved."""
    if unit.key not in committed:
        return _not_run(unit, started)
    stamps = {name: getattr(unit, name) for name in UnitRecord.model_fields}
    return committed[unit.key].model_copy(update=stamps)


def _not_run(unit: UnitRecord, when: datetime) -> CheckResult:
    answer = Answer(
        verdict=Verdict.SKIPPED, summary="Not run", reason="the run ended before this check"
    )
    timing = Timing(started=when, finished=when, seconds=0.0)
    return CheckResult(**unit.model_dump(), answer=answer, timing=timing)


def _gaps(entry: PlanEntry, results: Sequence[CheckResult]) -> list[str]:
    """What this audit says nothing about, for the report's first page."""
    open_results = [
        f"{result.id}: {result.verdict}, {result.answer.reason}"
        for result in results if result.verdict.is_open
    ]  # fmt: skip
    asked = {unit.code for unit in entry.units}
    not_asked = [f"{card.code} {card.title}: not part of this plan"
                 for card in entry.cards if card.code not in asked]  # fmt: skip
    return open_results + not_asked
