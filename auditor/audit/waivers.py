"""Waivers: a finding is accepted by a role, for a reason, until a date.

A waiver file is a YAML list that people write and that `add_waiver` appends to, leaving
what stands there as it is. What a waiver does to a run is decided in `acceptance`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import FailFast, Field, TypeAdapter, ValidationError

from auditor.audit.policy import PolicyPart
from auditor.errors import ConfigurationError, InvalidText
from auditor.files import read_file, read_text_file, write_atomically
from auditor.strict_yaml import MAX_CHARACTERS, Document, parse

MAX_WAIVER_DAYS = 365
WAIVER_WARNING_DAYS = 14
ANY_MODEL = "any"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ROLE = "waiver file"


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

    def names(self, names: Sequence[str]) -> bool:
        """Whether `match` speaks of one of these names, whatever model and severity."""
        if self.is_glob:
            return any(fnmatchcase(name, self.match) for name in names)
        return self.match in names

    def is_for(self, digest: str) -> bool:
        """Whether it was granted for the model with this digest."""
        return self.model_digest in (ANY_MODEL, digest)

    def days_left(self, today: date) -> int:
        """Days on which it still counts after today; negative once it has expired."""
        return (self.expires - today).days

    def ends_soon(self, today: date) -> bool:
        """Whether it counts and its end has to be announced."""
        return 0 <= self.days_left(today) <= WAIVER_WARNING_DAYS


def load_waivers(path: Path, today: date) -> tuple[Waiver, ...]:
    """Read a waiver file: a YAML list.

    Raises:
        FileMissing: There is no such file.
        InvalidText: An entry is incomplete or runs longer than `MAX_WAIVER_DAYS`.
    """
    return _read(parse(read_text_file(path, _ROLE, MAX_CHARACTERS), str(path)), today)


def _read(document: Document, today: date) -> tuple[Waiver, ...]:
    try:
        waivers = TypeAdapter(Annotated[tuple[Waiver, ...], FailFast()]).validate_python(
            document.value or []
        )
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


def add_waiver(path: Path, waiver: Waiver, today: date) -> None:
    """Append a waiver to a file, or begin one; comments and order of the file stay.

    Raises:
        ConfigurationError: The waiver is already there, has ended, runs too long, names no
            model, or nothing can be appended to a file that is written like this one.
        InvalidText: The file is no waiver file.
    """
    _check_new(waiver, today)
    if path.exists():
        text = read_text_file(path, _ROLE, MAX_CHARACTERS)
        raw = read_file(path, _ROLE, MAX_CHARACTERS)
    else:
        text, raw = "", b""
    document = parse(text, str(path))
    present = _read(document, today)
    for other in present:
        if (other.match, other.model_digest) == (waiver.match, waiver.model_digest):
            raise ConfigurationError(
                f"{path} already waives '{waiver.match}' for model {waiver.model_digest}, until "
                f"{other.expires}; edit that entry"
            )
    line_end = b"\r\n" if b"\r\n" in raw else b"\n"
    gap = b"" if not raw or raw.endswith(b"\n") else line_end
    addition = _entry(waiver, _indent(document, text)).replace("\n", line_end.decode())
    content = raw + gap + addition.encode()
    if _reread(content, path, today) != (*present, waiver):
        raise ConfigurationError(
            f"{path} is not written as a list with a line starting '- ' for each waiver; write "
            "it so and add again"
        )
    write_atomically(path, content)


def _check_new(waiver: Waiver, today: date) -> None:
    if not waiver.match.strip():
        raise ConfigurationError("--match is empty; give a check code, a check id or a fingerprint")
    if waiver.model_digest != ANY_MODEL and not _DIGEST.fullmatch(waiver.model_digest):
        raise ConfigurationError(
            f"--model-digest '{waiver.model_digest}' is neither 'any' nor sha256: with 64 hex "
            "digits; `auditor model digest MODEL` prints it"
        )
    if waiver.expires < today:
        raise ConfigurationError(f"--expires {waiver.expires} is past; give a day to come")
    if waiver.days_left(today) > MAX_WAIVER_DAYS:
        latest = today + timedelta(days=MAX_WAIVER_DAYS)
        raise ConfigurationError(
            f"--expires {waiver.expires} is more than {MAX_WAIVER_DAYS} days away; the last day "
            f"is {latest}"
        )


def _indent(document: Document, text: str) -> str:
    """The blanks before the dashes of the file's list."""
    if not isinstance(document.value, list) or not document.value:
        return ""
    line = text.split("\n")[document.place((0,)).line - 1]
    return line[: len(line) - len(line.lstrip(" "))]


def _entry(waiver: Waiver, indent: str) -> str:
    fields = waiver.model_dump()
    if not waiver.ticket:
        del fields["ticket"]
    written = yaml.safe_dump([fields], sort_keys=False, allow_unicode=True, width=math.inf)
    return "".join(f"{indent}{line}\n" for line in written.rstrip("\n").split("\n"))


def _reread(content: bytes, path: Path, today: date) -> tuple[Waiver, ...] | None:
    try:
        text = content.decode().removeprefix("\ufeff").replace("\r\n", "\n")
        return _read(parse(text, str(path)), today)
    except InvalidText:
        return None
