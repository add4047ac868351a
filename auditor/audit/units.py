"""The units of an audit: one check of one subject, resolved and keyed.

`resolve_units` checks every parameter and data file of a plan before anything runs and
gives each unit the key its answer is stored under. `prepare_unit` and `run_unit` are what
a worker process does with one unit.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue

from auditor.audit.data_paths import locate_files
from auditor.audit.environment import numerical_class
from auditor.audit.ledger import EvidenceFolder
from auditor.audit.plan import CheckSpec, Limits, LoadedPlan, select_subjects
from auditor.audit.unit_record import UnitRecord as UnitRecord
from auditor.check import Check, CheckContext, CheckParams, Subject
from auditor.errors import (
    AuditorError,
    ConfigurationError,
    InvalidText,
    RefusedInput,
    UnknownName,
    Unsupported,
)
from auditor.findings import Answer, Environment, SourceLine, Verdict
from auditor.registry import find_check
from auditor.strict_yaml import Document, validate


@dataclass(frozen=True)
class Unit:
    """A unit ready to be sent to a worker.

    Attributes:
        record: What its result is stamped with.
        subject: The model.
        parameters: The check's parameters with absolute paths, as JSON values.
        estimate_s: Rough seconds it will take.
    """

    record: UnitRecord
    subject: Subject
    parameters: dict[str, JsonValue]
    limits: Limits
    seed: int
    device: str
    estimate_s: float


class Preparation(NamedTuple):
    """What looking at a unit before the run found out."""

    status: Literal["ready", "configuration", "unsupported", "unclear"]
    message: str = ""


class UnitAnswer(NamedTuple):
    """What a worker sends back."""

    answer: Answer
    traceback: str = ""


def resolve_units(
    loaded: LoadedPlan,
    subjects: Sequence[Subject],
    checks: Mapping[str, Check[Any]],
    environment: Environment,
) -> list[Unit]:
    """The plan's units in plan order.

    Raises:
        InvalidText: A parameter is wrong; names its place in the plan.
        UnknownName: A check code or subject does not exist.
        FileMissing: A data file or folder does not exist.
        RefusedFolder: A data folder must not be read.
        ConfigurationError: A check cannot examine its subject, or a path is of another kind.
    """
    units: list[Unit] = []
    seen: set[str] = set()
    # A corpus index may be large and stand in several checks: it is hashed once.
    folders: dict[Path, str] = {}
    document = loaded.document
    for number, spec in enumerate(loaded.plan.checks):
        if spec.check not in checks:
            place = document.place(("checks", number, "check"))
            raise InvalidText(place, str(UnknownName("check", spec.check, sorted(checks))))
        check = checks[spec.check]
        params = validate_params(document, number, check.params)
        line = SourceLine(file=loaded.file, line=loaded.line_of_check(number))
        located = locate_files(params, loaded.folder, spec.check, folders)
        for unit in _units_of(loaded, spec, check, params, located, subjects, environment, line):
            if unit.record.id in seen:
                place = document.place(("checks", number))
                raise InvalidText(
                    place, f"two checks would be called '{unit.record.id}'; give one an id"
                )
            seen.add(unit.record.id)
            units.append(unit)
    return units


def validate_params(document: Document, number: int, model: type[CheckParams]) -> CheckParams:
    """The parameters of the plan's check `number`; `InvalidText` with the place if wrong."""
    keys = ("checks", number, "params")
    plan: Any = document.value
    if "params" in plan["checks"][number]:
        return validate(document, model, keys)
    wrapper = Document({"params": {}}, document.source, {(): document.place(keys)})
    return validate(wrapper, model, ("params",))


