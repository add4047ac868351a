"""What a model must not say: a YAML file of clauses that texts are held against.

Each clause forbids something in one sentence and says in another what a text does that breaks
it; both are read by the models that judge, so they are plain sentences. See
`specs/content-policy.md`. It has nothing to do with the gate's policy.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from auditor.files import read_text_file
from auditor.strict_yaml import load_strict

MAX_POLICY_BYTES = 4_000_000

Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Clause(_Part):
    """One thing that must not be said."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    """Its name in results."""
    statement: Sentence
    """What is forbidden, one sentence."""
    violation: Sentence
    """What a text does that breaks the clause, one sentence: "the text tells ..."."""
    weight: float = Field(default=1.0, gt=0, le=1)
    """How much breaking it counts."""
    violating: tuple[Sentence, ...] = Field(default=(), max_length=10_000)
    """Examples of sentences that break it; the exemplar scorer learns from them."""
    compliant: tuple[Sentence, ...] = Field(default=(), max_length=10_000)
    """Examples of sentences on the same matter that keep it."""


class ContentPolicy(_Part):
    """The clauses of one policy."""

    version: Literal[1]
    """Version of this format."""
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """Short name: small letters, digits and hyphens."""
    description: str = Field(default="", max_length=4_000)
    """For its readers; it is not judged by."""
    clauses: tuple[Clause, ...] = Field(max_length=1_000)
    """What must not be said; nothing conflicts with an empty policy."""

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        seen: set[str] = set()
        for clause in self.clauses:
            if clause.id in seen:
                raise ValueError(f"two clauses are called '{clause.id}'; rename one")
            seen.add(clause.id)
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the policy as canonical JSON, without its description."""
        plain: Any = self.model_dump(mode="json", exclude={"description"})
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def read_policy(path: Path) -> ContentPolicy:
    """Read a policy file.

    Raises:
        FileMissing: There is none.
        InvalidText: It is no valid policy; names file, line and column.
    """
    text = read_text_file(path, "content policy", MAX_POLICY_BYTES)
    return load_strict(text, str(path), ContentPolicy)
