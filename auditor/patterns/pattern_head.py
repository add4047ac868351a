"""The JSON head of a pattern file; `specs/pattern-file.md` describes the whole file."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from auditor.activations.capture import Granularity
from auditor.patterns.pattern_set import MAX_NEURONS, MAX_STATES, Members

FORMAT: Final = "auditor-patterns"
MAX_CLASSES: Final = 100_000
MAX_CLASS_PAIRS: Final = 2**27
MAX_SAMPLES: Final = 2**40
_Count = Annotated[int, Field(ge=0, le=MAX_SAMPLES)]
_Digest = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}:[0-9a-f]{64}$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LayerHead(_Record):
    """One layer; its arrays are `layer.N.active`, `.inactive`, `.counts`, `.thresholds`."""

    name: str = Field(max_length=1000)
    """The layer's node, as the verifier names its ReLU layers."""
    operator: str = Field(max_length=100)
    """Its activation function."""
    neurons: int = Field(ge=1, le=MAX_NEURONS)
    """Its neurons, flattened in row-major order, or its channels."""
    thresholds: bool
    """Whether neurons have thresholds of their own; else a neuron is active above 0."""


class HeldOutHead(_Record):
    """What samples that were held out showed; arrays `heldout.*`."""

    in_wrong: tuple[_Count, ...]
    """Samples inside a wrong class's pattern, one number for each delta."""
    ambiguous: tuple[_Count, ...]
    """Samples inside several classes' patterns, one number for each delta."""


class PatternHead(_Record):
    """Which patterns the arrays of a file hold."""

    format: Literal["auditor-patterns"] = FORMAT
    """What the file is."""
    version: Literal[1] = 1
    """Version of the format."""
    model: _Digest
    """Digest of the model the patterns were mined from."""
    deltas: tuple[Annotated[str, Field(pattern=r"^[0-9]{1,7}(/[0-9]{1,7})?$")], ...] = Field(
        min_length=1, max_length=64
    )
    """Exact fractions, for example `19/20`."""
    members: Members
    """Which samples counted for a class."""
    granularity: Granularity
    """What a neuron is."""
    samples: tuple[_Count, ...] = Field(min_length=2, max_length=MAX_CLASSES)
    """Samples that counted, one number for each class."""
    layers: tuple[LayerHead, ...] = Field(min_length=1, max_length=10_000)
    """The layers in the model's order."""
    heldout: HeldOutHead | None = None
    """Absent where nothing was held out."""
    digest: str = Field(default="", pattern=r"^(sha256:[0-9a-f]{64})?$")
    """SHA-256 of this head with an empty digest and of all arrays."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        neurons = sum(layer.neurons for layer in self.layers)
        if neurons > MAX_NEURONS:
            raise ValueError(f"{neurons} neurons; the limit is {MAX_NEURONS}")
        states = len(self.deltas) * len(self.samples) * neurons
        if states > MAX_STATES:
            raise ValueError(f"{states} states; the limit is {MAX_STATES}")
        pairs = len(self.deltas) * len(self.samples) ** 2
        if pairs > MAX_CLASS_PAIRS:
            raise ValueError(f"{pairs} pairs of classes; the limit is {MAX_CLASS_PAIRS}")
        if len({layer.name for layer in self.layers}) != len(self.layers):
            raise ValueError("a layer stands twice")
        if len(set(self.deltas)) != len(self.deltas):
            raise ValueError("a delta stands twice")
        held = self.heldout
        if held and not len(held.in_wrong) == len(held.ambiguous) == len(self.deltas):
            raise ValueError("held-out numbers for another number of deltas")
        return self
