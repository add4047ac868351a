"""The contract of a check: one question asked of one subject.

A check is a module with `Params` (a frozen pydantic model with its parameters),
`run(subject, params, context) -> Answer`, and `CHECK = Check(...)`. It turns an
engine's answer into records; it knows no other check, plan, report or terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from auditor.errors import ConfigurationError
from auditor.findings import Answer, BlobRef, CheckCard

CODE = re.compile(r"AUD\d{3}")

P = TypeVar("P", bound="CheckParams")


def _rising(ends: tuple[float, float]) -> tuple[float, float]:
    if not ends[0] <= ends[1]:
        raise ValueError(f"a range from {ends[0]:g} to {ends[1]:g}; give its lower end first")
    return ends


Range = Annotated[tuple[float, float], AfterValidator(_rising)]
"""Lower and upper end of a range of numbers."""


class _TakesFolder:
    """Marks a path that names a folder, also in the parameters' JSON schema."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(schema) | {"format": "directory-path"}


FolderPath = Annotated[Path, _TakesFolder()]
"""A folder: a corpus index, or a second model."""


class CheckParams(BaseModel):
    """Base of a check's parameters: frozen, unknown keys refused.

    A field of type `Path` names an input file, one of type `FolderPath` a folder; both may
    be optional. The plan resolves it against the plan's folder, and its digest (of a folder:
    of the names and contents of its files) becomes part of the result's key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def path_parameters(model: type[CheckParams]) -> dict[str, Literal["file", "folder"]]:
    """Which parameters of a check name a file and which a folder."""
    found: dict[str, Literal["file", "folder"]] = {}
    for name, field_info in model.model_fields.items():
        # pydantic moves the marker of a plain FolderPath out of the type.
        parts = [*field_info.metadata, *_parts_of(field_info.annotation)]
        if any(isinstance(part, _TakesFolder) for part in parts):
            found[name] = "folder"
        elif Path in parts:
            found[name] = "file"
    return found


def _parts_of(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts_of(part)


@dataclass(frozen=True)
class Subject:
    """A model under audit.

    Attributes:
        name: The plan's name for it.
        path: The file (or folder) on this machine.
        kind: `onnx` for a file, `transformers` for a folder.
        digest: `sha256:<hex>` of its bytes as they were when the run began: of the file, or
            of the names and contents of the folder's files.
    """

    name: str
    path: Path
    kind: str
    digest: str


class EvidenceStore(Protocol):
    """Where a check puts files that belong to its answer."""

    def put(self, content: bytes, media_type: str, name: str = "") -> BlobRef:
        """Store the bytes under their digest; storing twice is storing once."""
        ...


@dataclass(frozen=True)
class CheckContext:
    """What a check may use besides its subject and parameters.

    Attributes:
        seed: Seed of every random choice.
        device: `cpu` or `cuda`.
        time_limit_s: Wall-clock seconds the check should stay under; it stops by
            itself with `unknown`, the runner's hard stop comes later.
        evidence: Store for files.
        progress: Called with (done share in [0, 1], short text).
    """

    seed: int
    device: str
    time_limit_s: float
    evidence: EvidenceStore
    progress: Callable[[float, str], None] = field(default=lambda share, text: None)


@dataclass(frozen=True)
class Check(Generic[P]):
    """One question with a stable code.

    Attributes:
        code: `AUDnnn`, never reused.
        version: Raised whenever the same input may get another answer.
        kinds: Subject kinds it can examine.
        prepare: Looks at a subject and its parameters before anything runs; raises
            `ConfigurationError` when they do not fit each other and `Unsupported` for
            what the check cannot express.
        estimate_s: Rough wall-clock seconds for a subject and its parameters, used
            for the estimate before a run, never for a verdict.
    """

    code: str
    title: str
    version: int
    question: str
    method: str
    pass_does_not_mean: str
    kinds: tuple[str, ...]
    params: type[P]
    run: Callable[[Subject, P, CheckContext], Answer]
    estimate_s: Callable[[P], float]
    prepare: Callable[[Subject, P], None] = field(default=lambda subject, params: None)

    def __post_init__(self) -> None:
        if not CODE.fullmatch(self.code):
            raise ConfigurationError(f"check code '{self.code}' is not of the form AUDnnn")

    def card(self) -> CheckCard:
        """The check's description for readers of a report."""
        return CheckCard(
            code=self.code,
            title=self.title,
            version=self.version,
            question=self.question,
            method=self.method,
            pass_does_not_mean=self.pass_does_not_mean,
        )
