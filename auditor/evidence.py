"""The kinds of evidence that an answer or a finding carries: plain data, told apart by `kind`.

A new kind is a record here, a line in `Evidence`, and a way to draw it in each report.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator


class Record(BaseModel):
    """Base of every persisted record: frozen, no unknown keys, infinities as strings."""

    # Validators are built when a record is first made: most commands make few kinds of them.
    model_config = ConfigDict(
        frozen=True, extra="forbid", ser_json_inf_nan="strings", defer_build=True
    )


class BlobRef(Record):
    """A file in the run's `evidence/` folder, named by its digest."""

    digest: str
    media_type: str
    size: int
    name: str = ""


class TextEvidence(Record):
    """A piece of text."""

    kind: Literal["text"] = "text"
    title: str
    text: str


class TableEvidence(Record):
    """A table of plain values."""

    kind: Literal["table"] = "table"
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | bool | None, ...], ...]
    total_rows: int | None = None

    @model_validator(mode="after")
    def _rows_fit_columns(self) -> Self:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"row {number} has {len(row)} cells for {len(self.columns)} columns"
                )
        return self


class CurvePoint(Record):
    """One point of a curve, with the interval of its y value where it is sampled."""

    x: float
    y: float
    lower: float | None = None
    upper: float | None = None


class CurveSeries(Record):
    """A named line of a curve."""

    name: str
    points: tuple[CurvePoint, ...]


class CurveEvidence(Record):
    """One or more lines over a common axis."""

    kind: Literal["curve"] = "curve"
    title: str
    x_label: str
    y_label: str
    series: tuple[CurveSeries, ...]
    description: str = ""


class HeatMapEvidence(Record):
    """A grid of numbers on one scale, `None` where there is nothing to measure.

    `lower` and `upper` are the ends of the scale, not of the values.
    """

    kind: Literal["heat_map"] = "heat_map"
    title: str
    row_label: str
    column_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    lower: float = 0.0
    upper: float = 1.0
    description: str = ""

    @model_validator(mode="after")
    def _values_fill_the_grid(self) -> Self:
        shape = {len(row) for row in self.values}
        if len(self.values) != len(self.rows) or shape - {len(self.columns)}:
            raise ValueError(f"the values do not fill {len(self.rows)}x{len(self.columns)} cells")
        if not self.lower < self.upper:
            raise ValueError(f"a scale from {self.lower} to {self.upper}")
        return self


class ExpertMapEvidence(Record):
    """A number for each routed expert of each layer, `None` where nothing was measured.

    Attributes:
        layers: Numbers of the decoder layers, one for each row of `values`.
        experts: Routed experts of a layer: the columns of `values`.
        values: Of any sign; the scale of the picture is the largest size among them.
        marked: Layer and number of experts that are pointed out.
        unit: Of the values.
    """

    kind: Literal["expert_map"] = "expert_map"
    title: str
    layers: tuple[int, ...]
    experts: int = Field(ge=1)
    values: tuple[tuple[FiniteFloat | None, ...], ...]
    marked: tuple[tuple[int, int], ...] = ()
    unit: str = ""
    description: str = ""

    @model_validator(mode="after")
    def _values_fill_the_map(self) -> Self:
        shape = {len(row) for row in self.values}
        if len(self.values) != len(self.layers) or shape - {self.experts}:
            raise ValueError(f"the values do not fill {len(self.layers)}x{self.experts} cells")
        if len(set(self.layers)) < len(self.layers):
            raise ValueError("a layer has two rows")
        for layer, expert in self.marked:
            if layer not in self.layers or not 0 <= expert < self.experts:
                raise ValueError(f"expert {layer}:{expert} is marked and not in the map")
        return self


class GrayImage(Record):
    """A small grey-scale picture; pixels row by row in [0, 1], 0 is black."""

    caption: str
    width: int
    height: int
    pixels: tuple[float, ...]

    @model_validator(mode="after")
    def _pixels_fill_the_frame(self) -> Self:
        if len(self.pixels) != self.width * self.height:
            raise ValueError(f"{len(self.pixels)} pixels for {self.width}x{self.height}")
        return self


