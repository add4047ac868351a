"""The plan: which subjects, checks, limits, policy and reports make up an audit.

`load_plan` reads the YAML strictly (unknown keys are errors with place and hint);
`resolve_plan` turns it into subjects with digests and a list of units, one check of
one subject each. Nothing of a model is opened here beyond its bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from auditor.audit.policy import Policy
from auditor.errors import FileMissing, InvalidText, UnknownName
from auditor.files import read_text_file
from auditor.models.subject_files import FOLDER_KINDS, ModelKind
from auditor.strict_yaml import Document, parse, validate

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
MAX_PLAN_BYTES = 4_000_000
"""Of the file, and of all text that its variables put into it."""
MAX_MATCHES = 10_000
"""Most models that one glob may name."""


class PlanPart(BaseModel):
    """Base of the plan's parts: frozen, unknown keys refused, docstrings in the schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Variable(PlanPart):
    """A value given on the command line with `--set name=value`, used as `${name}`."""

    description: str
    """What to give, for the error message when it is missing."""
    default: str | None = None
    """Used when no value is given; without it the value is required."""


class SubjectSpec(PlanPart):
    """A model to audit, or several by a glob."""

    path: str
    """The model's file or folder, relative to the plan; `*` and `?` match several."""
    name: str | None = None
    """Name used in reports; the file's name without its ending, or the folder's, when left out."""
    kind: ModelKind = "onnx"
    """What it is: `onnx` is a file, `transformers` a folder with config.json and safetensors,
    `diffusers` a folder with one of these in a sub-folder for each component."""


class Limits(PlanPart):
    """What one check may use before it is stopped with the verdict `unknown`."""

    time_s: float = Field(default=300.0, gt=0)
    """Wall-clock seconds."""
    memory_mb: float = Field(default=8192.0, gt=0)
    """Resident memory of the check's process, in megabytes."""


class CheckSpec(PlanPart):
    """One check to run on some or all of the subjects."""

    check: str
    """The check's code, for example AUD201."""
    id: str | None = None
    """Distinguishes two uses of one check; the code when left out."""
    subjects: tuple[str, ...] = ("*",)
    """Names of the subjects, or globs."""
    params: dict[str, JsonValue] = {}
    """The check's own parameters; `auditor list checks` describes them."""
    required: bool = True
    """Whether an open answer makes the gate inconclusive."""
    limits: Limits | None = None
    """Overrides the plan's limits."""


ReportFormat = Literal[
    "html", "json", "sarif", "junit", "markdown", "oscal", "cyclonedx", "modelcard", "intoto"
]
"""Formats that a run writes by itself; PDF is slow and written on request."""


class Plan(PlanPart):
    """An audit plan."""

    version: Literal[1]
    """Version of this format."""
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """Short name: small letters, digits and hyphens."""
    title: str = ""
    """One line for the report's head."""
    description: str = ""
    """What the audit is for."""
    variables: dict[str, Variable] = {}
    """Values the command line may set."""
    subjects: tuple[SubjectSpec, ...] = Field(min_length=1)
    """The models."""
    checks: tuple[CheckSpec, ...] = Field(min_length=1)
    """The questions."""
    policy: Policy = Policy()
    """What the gate demands."""
    reports: tuple[ReportFormat, ...] = (
        "html", "json", "sarif", "junit", "markdown",
    )  # fmt: skip
    """Report formats to write."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of every random choice."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """Where models run."""
    limits: Limits = Limits()
    """Limits of each check."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        seen: set[str] = set()
        for subject in self.subjects:
            if subject.name in seen:
                raise ValueError(f"two subjects are called '{subject.name}'; rename one")
            if subject.name:
                seen.add(subject.name)
        return self


@dataclass(frozen=True)
class LoadedPlan:
    """A plan and the text it came from, variables filled in.

    Attributes:
        file: The plan's name in messages and reports.
        folder: Where its relative paths start.
    """

    plan: Plan
    file: str
    folder: Path
    document: Document

    @property
    def digest(self) -> str:
        """SHA-256 of the plan's canonical JSON, variables filled in."""
        return "sha256:" + hashlib.sha256(self.plan.model_dump_json().encode()).hexdigest()

    def with_seed(self, seed: int) -> LoadedPlan:
        """The same plan with another seed."""
        return replace(self, plan=self.plan.model_copy(update={"seed": seed}))

    def line_of_check(self, number: int) -> int:
        """The line on which the plan's check `number` begins."""
        return self.document.place(("checks", number)).line


def load_plan(path: Path, values: Mapping[str, str], *, name: str | None = None) -> LoadedPlan:
    """Read a plan file.

    Args:
        path: The YAML file.
        values: Values for the plan's variables.
        name: What to call the file in messages and reports; its path when left out.

    Raises:
        FileMissing: There is no such file.
        InvalidText: It is not a valid plan; names file, line and column.
    """
    source = name or str(path)
    document = parse(read_text_file(path, "plan", MAX_PLAN_BYTES), source)
    _check_version(document)
    document = _substitute(document, values)
    return LoadedPlan(validate(document, Plan), source, path.parent, document)


def _check_version(document: Document) -> None:
    version = document.value.get("version") if isinstance(document.value, dict) else 1
    if version not in (1, None):
        raise InvalidText(
            document.place(("version",)),
            f"plan version {version} is not known; this auditor reads version 1",
        )


