"""Local robustness of many samples at many radii (L-infinity)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from auditor.findings import Verdict
from auditor.verify.onnx_subject import OnnxSubject
from auditor.verify.outcome import Limits
from auditor.verify.property import robustness_property
from auditor.verify.search import verify

Standing = Literal["certified", "falsified", "open", "misclassified"]


@dataclass(frozen=True, eq=False)
class Trial:
    """One sample at one radius.

    Attributes:
        sample: Index of the sample.
        radius: Radius of the ball.
        standing: `certified` (proved), `falsified` (a replayed witness), `open`, or
            `misclassified` (the sample itself is not read as its label).
        witness: Input of the ball that gets another class, [inputs].
        read_as: The class it, or the misclassified sample, gets.
    """

    sample: int
    radius: float
    standing: Standing
    witness: NDArray[np.float32] | None = None
    read_as: int | None = None


def measure_robustness(
    subject: OnnxSubject,
    inputs: NDArray[np.float32],
    labels: Sequence[int],
    radii: Sequence[float],
    *,
    clip: tuple[float, float] | None = None,
    limits: Limits | None = None,
    time_limit_s: float = float("inf"),
    seed: int = 0,
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> list[Trial]:
    """Certify or falsify each sample at each radius.

    Args:
        subject: The model.
        inputs: Samples, [samples, inputs].
        labels: The class each must get, [samples].
        radii: L-infinity radii; looked at in ascending order, because a witness lies in
            every larger ball as well.
        clip: Range every input stays in.
        limits: Limits of one sample at one radius.
        time_limit_s: Wall-clock seconds for everything; what is left then is `open`.
        seed: Seed of the falsifier.
        progress: Called with (share done, text).

    Returns:
        Trials, sample by sample and within a sample by ascending radius.
    """
    limits = limits or Limits()
    deadline = time.monotonic() + time_limit_s
    trials: list[Trial] = []
    for number, (row, label) in enumerate(zip(inputs, labels, strict=True)):
        ball = _Ball(subject, number, row, int(label), clip, seed)
        trials += _try_radii(ball, sorted(radii), limits, deadline)
        progress((number + 1) / len(inputs), f"sample {number + 1} of {len(inputs)}")
    return trials


@dataclass(frozen=True, eq=False)
class _Ball:
    """A sample with its label, and what a search around it needs."""

    subject: OnnxSubject
    number: int
    center: NDArray[np.float32]
    label: int
    clip: tuple[float, float] | None
    seed: int


def _try_radii(
    ball: _Ball, radii: Sequence[float], limits: Limits, deadline: float
) -> Iterator[Trial]:
    predicted = int(ball.subject.replayers[0](ball.center).argmax())
    if predicted != ball.label:
        for radius in radii:
            yield Trial(ball.number, radius, "misclassified", None, predicted)
        return
    last: Trial | None = None
    for radius in radii:
        remaining = deadline - time.monotonic()
        if last is not None and last.standing == "falsified":
            last = replace(last, radius=radius)
        elif remaining <= 0:
            last = Trial(ball.number, radius, "open")
        else:
            allowed = replace(limits, time_s=min(limits.time_s, remaining))
            last = _try_radius(ball, radius, allowed)
        yield last


def _try_radius(ball: _Ball, radius: float, limits: Limits) -> Trial:
    network = ball.subject.network
    # Radius and range as the decimals the user wrote, not as the nearest floats.
    prop = robustness_property(
        ball.center.tolist(),
        str(radius),
        ball.label,
        network.num_outputs,
        (str(ball.clip[0]), str(ball.clip[1])) if ball.clip else None,
    )
    outcome = verify(network, prop, limits=limits, seed=ball.seed, replay=ball.subject.replayers)
    if outcome.verdict is Verdict.HOLDS:
        return Trial(ball.number, radius, "certified")
    if outcome.verdict is Verdict.VIOLATED and outcome.witness is not None:
        others = np.array(outcome.witness.outputs)
        others[ball.label] = -np.inf
        return Trial(ball.number, radius, "falsified", outcome.witness.inputs, int(others.argmax()))
    return Trial(ball.number, radius, "open")
