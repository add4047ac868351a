"""The checks this installation knows: one explicit tuple, plus entry points.

Nothing registers itself on import. A third-party package offers checks under the entry
point group `auditor.checks`; each entry point is a `Check`. A code that stands twice and
a plugin that cannot be loaded are errors, never a log line.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from auditor.check import Check
from auditor.checks import (
    alignment_drift,
    diffusion_memorization,
    file_safety,
    identity,
    local_robustness,
    pattern_overlap,
    pattern_robustness,
    refusal_behaviour,
    refusal_concentration,
    runtime_parity,
    training_extraction,
    unexplained_inputs,
    written_property,
)
from auditor.errors import ConfigurationError, UnknownName
from auditor.fix import FixCard
from auditor.fixes import decoding, deconfliction, experts, pruning

BUILT_IN_CHECKS: tuple[Check[Any], ...] = (
    file_safety.CHECK,
    identity.CHECK,
    runtime_parity.CHECK,
    written_property.CHECK,
    local_robustness.CHECK,
    pattern_robustness.CHECK,
    pattern_overlap.CHECK,
    unexplained_inputs.CHECK,
    alignment_drift.CHECK,
    refusal_behaviour.CHECK,
    refusal_concentration.CHECK,
    training_extraction.CHECK,
    diffusion_memorization.CHECK,
)


BUILT_IN_FIXES: tuple[FixCard, ...] = (
    decoding.FIX,
    deconfliction.FIX,
    experts.FIX,
    pruning.FIX,
)


class BrokenPlugin(ConfigurationError):
    """An entry point that does not load or is not a check."""

    def __init__(self, entry: EntryPoint, problem: str) -> None:
        self.entry, self.problem = entry, problem
        super().__init__(
            f"plugin '{entry.name}' ({entry.value}): {problem}; fix or uninstall its package"
        )


class DuplicateCode(ConfigurationError):
    """Two checks carry the same code."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(f"two checks carry the code {code}; uninstall one of their packages")


def all_checks() -> dict[str, Check[Any]]:
    """Every check by its code, built-in ones first.

    Raises:
        BrokenPlugin: An entry point cannot be loaded or is not a check.
        DuplicateCode: Two checks carry the same code.
    """
    return index_checks([*BUILT_IN_CHECKS, *map(_load, entry_points(group="auditor.checks"))])


def index_checks(checks: Iterable[Check[Any]]) -> dict[str, Check[Any]]:
    """Checks by code; `DuplicateCode` when a code stands twice."""
    known: dict[str, Check[Any]] = {}
    for check in checks:
        if check.code in known:
            raise DuplicateCode(check.code)
        known[check.code] = check
    return known


def find_check(code: str) -> Check[Any]:
    """The check with this code; `UnknownName` with a hint when there is none."""
    known = all_checks()
    if code not in known:
        raise UnknownName("check", code, sorted(known))
    return known[code]


def _load(entry: EntryPoint) -> Check[Any]:
    try:
        found = entry.load()
    except Exception as error:  # foreign code may raise anything
        raise BrokenPlugin(entry, f"{type(error).__name__}: {error}") from error
    if not isinstance(found, Check):
        raise BrokenPlugin(entry, f"is a {type(found).__name__}, not a Check")
    return found
