"""The keys of a YAML property, as strict records; what they mean is in `property_yaml`."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from auditor.verify.property.numbers import exact_decimal


def _decimal(value: object) -> Fraction:
    if not isinstance(value, str):
        raise ValueError("expected a number")  # noqa: TRY004 - pydantic reports ValueError
    return exact_decimal(value)


def _integer(value: object) -> object:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 9:
        return int(value)
    return value


Exact = Annotated[Fraction, BeforeValidator(_decimal)]
Output = Annotated[int | str, BeforeValidator(_integer)]
Index = Annotated[int, BeforeValidator(_integer), Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class BoxInputs(_Part):
    """Lower and upper ends, one number for all inputs or one each."""

    lower: list[Exact] | Exact
    upper: list[Exact] | Exact


class AroundInputs(_Part):
    """All inputs within `radius` of `center` in every coordinate, clipped."""

    center: list[Exact]
    radius: Annotated[Exact, Field(ge=0)]
    clip: tuple[Exact, Exact] | None = None


class Linear(_Part):
    """A weighted sum of outputs and inputs compared with a number; a tie is allowed."""

    outputs: dict[Output, Exact] = Field(default_factory=dict)
    inputs: dict[Index, Exact] = Field(default_factory=dict)
    at_most: Exact | None = None
    at_least: Exact | None = None

    @model_validator(mode="after")
    def _compared_once(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give exactly one of 'at_most' and 'at_least'")
        if not any((*self.outputs.values(), *self.inputs.values())):
            raise ValueError("give at least one factor that is not zero")
        return self


class InputCondition(Linear):
    """A condition on inputs alone."""

    @model_validator(mode="after")
    def _inputs_alone(self) -> Self:
        if self.outputs:
            raise ValueError("outputs are no part of the set of inputs; move it to 'then'")
        return self


class Inputs(_Part):
    """The set of inputs: a box in exactly one of its forms, and conditions on top."""

    box: BoxInputs | None = None
    around: AroundInputs | None = None
    where: list[InputCondition] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.box is None) == (self.around is None):
            raise ValueError("give exactly one of 'box' and 'around'")
        return self


class Outputs(_Part):
    """Names of the outputs, in order."""

    names: list[str]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError("two outputs have the same name")
        if any(name.isdecimal() or not name for name in self.names):
            raise ValueError("a name must not be a number or empty")
        return self


class AnyClass(_Part):
    """The largest output is one of these."""

    any_of: list[Output] = Field(alias="in", min_length=1)


class OutputLimit(_Part):
    """One output compared with a number."""

    output: Output
    value: Exact


class OutputOrder(_Part):
    """One output strictly greater than another."""

    output: Output
    than: Output


class Condition(_Part):
    """One condition, in exactly one of its forms."""

    required_class: Output | AnyClass | None = Field(default=None, alias="class")
    at_most: OutputLimit | None = None
    at_least: OutputLimit | None = None
    greater: OutputOrder | None = None
    linear: Linear | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        forms = (self.required_class, self.at_most, self.at_least, self.greater, self.linear)
        if sum(form is not None for form in forms) != 1:
            raise ValueError(
                "give exactly one of 'class', 'at_most', 'at_least', 'greater', 'linear'"
            )
        return self


class States(_Part):
    """The states asked of one ReLU layer."""

    active: list[Index] = Field(default_factory=list)
    inactive: list[Index] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_state_each(self) -> Self:
        both = sorted(set(self.active) & set(self.inactive))
        if both:
            raise ValueError(f"neuron {both[0]} is both active and inactive")
        return self


class PropertyFile(_Part):
    """A whole property file."""

    version: Annotated[Literal[1], BeforeValidator(_integer)]
    id: str = Field(min_length=1, max_length=200)
    title: str = ""
    inputs: Inputs
    following: dict[Output, States] | None = Field(default=None, min_length=1)
    example: list[Exact] | None = None
    outputs: Outputs | None = None
    then: list[Condition] = Field(min_length=1)

    @model_validator(mode="after")
    def _an_example_of_something(self) -> Self:
        if self.example is not None and self.following is None:
            raise ValueError("'example' is an input that follows a pattern; add 'following'")
        return self