def _substitute(document: Document, values: Mapping[str, str]) -> Document:
    """The document with `${name}` replaced in every string outside `variables`."""
    root = document.value
    declared = root.get("variables", {}) if isinstance(root, dict) else {}
    declared = declared if isinstance(declared, dict) else {}
    for name in values:
        if name not in declared:
            raise UnknownName(
                f"variable of {document.source}", name, sorted(declared) or ["none declared"]
            )

    added = 0

    def value_of(name: str, keys: tuple[str | int, ...]) -> str:
        nonlocal added
        spec = declared.get(name)
        if not isinstance(spec, dict):
            raise InvalidText(document.place(keys), f"variable '{name}' is not declared")
        given = values.get(name, spec.get("default"))
        if given is None:
            raise InvalidText(
                document.place(keys),
                f"a value for '{name}' is needed ({spec.get('description', '')}); "
                f"add --set {name}=VALUE",
            )
        added += len(str(given))
        if added > MAX_PLAN_BYTES:
            raise InvalidText(
                document.place(keys),
                f"variables put more than {MAX_PLAN_BYTES} characters into the plan; use '{name}' "
                "less often, or shorten it",
            )
        return str(given)

    def walk(value: Any, keys: tuple[str | int, ...]) -> Any:
        if keys == ("variables",):
            return value
        if isinstance(value, dict):
            return {key: walk(child, (*keys, key)) for key, child in value.items()}
        if isinstance(value, list):
            return [walk(child, (*keys, number)) for number, child in enumerate(value)]
        if isinstance(value, str):
            return _VARIABLE.sub(lambda found: value_of(found[1], keys), value)
        return value

    return Document(walk(root, ()), document.source, document.places)


def expand_subjects(loaded: LoadedPlan) -> Iterator[tuple[str, Path, ModelKind]]:
    """Name, path and kind of each subject, globs expanded in sorted order.

    Raises:
        FileMissing: A path or glob matches nothing.
        InvalidText: Two subjects end up with one name, or a path does not fit its kind.
    """
    seen: dict[str, Path] = {}
    for number, spec in enumerate(loaded.plan.subjects):
        for path in _matching_paths(loaded, number, spec):
            name = spec.name or _name_of(path, spec.kind)
            if name in seen:
                raise InvalidText(
                    f"{loaded.file}: subjects.{number}",
                    f"{seen[name]} and {path} would both be called '{name}'; give one a name",
                )
            seen[name] = path
            yield name, path, spec.kind


def _name_of(path: Path, kind: ModelKind) -> str:
    if kind in FOLDER_KINDS:
        return path.resolve().name or "model"
    return path.name.removesuffix(".gz").removesuffix(".onnx")


def _matching_paths(loaded: LoadedPlan, number: int, spec: SubjectSpec) -> list[Path]:
    """The paths a subject names; of a glob only what fits the subject's kind."""
    place = loaded.document.place(("subjects", number, "path"))
    try:
        found = _glob(loaded.folder, spec.path)
    except (ValueError, OSError) as error:
        # `a**` is no glob, and some names are longer than a file's may be.
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidText(
            place, f"'{spec.path[:80]}' is no path: {reason}; name a file, a folder or a glob"
        ) from None
    if len(found) > MAX_MATCHES:
        raise InvalidText(
            place, f"'{spec.path[:80]}' names more than {MAX_MATCHES} models; name fewer"
        )
    if not found:
        raise FileMissing(loaded.folder / spec.path, "model")
    wants_folder = spec.kind in FOLDER_KINDS
    fitting = [path for path in found if path.is_dir() == wants_folder]
    if fitting:
        return fitting
    if wants_folder:
        raise InvalidText(
            place,
            f"{found[0]} is no folder, and kind {spec.kind} is one; name the model's folder, or "
            "write kind: onnx",
        )
    raise InvalidText(
        place,
        f"{found[0]} is a folder, and kind onnx is a file; write kind: transformers for a "
        "language model, kind: diffusers for a diffusion model, or name the .onnx file",
    )


def _glob(folder: Path, pattern: str) -> list[Path]:
    if not any(sign in pattern for sign in "*?["):
        path = folder / pattern
        return [path] if path.exists() else []
    anchor = Path(pattern)
    base = Path(anchor.anchor) if anchor.is_absolute() else folder
    relative = anchor.relative_to(anchor.anchor) if anchor.is_absolute() else anchor
    matching = (
        path
        for path in base.glob(str(relative))
        if (path.is_dir() or path.is_file()) and _is_meant(path.relative_to(base), relative)
    )
    return sorted(islice(matching, MAX_MATCHES + 1))


def _is_meant(path: Path, pattern: Path) -> bool:
    """Whether a path has no hidden part but what is written out: what is unfinished is hidden."""
    hidden, written = (sum(part.startswith(".") for part in each.parts) for each in (path, pattern))
    return hidden <= written


def select_subjects(spec: CheckSpec, names: Sequence[str]) -> list[str]:
    """The subjects a check applies to, in plan order.

    Raises:
        UnknownName: A name or glob of the check matches no subject.
    """
    for wanted in spec.subjects:
        if not any(fnmatchcase(name, wanted) for name in names):
            raise UnknownName(f"subject of check {spec.id or spec.check}", wanted, names)
    return [name for name in names if any(fnmatchcase(name, w) for w in spec.subjects)]
