"""What the gate demands: a policy, and the waivers that suspend parts of it.

Both are data from YAML with a closed set of operators; nothing in them is evaluated
as code. A waiver needs a reason, the role that approved it and an end.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import date, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from auditor.errors import InvalidText
from auditor.files import read_text_file
from auditor.findings import Metric, Severity
from auditor.strict_yaml import MAX_CHARACTERS, load_strict, parse

MAX_WAIVER_DAYS = 365
WAIVER_WARNING_DAYS = 14
_K_OF_N = re.compile(r"(\d+) of (\d+)")

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": lambda left, right: left <= right,
    "<": lambda left, right: left < right,
    ">=": lambda left, right: left >= right,
    ">": lambda left, right: left > right,
    "==": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
}


class PolicyPart(BaseModel):
    """Base of policy records: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class MetricGate(PolicyPart):
    """A threshold on one metric of one check."""

    check: str = Field(pattern=r"^AUD\d{3}$")
    """Code of the check that measures it."""
    metric: str
    """The metric's name."""
    op: Literal["<=", "<", ">=", ">", "==", "!="]
    """How the metric must compare with `value`."""
    value: float
    """The threshold."""
    bound: Literal["value", "ci_lower", "ci_upper"] = "value"
    """Which number is compared: the metric itself or an end of its interval."""
    severity: Severity = Severity.HIGH
    """Severity of missing the threshold."""
    subject: str = "*"
    """Subjects the threshold applies to, as a glob."""
    id: str = "*"
    """Check ids the threshold applies to, as a glob."""
    repeats: int = Field(default=1, ge=1)
    """How many repeated measurements the metric must hold."""
    rule: str = "all"
    """With repeats: `all`, `any`, or `k of n`."""
    tolerance: float = Field(default=0.0, ge=0)
    """A value this close to the threshold is marked as borderline."""

    @model_validator(mode="after")
    def _rule_is_known(self) -> Self:
        if self.rule not in ("all", "any") and not _K_OF_N.fullmatch(self.rule):
            raise ValueError(f"rule '{self.rule}' is not 'all', 'any' or 'k of n'")
        return self

    @property
    def text(self) -> str:
        """The demand as one line."""
        bound = "" if self.bound == "value" else f" ({self.bound.replace('_', ' ')})"
        return f"{self.metric}{bound} {self.op} {self.value:g}"

    def number_in(self, metric: Metric) -> float | None:
        """The number of the metric that is compared, None when it has no interval."""
        if self.bound == "value":
            return metric.value
        if metric.interval is None:
            return None
        return metric.interval.lower if self.bound == "ci_lower" else metric.interval.upper

    def accepts(self, number: float) -> bool:
        """Whether one number meets the threshold; NaN never does."""
        return number == number and OPERATORS[self.op](number, self.value)

    def accepts_repeats(self, numbers: tuple[float, ...]) -> bool:
        """Whether enough of the repeated numbers meet the threshold."""
        met = sum(self.accepts(number) for number in numbers)
        if self.rule == "any":
            return met > 0
        found = _K_OF_N.fullmatch(self.rule)
        return met >= (int(found[1]) if found else len(numbers))


class Policy(PolicyPart):
    """What must be true for the gate to pass."""

    version: Literal[1] = 1
    """Version of this format."""
    require: tuple[str, ...] = ()
    """Codes of checks that must have an answer, besides those the plan marks required."""
    inconclusive: Literal["block", "warn"] = "block"
    """Whether a required question left open blocks the release."""
    fail_on: Severity = Severity.HIGH
    """Findings of this severity or worse fail the gate."""
    gates: tuple[MetricGate, ...] = ()
    """Thresholds on metrics."""

    @property
    def digest(self) -> str:
        """SHA-256 of the policy's canonical JSON."""
        return "sha256:" + hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class Waiver(PolicyPart):
    """A named person's role accepts a finding until a date."""

    match: str
    """A check code, a check id, a finding's fingerprint, or a glob over these."""
    model_digest: str
    """Digest of the model it was granted for, or `any`."""
    reason: str = Field(min_length=1)
    """Why the finding is acceptable."""
    approved_by: str = Field(min_length=1)
    """The role that accepted it."""
    expires: date
    """Last day on which it counts."""
    ticket: str = ""
    """Reference in your tracker."""

    @property
    def is_glob(self) -> bool:
        """Whether `match` names more than one thing."""
        return any(sign in self.match for sign in "*?[")

    def covers(self, names: tuple[str, ...], digest: str, severity: Severity) -> bool:
        """Whether this waiver speaks of a finding; dates are the gate's business.

        A critical finding needs an exact name. A waiver granted for one model does
        not cover another.
        """
        if self.model_digest not in ("any", digest):
            return False
        if self.is_glob:
            return severity is not Severity.CRITICAL and any(
                fnmatchcase(name, self.match) for name in names
            )
        return self.match in names


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        FileMissing: There is no such file.
        InvalidText: It is not a valid policy.
    """
    return load_strict(read_text_file(path, "policy", MAX_CHARACTERS), str(path), Policy)


def load_waivers(path: Path, today: date) -> tuple[Waiver, ...]:
    """Read a waiver file: a YAML list.

    Raises:
        FileMissing: There is no such file.
        InvalidText: An entry is incomplete or runs longer than `MAX_WAIVER_DAYS`.
    """
    document = parse(read_text_file(path, "waiver file", MAX_CHARACTERS), str(path))
    try:
        waivers = TypeAdapter(tuple[Waiver, ...]).validate_python(document.value or [])
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        keys = problem["loc"]
        text = f"{'.'.join(map(str, keys)) or 'waivers'}: {problem['msg']}"
        raise InvalidText(document.place(keys), text) from None
    for number, waiver in enumerate(waivers):
        if waiver.expires > today + timedelta(days=MAX_WAIVER_DAYS):
            raise InvalidText(
                document.place((number, "expires")),
                f"expires {waiver.expires} is more than {MAX_WAIVER_DAYS} days away",
            )
    return waivers
