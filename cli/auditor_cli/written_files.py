"""What people write for auditor, told apart and checked: plans, policies and waiver files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from auditor.audit.acceptance import Acceptance
from auditor.audit.plan import LoadedPlan, load_plan
from auditor.audit.policy import Policy, load_policy
from auditor.audit.waivers import load_waivers
from auditor.errors import InvalidText, UnknownName
from auditor.files import read_text_file
from auditor.strict_yaml import MAX_CHARACTERS, parse
from auditor_cli.options import today_utc

Kind = Literal["plan", "policy", "waivers"]
KINDS: tuple[Kind, ...] = ("plan", "policy", "waivers")
# Keys that only a plan has; a policy has the others.
_PLAN_KEYS = frozenset({"name", "subjects", "checks"})


@dataclass(frozen=True)
class Checked:
    """What was found in a file without an error.

    Attributes:
        file: Its name in messages.
        kind: What it is.
        holds: How much of what, for example `3 checks`.
        count: The number alone.
        notices: What its author should know all the same.
    """

    file: str
    kind: Kind
    holds: str
    count: int
    notices: tuple[str, ...] = ()


def kind_of(path: Path) -> Kind:
    """What a file is, by its content: a list holds waivers, and only a plan has checks.

    A file without content says nothing; its name decides.

    Raises:
        FileMissing: There is no such file.
        InvalidText: It is not YAML, or none of the three.
    """
    document = parse(read_text_file(path, "file", MAX_CHARACTERS), str(path))
    value = document.value
    if isinstance(value, list) or (value is None and "waiver" in path.name):
        return "waivers"
    if isinstance(value, dict) and value.keys() & _PLAN_KEYS:
        return "plan"
    if isinstance(value, dict) and value.keys() & Policy.model_fields.keys():
        return "policy"
    raise InvalidText(
        document.place(()),
        "neither a plan, nor a policy, nor a list of waivers; say which it should be with --as",
    )


def check_policy(path: Path) -> Checked:
    """Check a policy file; raises as `load_policy` does."""
    count = len(load_policy(path).gates)
    return Checked(str(path), "policy", _number(count, "threshold"), count)


def check_waivers(path: Path) -> Checked:
    """Check a waiver file, and name what has expired; raises as `load_waivers` does."""
    today = today_utc()
    waivers = load_waivers(path, today)
    expired = tuple(
        f"waiver '{waiver.match}' expired on {waiver.expires} and covers nothing"
        for waiver in waivers
        if waiver.expires < today
    )
    return Checked(str(path), "waivers", _number(len(waivers), "waiver"), len(waivers), expired)


def check_plan_text(path: Path, values: dict[str, str]) -> Checked:
    """Check what a plan says without a look at any model or data file.

    A variable that has no value stays as it is written, and parameters that wait for one are
    not checked.

    Raises:
        FileMissing: There is no such file.
        InvalidText: A key, a check's code or a parameter is wrong; names its place.
        UnknownName: A value is given for a variable that the plan does not declare.
    """
    from auditor.audit.units import validate_params
    from auditor.registry import all_checks

    waiting = {name: f"${{{name}}}" for name in _without_value(path) if name not in values}
    loaded = load_plan(path, {**waiting, **values})
    known = all_checks()
    for number, spec in enumerate(loaded.plan.checks):
        if spec.check not in known:
            place = loaded.document.place(("checks", number, "check"))
            raise InvalidText(place, str(UnknownName("check", spec.check, sorted(known))))
        if not any(text in str(spec.params) for text in waiting.values()):
            validate_params(loaded.document, number, known[spec.check].params)
    count = len(loaded.plan.checks)
    return Checked(loaded.file, "plan", f"{_number(count, 'check')} in its text", count)


def check_plan(loaded: LoadedPlan) -> Checked:
    """Check a plan with its models, data files and parameters; raises as `resolve_audit` does."""
    from auditor.audit.runner import AuditRequest, resolve_audit
    from auditor.executor import LocalExecutor

    executor = LocalExecutor()
    try:
        request = AuditRequest(loaded, Path(), "", Acceptance((), {}, today_utc()))
        resolved = resolve_audit(request, executor)
    finally:
        executor.close()
    notices = (*resolved.notices, *resolved.refused.values())
    count = len(resolved.units)
    return Checked(loaded.file, "plan", _number(count, "check"), count, notices)


def _without_value(path: Path) -> list[str]:
    """The plan's variables that the command line must set; its errors are left to the reader."""
    value: Any = parse(read_text_file(path, "plan", MAX_CHARACTERS), str(path)).value
    declared = value.get("variables") if isinstance(value, dict) else None
    specs = declared.items() if isinstance(declared, dict) else ()
    return [name for name, spec in specs if isinstance(spec, dict) and spec.get("default") is None]


def _number(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
