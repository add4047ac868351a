"""What a framework asks for and which evidence of a run answers it: the mapping file's records.

A mapping is data, one YAML file for each framework; its format is specified under `specs/`.
Nothing is looked up or computed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from auditor.errors import UnknownName

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Code = Annotated[str, StringConstraints(pattern=r"^AUD\d{3}$")]
Reference = Annotated[
    str, StringConstraints(pattern=r"^(fact|parameter|data|metric|model|card|run):\S.*$")
]
RecordName = Literal[
    "commands", "data", "dates", "gaps", "limits", "methods", "plan", "policy", "subjects",
    "versions", "waivers",
]  # fmt: skip


class MappingPart(BaseModel):
    """Base of the records of a mapping: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class SourceText(MappingPart):
    """A text the mapping was made from."""

    title: Text
    """Title, number and date of the text."""
    read: Literal["official text", "from secondary sources"]
    """What the rows were written from: the text itself, or what others say about it."""


class EvidenceSlot(MappingPart):
    """Evidence of one kind: the results of a check, or a part of the run's record."""

    check: Code | None = None
    """Code of a check whose results are evidence."""
    record: RecordName | None = None
    """A part of the run's record that is evidence."""
    metrics: tuple[Text, ...] = ()
    """Metrics of the check that are shown, as globs."""
    facts: tuple[Text, ...] = ()
    """Facts of the check that are shown; one that is missing is told as not recorded."""
    unless: dict[Text, Text] = Field(default={})
    """Facts with values at which a result that holds is no answer for the row."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.check is None) == (self.record is None):
            raise ValueError("evidence names either a check or a record")
        if self.record is not None and (self.metrics or self.facts or self.unless):
            raise ValueError("metrics, facts and `unless` belong to a check, not to a record")
        return self


class Row(MappingPart):
    """One slot of the framework."""

    id: Identifier
    """Name of the row, unique in the mapping."""
    title: Text
    """The slot in a few words, paraphrased."""
    source: Text
    """Where the framework asks for it: article, point, clause."""
    asks: Text
    """What is asked for, paraphrased."""
    evidence: tuple[EvidenceSlot, ...] = ()
    """What answers it; nothing means that it is never assessed."""
    judged: Literal["by verdicts", "by record"] = "by verdicts"
    """By verdicts: a failing result fails the row. By record: what counts is that it is there."""
    needs: Literal["all", "any"] = "any"
    """Whether each of the checks must have an answer, or one is enough."""
    covers: Literal["whole", "part"] = "part"
    """Whether the evidence fills the slot; a part of it never becomes more than partial."""
    beyond: Text | None = None
    """What the evidence does not speak of."""

    @model_validator(mode="after")
    def _gap_is_told(self) -> Self:
        if self.beyond is None and (self.covers == "part" or not self.evidence):
            raise ValueError("a row that is filled in part or not at all says what is `beyond`")
        if self.needs == "all" and not self.codes:
            raise ValueError("`needs: all` needs checks")
        return self

    @property
    def codes(self) -> tuple[str, ...]:
        """Codes of the checks that are evidence, each once."""
        return tuple(dict.fromkeys(slot.check for slot in self.evidence if slot.check))


class Section(MappingPart):
    """Rows that belong together."""

    id: Identifier
    """Name of the section, unique in the mapping."""
    title: Text
    """Heading."""
    note: Text | None = None
    """What a reader should know before the rows."""
    attack_classes: bool = False
    """Whether each row is a class of attacks, said to be tested or not tested."""
    rows: tuple[Row, ...] = Field(min_length=1)
    """The slots, in the framework's order."""


