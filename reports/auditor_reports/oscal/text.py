"""Texts, tokens and UUIDs of an OSCAL document.

Markup fields hold Markdown, so untrusted text is escaped in them; values and tokens are
plain. A UUID depends on the run and on the place in it, and on nothing else: the same run
gives the same document.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass

from auditor.findings import AuditReport
from auditor_reports.audit_json import run_fingerprint
from auditor_reports.markdown_text import escape_markdown
from auditor_reports.oscal.models import Actor, Origin, Prop
from auditor_reports.sanitise import one_line

EMPTY = "(empty)"
_TOKEN_LENGTH = 80


@dataclass(frozen=True)
class Identity:
    """Makes the UUIDs of one run.

    Attributes:
        fingerprint: The run's, `sha256:<hex>` of its `audit.json`.
    """

    fingerprint: str

    @classmethod
    def of(cls, report: AuditReport) -> Identity:
        """The identity of the run that this report tells of."""
        return cls(run_fingerprint(report))

    def uuid(self, place: str) -> str:
        """A version-5 UUID of a place in the run, such as `results/3/observation`."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:auditor:run:{self.fingerprint}/{place}"))

    @property
    def origin(self) -> Origin:
        """The tool, as the maker of an observation or a risk."""
        return Origin(actors=(Actor(actor_uuid=self.uuid("tool")),))


def markup(text: str, limit: int = 600) -> str:
    """The text for a markup field: one line, shown as it is, never empty."""
    return escape_markdown(text, limit) or EMPTY


def plain(text: str, limit: int = 200) -> str:
    """The text for a string field: one line without blanks at its ends, never empty."""
    return one_line(text, limit) or EMPTY


def token(text: str) -> str:
    """A token: the text itself where it is one, otherwise a likeness with a digest of it.

    Two texts never share a token unless they share 32 bits of SHA-256 and their beginning.
    """
    likeness = re.sub(r"[^A-Za-z0-9._-]", "_", text[:_TOKEN_LENGTH])
    if not re.match(r"[A-Za-z_]", likeness):
        likeness = f"_{likeness}"
    if likeness == text:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
    return f"{likeness}-{digest[:8]}"


def prop(name: str, value: str, remarks: str = "") -> Prop:
    """A property in the namespace of auditor."""
    return Prop(name=token(name), value=plain(value), remarks=markup(remarks) if remarks else None)


def objective_id(code: str) -> str:
    """The identifier of a check's objective."""
    return token(f"{code}_obj")
