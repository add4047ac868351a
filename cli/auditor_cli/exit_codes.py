"""The exit codes of every command, in one table."""

from __future__ import annotations

from enum import IntEnum

from auditor.errors import (
    AuditorError,
    ConfigurationError,
    NothingToAudit,
    RefusedInput,
    Unsupported,
)


class ExitCode(IntEnum):
    """What the process says to the shell."""

    PASSED = 0
    FAILED = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INTERNAL = 4
    NOTHING_AUDITED = 5
    REFUSED = 6
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.PASSED: "gate passed",
    ExitCode.FAILED: "gate failed: an unwaived finding at or above --fail-on",
    ExitCode.USAGE: "usage or configuration error",
    ExitCode.INCONCLUSIVE: "inconclusive: a required check has no answer",
    ExitCode.INTERNAL: "internal error: no trustworthy verdict could be written",
    ExitCode.NOTHING_AUDITED: "nothing audited: no check or data matched",
    ExitCode.REFUSED: "input refused as unsafe; nothing of it was executed",
    ExitCode.INTERRUPTED: "interrupted; issue the same command to resume",
}

_BRANCHES: tuple[tuple[type[AuditorError], ExitCode], ...] = (
    (ConfigurationError, ExitCode.USAGE),
    (RefusedInput, ExitCode.REFUSED),
    (Unsupported, ExitCode.INCONCLUSIVE),
    (NothingToAudit, ExitCode.NOTHING_AUDITED),
)


def code_for(error: AuditorError) -> ExitCode:
    """The exit code of an error, by the branch it belongs to."""
    for branch, code in _BRANCHES:
        if isinstance(error, branch):
            return code
    return ExitCode.INTERNAL


def soften(code: int, *, exit_zero: bool, allow_inconclusive: bool) -> int:
    """The code after `--exit-zero` and `--allow-inconclusive`.

    The first turns 1 and 3 into 0, the second only 3; nothing else is touched.
    """
    if exit_zero and code in (ExitCode.FAILED, ExitCode.INCONCLUSIVE):
        return ExitCode.PASSED
    if allow_inconclusive and code == ExitCode.INCONCLUSIVE:
        return ExitCode.PASSED
    return code
