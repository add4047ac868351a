"""Every exception auditor raises on purpose.

One root, `AuditorError`, and one branch per way out: what the caller asked for
was wrong (`ConfigurationError`), the input is not safe to open (`RefusedInput`),
the input is fine but this tool cannot express it (`Unsupported`), there was
nothing to do (`NothingToAudit`), or the machine failed us (`OperationFailed`).
The command line maps branches, not leaves, to exit codes.

Leaves carry data and build their own message: the value, the place, the way out.
A model that is wrong is a result, not an exception.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

MAX_MESSAGE: Final = 2_000
"""Characters of a message; of a longer one the middle is left out."""
_LINE_ENDS: Final = re.compile(r"\s*[\n\v\f\r\x1c-\x1e\x85\u2028\u2029]\s*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class AuditorError(Exception):
    """Root of everything auditor raises on purpose; the message is one line.

    It may quote a file that nobody trusts, so control characters are spelled out: a terminal
    would obey them.
    """

    def __str__(self) -> str:
        """The message on one line."""
        text = super().__str__()
        if len(text) > MAX_MESSAGE:
            half = MAX_MESSAGE // 2
            text = f"{text[:half]} ... {text[-half:]}"
        return _CONTROL.sub(lambda sign: f"\\x{ord(sign[0]):02x}", _LINE_ENDS.sub(" ", text))


class ConfigurationError(AuditorError):
    """What was asked for is wrong: option, key, path, property or policy."""


class RefusedInput(AuditorError):
    """The input is not safe to open; nothing of it was executed."""


class Unsupported(AuditorError):
    """The input is well formed, and this part of auditor cannot express it."""


class NothingToAudit(AuditorError):
    """No check or no data matched what was asked for."""


class OperationFailed(AuditorError):
    """The machine failed: disk, memory, or a file that changed while in use."""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The hint `; did you mean 'x'?` for a misspelt word, or an empty string."""
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


@dataclass(frozen=True)
class Place:
    """A position in a text file; line and column count from 1."""

    path: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


class FileMissing(ConfigurationError):
    """A path that was named does not exist or is not a regular file."""

    def __init__(self, path: Path | str, role: str) -> None:
        self.path, self.role = Path(path), role
        super().__init__(
            f"{role} not found: {path}; check the path, relative paths start at the "
            "file that names them"
        )


class InvalidText(ConfigurationError):
    """A text file (plan, policy, property) says something that is not allowed."""

    def __init__(self, place: Place | str, problem: str) -> None:
        self.place, self.problem = place, problem
        super().__init__(f"{place}: {problem}")


class UnknownName(ConfigurationError):
    """A name (check code, key, plan) that does not exist."""

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        hint = did_you_mean(name, self.known) or f"; known: {', '.join(sorted(self.known))}"
        super().__init__(f"unknown {kind} '{name}'{hint}")


class OutputNotWritable(ConfigurationError):
    """The place chosen for output cannot be written."""

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path, self.reason = Path(path), reason
        super().__init__(f"cannot write to {path}: {reason}; choose another folder with --out")


class RefusedModel(RefusedInput):
    """A model file that must not be opened.

    Attributes:
        path: The file.
        rule: Stable rule id, for example `pickle-content`.
        place: Where in the file (offset, tensor or node name), or an empty string.
        way_out: What the user can do instead.
    """

    def __init__(
        self, path: Path | str, rule: str, problem: str, *, place: str = "", way_out: str
    ) -> None:
        self.path, self.rule, self.problem = Path(path), rule, problem
        self.place, self.way_out = place, way_out
        where = f" at {place}" if place else ""
        super().__init__(f"refused {path}{where}: {problem} [{rule}]; {way_out}")


class RefusedFolder(RefusedInput):
    """A folder whose files must not be read; the attributes are those of `RefusedModel`."""

    def __init__(
        self, path: Path | str, rule: str, problem: str, *, place: str = "", way_out: str
    ) -> None:
        self.path, self.rule, self.problem = Path(path), rule, problem
        self.place, self.way_out = place, way_out
        where = f" at {place}" if place else ""
        super().__init__(f"refused {path}{where}: {problem} [{rule}]; {way_out}")