def _units_of(
    loaded: LoadedPlan,
    spec: CheckSpec,
    check: Check[Any],
    params: CheckParams,
    located: tuple[CheckParams, dict[str, str]],
    subjects: Sequence[Subject],
    environment: Environment,
    line: SourceLine,
) -> Iterator[Unit]:
    plan = loaded.plan
    absolute, data_digests = located
    limits = spec.limits or plan.limits
    names = [subject.name for subject in subjects]
    for name in select_subjects(spec, names):
        subject = subjects[names.index(name)]
        if subject.kind not in check.kinds:
            raise _wrong_kind(check, subject, subjects, line)
        base = spec.id or spec.check
        unit_id = base if len(subjects) == 1 else f"{base}:{name}"
        recorded = params.model_dump(mode="json")
        record = UnitRecord(
            id=unit_id,
            code=check.code,
            title=check.title,
            version=check.version,
            subject=name,
            subject_digest=subject.digest,
            required=spec.required,
            seed=plan.seed,
            parameters=recorded,
            data_digests=data_digests,
            declared_at=line,
            key=_key(
                unit_id, check, subject, recorded, data_digests, plan.seed, limits, environment
            ),
        )
        yield Unit(
            record, subject, absolute.model_dump(mode="json"), limits, plan.seed,
            environment.device, check.estimate_s(absolute),
        )  # fmt: skip


def _wrong_kind(
    check: Check[Any], subject: Subject, subjects: Sequence[Subject], line: SourceLine
) -> ConfigurationError:
    fitting = [other.name for other in subjects if other.kind in check.kinds]
    way_out = (
        f"write subjects: [{', '.join(fitting[:5])}{', ...' if len(fitting) > 5 else ''}]"
        if fitting
        else "take the check out of the plan"
    )
    return ConfigurationError(
        f"{line.file}:{line.line}: {check.code} examines {' and '.join(check.kinds)} models, "
        f"'{subject.name}' is {subject.kind}; {way_out}"
    )


def _key(
    unit_id: str,
    check: Check[Any],
    subject: Subject,
    recorded: Mapping[str, JsonValue],
    data_digests: Mapping[str, str],
    seed: int,
    limits: Limits,
    environment: Environment,
) -> str:
    depends_on = {
        # Two uses of one check stay two results, whatever they have in common.
        "id": unit_id,
        "subject": subject.digest,
        "check": [check.code, check.version],
        # A data file counts by its content, not by where it lies.
        "parameters": {k: v for k, v in recorded.items() if k not in data_digests},
        "data": sorted(data_digests.items()),
        "seed": seed,
        "limits": limits.model_dump(),
        "environment": numerical_class(environment),
    }
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()


def prepare_unit(unit: Unit) -> Preparation:
    """Look at a unit before anything runs; never raises for what the input causes."""
    check = find_check(unit.record.code)
    try:
        check.prepare(unit.subject, check.params.model_validate(unit.parameters))
    except ConfigurationError as error:
        return Preparation("configuration", str(error))
    except Unsupported as error:
        return Preparation("unsupported", str(error))
    except AuditorError as error:
        return Preparation("unclear", str(error))
    return Preparation("ready")


def run_unit(work: tuple[Unit, Path], progress: Callable[[float, str], None]) -> UnitAnswer:
    """Run one unit in this process.

    Whatever a check raises becomes an open verdict: what auditor cannot express is
    `unknown`, everything else is `error` with its traceback kept.
    """
    unit, evidence_folder = work
    check = find_check(unit.record.code)
    context = CheckContext(
        seed=unit.seed,
        device=unit.device,
        time_limit_s=unit.limits.time_s,
        evidence=EvidenceFolder(evidence_folder),
        progress=progress,
    )
    try:
        params = check.params.model_validate(unit.parameters)
        return UnitAnswer(check.run(unit.subject, params, context))
    except Unsupported as error:
        return UnitAnswer(_open(Verdict.UNKNOWN, str(error)))
    except RefusedInput as error:
        return UnitAnswer(_open(Verdict.SKIPPED, str(error)))
    except AuditorError as error:
        return UnitAnswer(_open(Verdict.ERROR, str(error)))
    except Exception as error:  # noqa: BLE001 - a check's crash is a result
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        return UnitAnswer(_open(Verdict.ERROR, reason), traceback.format_exc())


def _open(verdict: Verdict, reason: str) -> Answer:
    return Answer(verdict=verdict, summary="No answer", reason=reason)
