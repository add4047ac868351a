"""The sample repairs changed: every text hostile, or more conditions than a page has room for."""

from __future__ import annotations

from typing import Any

from auditor.fix import FixResult
from tests.golden.sample_fix import sample_expert_fix, sample_fix

_KEPT = {"format", "decision", "better"}


def poisoned_fix(text: str) -> FixResult:
    """Both sample repairs with every free text replaced by `text`, keys of parameters too."""
    both = (*sample_fix().conditions, *sample_expert_fix().conditions)
    whole = sample_fix().model_copy(update={"conditions": both})
    return FixResult.model_validate(_replace(whole.model_dump(), text))


def enlarged_fix(conditions: int, text: str = "") -> FixResult:
    """The sample repair with so many conditions, each name with `text` behind it."""
    result = sample_fix()
    every = [
        result.conditions[number % 4].model_copy(
            update={"name": f"condition {number} {text}", "control_of": "", "notes": (text,) * 50}
        )
        for number in range(conditions)
    ]
    return result.model_copy(update={"conditions": tuple(every), "reasons": result.reasons * 90})


def _replace(value: Any, text: str, key: str = "") -> Any:
    match value:
        case dict() if key == "parameters":
            return {f"{text}{number}": text for number, _ in enumerate(value)}
        case dict():
            return {name: _replace(item, text, name) for name, item in value.items()}
        case tuple() | list():
            return [_replace(item, text, key) for item in value]
        case str() if key == "control_of":
            return (text or "-") if value else ""
        case str() if key not in _KEPT:
            return text
        case _:
            return value
