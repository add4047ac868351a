"""What a verification found, as records for a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError
from auditor.findings import (
    Evidence,
    GrayImage,
    ImageEvidence,
    Metric,
    Replay,
    WitnessEvidence,
)
from auditor.verify.onnx_subject import OnnxSubject
from auditor.verify.outcome import Statistics
from auditor.verify.property import Property
from auditor.verify.witness import Witness


def witness_evidence(
    title: str, prop: Property, witness: Witness, subject: OnnxSubject
) -> WitnessEvidence:
    """A witness with its replays."""
    runtimes = {replayer.label: replayer for replayer in subject.replayers}
    return WitnessEvidence(
        title=title,
        property_text=prop.text,
        violation_text=prop.violation_text,
        inputs=tuple(float(value) + 0.0 for value in witness.inputs),  # -0.0 is shown as 0.0
        input_shape=tuple(axis or 1 for axis in subject.model.inputs[0].shape),
        outputs=witness.outputs,
        margin=witness.margin,
        exact_violates=witness.exact_violates,
        replays=tuple(
            Replay(
                runtime=replay.label,
                provider=runtimes[replay.label].provider,
                optimised=runtimes[replay.label].optimised,
                outputs=replay.outputs,
                violates=replay.violates,
            )
            for replay in witness.replays
        ),
    )


def pictured_witness(
    prop: Property,
    witness: Witness,
    subject: OnnxSubject,
    image_shape: tuple[int, int] | None,
    caption: str,
) -> tuple[Evidence, ...]:
    """A witness, and its picture where inputs are pictures of a height and width."""
    record = witness_evidence("Witness", prop, witness, subject)
    if image_shape is None:
        return (record,)
    picture = gray_image(witness.inputs, image_shape, caption)
    return record, ImageEvidence(title="The witness as a picture", images=(picture,))


def statistics_metrics(statistics: Statistics) -> tuple[Metric, ...]:
    """The deterministic figures of a search."""
    figures = (
        ("subproblems", statistics.boxes, "boxes bounded"),
        ("max_depth", statistics.max_depth, "splits on the deepest path"),
        ("falsifier_evaluations", statistics.falsifier_evaluations, "points tried"),
        ("z3_queries", statistics.z3_queries, "queries"),
    )
    shares = (
        Metric(
            name=f"share_decided_by_{engine}",
            value=min(1.0, share),
            unit="share of the input region",
        )
        for engine, share in sorted(statistics.decided_share.items())
    )
    counts = (Metric(name=name, value=value, unit=unit) for name, value, unit in figures)
    return (*counts, *shares)


def check_image_shape(shape: tuple[int, int] | None, num_inputs: int) -> None:
    """Refuse a picture shape (height, width) that is not the model's input.

    Raises:
        ConfigurationError: The numbers of pixels and of inputs differ.
    """
    if shape is not None and shape[0] * shape[1] != num_inputs:
        raise ConfigurationError(
            f"image_shape {shape[0]}x{shape[1]} is not a picture of the model's {num_inputs} "
            "inputs; give its height and width"
        )


def gray_image(
    values: NDArray[np.floating] | Sequence[float], shape: tuple[int, int], caption: str
) -> GrayImage:
    """Flat values in [0, 1] as a picture; values outside are clipped.

    Args:
        values: Flat pixels, [height * width], row by row.
        shape: Height and width.
        caption: What the picture shows.
    """
    pixels = np.clip(np.asarray(values, dtype=np.float64), 0.0, 1.0)
    return GrayImage(
        caption=caption,
        height=shape[0],
        width=shape[1],
        pixels=tuple(float(round(pixel, 4)) for pixel in pixels),
    )