class ImageEvidence(Record):
    """A row of pictures that belong together."""

    kind: Literal["images"] = "images"
    title: str
    images: tuple[GrayImage, ...]
    description: str = ""


class Replay(Record):
    """What happened when a witness was run again in the deployed runtime."""

    runtime: str
    provider: str
    optimised: bool
    outputs: tuple[float, ...]
    violates: bool


class WitnessEvidence(Record):
    """A concrete input that breaks a property, with its replays.

    `inputs` and `outputs` are flat, in the order of the model's tensors. It counts
    only when every entry of `replays` violates the property.
    """

    kind: Literal["witness"] = "witness"
    title: str
    property_text: str
    violation_text: str
    inputs: tuple[float, ...]
    input_shape: tuple[int, ...]
    outputs: tuple[float, ...]
    margin: float
    exact_violates: bool | None = None
    replays: tuple[Replay, ...]
    blob: BlobRef | None = None


class TextPiece(Record):
    """A part of a text: what is shown of it, and how many characters behind that are not.

    `span` is the number of the traced span it belongs to, counted from 1; text between
    the spans has none.
    """

    text: str
    hidden: int = Field(default=0, ge=0)
    span: int | None = None


class TracedSpan(Record):
    """A span of a text that stands word for word in an index of training text.

    Attributes:
        count: How often it stands there.
        documents: Names of candidate sources, some of `documents_total`.
        tokens: Its length.
        scores: By name, for example `surprisal (BCI)`, `log10 E`, `policy conflict`.
        clause: The clause of the policy that was scored highest, or empty.
        digest: `sha256:<hex>` of the span's bytes.
        flagged: Whether it alone would flag the text.
    """

    count: int = Field(ge=0)
    documents: tuple[str, ...] = ()
    documents_total: int = Field(ge=0)
    tokens: int = Field(ge=0)
    scores: dict[str, FiniteFloat] = {}
    clause: str = ""
    digest: str
    flagged: bool = False

    @model_validator(mode="after")
    def _some_of_all_documents(self) -> Self:
        if len(self.documents) > self.documents_total:
            raise ValueError(f"{len(self.documents)} documents of {self.documents_total}")
        return self


class TracedTextEvidence(Record):
    """A completion with its spans that stand in an index; no statement about why they do.

    `pieces` are the completion in order, `verdict` is a word such as `allow`, `flag`,
    `refuse` or `no_evidence`. `blob` names the file in the run's `evidence/` folder that
    holds this record with nothing left out; see `auditor.redaction`.
    """

    kind: Literal["traced_text"] = "traced_text"
    title: str
    prompt: str = ""
    prompt_hidden: int = Field(default=0, ge=0)
    pieces: tuple[TextPiece, ...]
    spans: tuple[TracedSpan, ...] = ()
    verdict: str
    note: str = ""
    blob: BlobRef | None = None

    @model_validator(mode="after")
    def _spans_exist(self) -> Self:
        for number, piece in enumerate(self.pieces):
            if piece.span is not None and not 1 <= piece.span <= len(self.spans):
                raise ValueError(
                    f"piece {number} belongs to span {piece.span}; "
                    f"the spans are counted from 1 to {len(self.spans)}"
                )
        return self


class BlobEvidence(Record):
    """A file kept beside the report."""

    kind: Literal["blob"] = "blob"
    title: str
    blob: BlobRef


Evidence = Annotated[
    TextEvidence
    | TableEvidence
    | CurveEvidence
    | HeatMapEvidence
    | ExpertMapEvidence
    | ImageEvidence
    | WitnessEvidence
    | TracedTextEvidence
    | BlobEvidence,
    Field(discriminator="kind"),
]


def blob_of(evidence: Evidence) -> BlobRef | None:
    """The file that belongs to a piece of evidence, if one does."""
    blob: BlobRef | None = getattr(evidence, "blob", None)
    return blob