class PropertyReading(MappingPart):
    """Where the fields of a formal property are found in a check's results.

    Each field lists references: `fact:NAME`, `parameter:NAME`, `data:NAME` (a digest) and
    `metric:NAME` of the result, `model:NAME` (a fact of AUD101 about the same subject), `card:NAME`
    (the check's description), `run:seed`. A field without any is shown as not recorded.
    """

    check: Code
    """Code of the check."""
    type: Literal["stability", "sensitivity", "relevance", "reachability", "other", "not recorded"]
    """Type of its properties; `other` is none of the four."""
    type_reason: Text
    """Why it is read so."""
    domain: tuple[Reference, ...] = ()
    """Inputs the property speaks of."""
    criterion: tuple[Reference, ...] = ()
    """What decides whether it holds."""
    architecture: tuple[Reference, ...] = ()
    """Kind of network."""
    data_type: tuple[Reference, ...] = ()
    """Kind and shape of its inputs."""
    complete: tuple[Reference, ...] = ()
    """Whether the verifier decides every question in the end."""
    deterministic: tuple[Reference, ...] = ()
    """Whether it gives the same answer again."""
    arithmetic: tuple[Reference, ...] = ()
    """Real or computer arithmetic."""
    method: tuple[Reference, ...] = ()
    """Method, and how the search ended."""
    stage: tuple[Reference, ...] = ()
    """Stage of the life cycle."""


class FrameworkMapping(MappingPart):
    """A mapping file: what one framework asks for and what answers it."""

    version: Literal[1] = 1
    """Version of this format."""
    id: Identifier
    """Name of the framework on the command line."""
    aliases: tuple[Identifier, ...] = ()
    """Earlier names that lead here."""
    alias_note: Text | None = None
    """What is told who asks by an earlier name; required where there is one."""
    title: Text
    """Title of the dossier."""
    framework: Text
    """Full name of the framework."""
    framework_version: Text
    """Which version of it was mapped."""
    sources: tuple[SourceText, ...] = Field(min_length=1)
    """The texts the mapping was made from."""
    last_reviewed: date
    """When the mapping was last compared with its sources."""
    reviewer_role: Text
    """Role of who compared it; not a name."""
    notes: tuple[Text, ...] = ()
    """What a reader must know about the framework and this mapping."""
    sections: tuple[Section, ...] = Field(min_length=1)
    """The slots."""
    formal_properties: tuple[PropertyReading, ...] = ()
    """How formal properties are read from the results; none for most frameworks."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for kind, names in (
            ("row", [row.id for row in self.rows()]),
            ("section", [section.id for section in self.sections]),
            ("property reading", [reading.check for reading in self.formal_properties]),
        ):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice:
                raise ValueError(f"{kind} '{twice}' stands twice")
        if self.aliases and self.alias_note is None:
            raise ValueError("a mapping with `aliases` says in `alias_note` what became of them")
        return self

    def rows(self) -> Iterator[Row]:
        """Every row, in order."""
        for section in self.sections:
            yield from section.rows


class Declaration(MappingPart):
    """A user's word that a row does not apply."""

    framework: Identifier
    """Framework of the row."""
    row: Identifier
    """The row."""
    reason: Text
    """Why it does not apply."""
    declared_by: Text
    """Role of who says so."""


class Applicability(MappingPart):
    """An applicability file: what the user declares as not applicable."""

    version: Literal[1] = 1
    """Version of this format."""
    not_applicable: tuple[Declaration, ...] = ()
    """The declarations, each with its reason."""

    @model_validator(mode="after")
    def _rows_are_unique(self) -> Self:
        rows = [(each.framework, each.row) for each in self.not_applicable]
        twice = next((row for row in rows if rows.count(row) > 1), None)
        if twice:
            raise ValueError(f"row '{twice[1]}' of {twice[0]} is declared twice")
        return self

    def of(self, mapping: FrameworkMapping) -> dict[str, Declaration]:
        """The declarations about this framework, by row.

        Raises:
            UnknownName: The framework has no such row.
        """
        names = (mapping.id, *mapping.aliases)
        own = {each.row: each for each in self.not_applicable if each.framework in names}
        known = [row.id for row in mapping.rows()]
        for name in own:
            if name not in known:
                raise UnknownName(f"row of {mapping.id}", name, known)
        return own
