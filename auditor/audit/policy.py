"""What the gate demands: open questions, severities, thresholds on metrics and on counts.

Data from YAML with a closed set of operators; nothing in it is evaluated as code.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from auditor.files import read_text_file
from auditor.findings import Metric, Severity
from auditor.strict_yaml import MAX_CHARACTERS, load_strict

Operator = Literal["<=", "<", ">=", ">", "==", "!="]
Bound = Literal["value", "ci_lower", "ci_upper"]
_K_OF_N = re.compile(r"([1-9]\d{0,5}) of ([1-9]\d{0,5})")

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


class Selection(PolicyPart):
    """Which results a threshold speaks of; left out, all of them."""

    subject: str = "*"
    """Subjects the threshold applies to, as a glob."""
    id: str = "*"
    """Check ids the threshold applies to, as a glob."""

    def selects(self, subject: str, result: str) -> bool:
        """Whether the threshold speaks of a result of this subject and id."""
        return fnmatchcase(subject, self.subject) and fnmatchcase(result, self.id)


class MetricGate(Selection):
    """A threshold on one metric of one check."""

    check: str = Field(pattern=r"^AUD\d{3}$")
    """Code of the check that measures it."""
    metric: str
    """The metric's name."""
    op: Operator
    """How the metric must compare with `value`."""
    value: float
    """The threshold."""
    bound: Bound = "value"
    """Which number is compared: the metric itself or an end of its interval."""
    severity: Severity = Severity.HIGH
    """Severity of missing the threshold."""
    min_samples: int = Field(default=0, ge=0)
    """A metric of fewer samples, or of an unknown number, leaves the threshold open."""
    repeats: int = Field(default=1, ge=1)
    """How many repeated measurements the metric must hold."""
    rule: str = "all"
    """With repeats: `all`, `any`, or `k of n`."""
    tolerance: float = Field(default=0.0, ge=0)
    """A value this close to the threshold is marked as borderline."""

    @field_validator("value")
    @classmethod
    def _value_is_a_number(cls, value: float) -> float:
        # Every number is unequal to NaN: a threshold `!= .nan` would always be met.
        if math.isnan(value):
            raise ValueError("NaN is no threshold; give a number")
        return value

    @model_validator(mode="after")
    def _rule_is_known(self) -> Self:
        if self.rule in ("all", "any"):
            return self
        found = _K_OF_N.fullmatch(self.rule)
        if not found:
            raise ValueError(f"rule '{self.rule}' is not 'all', 'any' or 'k of n'")
        least, of = int(found[1]), int(found[2])
        if least > of or of != self.repeats:
            raise ValueError(f"rule '{self.rule}' needs repeats: {of} and at most {of} of them")
        return self

    @model_serializer(mode="wrap")
    def _as_ever_where_unused(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(write(self), self, "min_samples")

    @property
    def text(self) -> str:
        """The demand as one line."""
        bound = "" if self.bound == "value" else f" ({self.bound.replace('_', ' ')})"
        return f"{self.metric}{bound} {self.op} {self.value:g}"

    def number_in(self, metric: Metric) -> float | None:
        """The number of the metric that is compared, None when it has no interval."""
        return number_at(metric, self.bound)

    def accepts(self, number: float) -> bool:
        """Whether one number meets the threshold; NaN never does."""
        return number == number and OPERATORS[self.op](number, self.value)

    def accepts_repeats(self, numbers: tuple[float, ...]) -> bool:
        """Whether enough of the repeated numbers meet the threshold."""
        met = sum(self.accepts(number) for number in numbers)
        if self.rule == "any":
            return met > 0
        found = _K_OF_N.fullmatch(self.rule)
        # Where more were measured than asked for, the same share of them has to meet it.
        return met * int(found[2]) >= int(found[1]) * len(numbers) if found else met == len(numbers)

    def distance(self, number: float) -> float:
        """How far a number is on the wrong side; 0 where only meeting it or not counts."""
        signs = {"<": 1, "<=": 1, ">": -1, ">=": -1, "!=": 0}
        difference = number - self.value
        return abs(difference) if self.op == "==" else signs[self.op] * difference


Counted = Literal["findings", "accepted", "open", "answered", "results"]


class CountGate(Selection):
    """A threshold on a count over the whole run."""

    count: Counted
    """What is counted: `findings` that are neither waived nor in the baseline, `accepted` ones
    that are, results without an answer (`open`), with one (`answered`), or all `results`."""
    op: Operator
    """How the count must compare with `value`."""
    value: int = Field(ge=0)
    """The threshold."""
    of_severity: Severity = Severity.LOW
    """Findings below this severity are not counted."""
    check: str = "*"
    """Codes of the checks it counts over, as a glob."""
    severity: Severity = Severity.HIGH
    """Severity of missing the threshold."""

    @model_validator(mode="after")
    def _severity_is_of_findings(self) -> Self:
        if self.count not in ("findings", "accepted") and self.of_severity is not Severity.LOW:
            raise ValueError(f"of_severity says which findings count, and '{self.count}' are none")
        return self

    @property
    def text(self) -> str:
        """The demand as one line."""
        level = "" if self.of_severity is Severity.LOW else f" ({self.of_severity} or worse)"
        limits = {"checks": self.check, "subjects": self.subject, "ids": self.id}
        among = "".join(f" of {name} {glob}" for name, glob in limits.items() if glob != "*")
        return f"overall: number of {_COUNTED[self.count]}{level}{among} {self.op} {self.value}"

    def accepts(self, number: int) -> bool:
        """Whether a count meets the threshold."""
        return OPERATORS[self.op](number, self.value)


_COUNTED: dict[Counted, str] = {
    "findings": "findings",
    "accepted": "waived or known findings",
    "open": "results without an answer",
    "answered": "results with an answer",
    "results": "results",
}


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
    overall: tuple[CountGate, ...] = ()
    """Thresholds on counts over the whole run."""

    @model_serializer(mode="wrap")
    def _as_ever_where_unused(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(write(self), self, "overall")

    @property
    def digest(self) -> str:
        """SHA-256 of the policy's canonical JSON."""
        return "sha256:" + hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def number_at(metric: Metric, bound: Bound) -> float | None:
    """The metric's value or an end of its interval, None when it has no interval."""
    if bound == "value":
        return metric.value
    if metric.interval is None:
        return None
    return metric.interval.lower if bound == "ci_lower" else metric.interval.upper


def _without(written: dict[str, Any], part: BaseModel, key: str) -> dict[str, Any]:
    """A key that came later is left out where it is unused: a policy's digest stays what it was."""
    if getattr(part, key) == type(part).model_fields[key].default:
        written.pop(key, None)
    return written


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        FileMissing: There is no such file.
        InvalidText: It is not a valid policy.
    """
    return load_strict(read_text_file(path, "policy", MAX_CHARACTERS), str(path), Policy)