class CertificateRejected(RefusedInput):
    """A certificate does not prove what it is shown for; the record counts from 0."""

    def __init__(self, problem: str, *, record: int | None = None) -> None:
        self.problem, self.record = problem, record
        where = "" if record is None else f" at record {record}"
        super().__init__(f"certificate rejected{where}: {problem}; write it anew")


class PatternFileRejected(RefusedInput):
    """A pattern file is damaged, altered, or asks for more than the limits allow."""

    def __init__(self, path: Path | str, problem: str) -> None:
        self.path, self.problem = Path(path), problem
        super().__init__(f"pattern file {path} rejected: {problem}; mine it again")


class UnsupportedOperator(Unsupported):
    """ONNX operators that an engine cannot express, all of them, with their nodes."""

    def __init__(self, operators: Sequence[tuple[str, str]], supported: Sequence[str]) -> None:
        self.operators, self.supported = tuple(operators), tuple(supported)
        listed = ", ".join(f"{op} at node '{node}'" for op, node in self.operators[:5])
        more = f" and {len(self.operators) - 5} more" if len(self.operators) > 5 else ""
        super().__init__(
            f"unsupported operator: {listed}{more}; supported: {', '.join(self.supported)}"
        )


class UnsupportedModel(Unsupported):
    """A model whose shape, type or values an engine cannot handle."""

    def __init__(self, problem: str, *, place: str = "", way_out: str = "") -> None:
        self.problem, self.place, self.way_out = problem, place, way_out
        super().__init__(
            "; ".join(
                part for part in (f"{place}: {problem}" if place else problem, way_out) if part
            )
        )


class UnsupportedProperty(Unsupported):
    """A property whose form an engine cannot express; the text names place and way out."""


class DeviceUnavailable(ConfigurationError):
    """A device was asked for by name and cannot be used."""

    def __init__(self, device: str, reason: str) -> None:
        self.device, self.reason = device, reason
        super().__init__(f"device '{device}' is not available: {reason}; use --device auto or cpu")


class MissingExtra(ConfigurationError):
    """A library that only an optional extra of auditor brings is not installed."""

    def __init__(self, extra: str, library: str, what: str) -> None:
        self.extra, self.library, self.what = extra, library, what
        super().__init__(
            f"{what} needs {library}, which is not installed; install auditor[{extra}]"
        )


class FileChanged(OperationFailed):
    """A file is no longer the one that was looked at when the run began."""

    def __init__(self, path: Path | str, expected: str, actual: str) -> None:
        self.path, self.expected, self.actual = Path(path), expected, actual
        super().__init__(
            f"{path} changed during the run: {expected[:19]}... became {actual[:19]}...; "
            "run again when nothing writes to it"
        )


class PropertyMismatch(ConfigurationError):
    """A property written for another network: sizes do not agree."""

    def __init__(self, property_name: str, what: str, expected: int, actual: int) -> None:
        self.property_name, self.what = property_name, what
        self.expected, self.actual = expected, actual
        super().__init__(
            f"property {property_name} speaks of {actual} {what}, the model has "
            f"{expected}; use a property written for this model"
        )


class PatternMismatch(ConfigurationError):
    """Activation patterns mined from another model."""

    def __init__(self, source: Path | str, expected: str, actual: str) -> None:
        self.source, self.expected, self.actual = str(source), expected, actual
        super().__init__(
            f"{source} was mined from the model {expected[:19]}..., this one is "
            f"{actual[:19]}...; mine patterns of this model"
        )


class TooFewControls(ConfigurationError):
    """There are not as many distinct sets of matched random experts as were asked for."""

    def __init__(self, asked: int, possible: int, size: int) -> None:
        self.asked, self.possible, self.size = asked, possible, size
        super().__init__(
            f"{asked} distinct random sets of {size} matched experts were asked for and {possible} "
            "are possible; ask for fewer, or let rivals differ more in usage"
        )
