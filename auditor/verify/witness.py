"""A witness: a float32 input that breaks a property, examined before it is believed.

A candidate from anywhere is moved to float32 inside the exact box, evaluated in exact
rational arithmetic with the stored weights, and then run in the deployed runtime. It
counts only when exact arithmetic and every replay violate the property; tolerance is
zero, ties are judged by the property's own strictness. A pattern is followed in exact
arithmetic or not at all: its regions are closed, and a runtime shows outputs only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from auditor.verify.network import GraphNetwork, Network
from auditor.verify.network.chain import Float64
from auditor.verify.network.exact_image import exact_values, has_exact_values
from auditor.verify.phases import Int8, follows_exactly
from auditor.verify.property import UnsafeCase
from auditor.verify.rounding import float32_inside, nearest_float32
from auditor.verify.semantics import Semantics

# Judges a candidate input, [inputs]; True says that it counts.
IsWitness = Callable[[Float64], bool]


class Replayer(Protocol):
    """Runs one flat float32 input, [inputs], in a runtime; gives outputs, [outputs]."""

    def __call__(self, inputs: NDArray[np.float32], /) -> NDArray[np.floating]:
        """The runtime's outputs, flat."""
        ...


@dataclass(frozen=True, eq=False)
class WitnessReplay:
    """What one runtime made of a witness."""

    label: str
    outputs: tuple[float, ...]
    violates: bool


@dataclass(frozen=True, eq=False)
class Witness:
    """An input and what it does.

    Attributes:
        inputs: Flat float32 input, [inputs], inside the exact box.
        outputs: Outputs of the first replay, or the exact ones as floats.
        exact_outputs: Outputs in exact arithmetic, as the nearest floats.
        margin: How far inside the unsafe set the exact outputs are; negative outside.
        exact_violates: Whether the exact outputs violate the property.
        replays: The runs in the deployed runtime.
        semantics: The arithmetic in which it is to violate.
        follows: Whether the input follows the property's pattern, in exact arithmetic.
    """

    inputs: NDArray[np.float32]
    outputs: tuple[float, ...]
    exact_outputs: tuple[float, ...]
    margin: float
    exact_violates: bool
    replays: tuple[WitnessReplay, ...]
    semantics: Semantics = Semantics.REAL
    follows: bool = True

    @property
    def confirmed(self) -> bool:
        """Whether at least one replay, and all of them, violate; for the reals exactly too."""
        executed = bool(self.replays) and all(replay.violates for replay in self.replays)
        if not self.follows:
            return False
        return executed and (self.exact_violates or self.semantics is Semantics.FLOAT32)

    @property
    def disagreement(self) -> str:
        """Why it does not count, or an empty string."""
        if self.confirmed:
            return ""
        if not self.follows:
            return "the candidate does not follow the pattern in exact arithmetic"
        violating = [replay.label for replay in self.replays if replay.violates]
        if not self.exact_violates:
            return (
                "an input violates the property as executed "
                f"({', '.join(violating)}) but not in exact arithmetic"
                if violating
                else "the candidate violates the property only in rounded arithmetic"
            )
        if not self.replays:
            return "an input violates the property in exact arithmetic; no runtime replayed it"
        holding = [replay.label for replay in self.replays if not replay.violates]
        return (
            "an input violates the property in exact arithmetic but not as executed "
            f"({', '.join(holding)})"
        )


@dataclass(frozen=True, eq=False)
class Snapped:
    """A candidate moved onto float32.

    Attributes:
        inputs: What a runtime is given, [inputs].
        exact: A point of the exact box; differs from `inputs` at `outside` only.
        outside: Inputs whose interval holds no float32; there `inputs` is the nearest one.
    """

    inputs: NDArray[np.float32]
    exact: tuple[Fraction, ...]
    outside: tuple[int, ...]


def snap_to_float32(candidate: Float64, case: UnsafeCase) -> Snapped:
    """The candidate as float32 inside the exact box, or beside it where it holds none."""
    snapped = np.empty(len(candidate), dtype=np.float32)
    exact, outside = [], []
    for index, value in enumerate(candidate.tolist()):
        inside = float32_inside(value, case.lower[index], case.upper[index])
        if inside is None:
            inside = nearest_float32(case.lower[index])
            outside.append(index)
        snapped[index] = inside
        exact.append(min(max(Fraction(float(inside)), case.lower[index]), case.upper[index]))
    return Snapped(snapped, tuple(exact), tuple(outside))


def examine(
    network: Network | GraphNetwork,
    case: UnsafeCase,
    inputs: NDArray[np.float32],
    replayers: Sequence[Replayer],
    *,
    exact: Sequence[Fraction] | None = None,
    semantics: Semantics = Semantics.REAL,
    phases: Sequence[Int8] = (),
) -> Witness:
    """Evaluate a float32 input of the case's box exactly and in every runtime.

    A graph that is large, or has rounded numbers, is evaluated rigorously instead: what is
    said is true of every output that its error terms leave possible.

    Args:
        network: The network.
        case: The case whose rows decide.
        inputs: Flat float32 input inside the case's box.
        replayers: Runtimes; one may carry a `label` for messages.
        exact: The point of the exact box, where it is not `inputs` itself.
        semantics: The arithmetic in which it is to violate.
        phases: Phases asked of the neurons, one array per layer; see `phases_of`.
    """
    point = [Fraction(float(value)) for value in inputs] if exact is None else exact
    outputs_found, margin, violates_really, follows = _evaluate(network, case, point, phases)
    replays = [replay_in(each, case, inputs, n) for n, each in enumerate(replayers, start=1)]
    return Witness(
        inputs=inputs,
        outputs=replays[0].outputs if replays else outputs_found,
        exact_outputs=outputs_found,
        margin=margin,
        exact_violates=violates_really and follows,
        replays=tuple(replays),
        semantics=semantics,
        follows=follows,
    )


def replay_in(
    runtime: Replayer, case: UnsafeCase, inputs: NDArray[np.float32], number: int = 1
) -> WitnessReplay:
    """What a runtime, by its label or else its number, makes of an input."""
    outputs = np.asarray(runtime(inputs.copy())).ravel()
    finite = bool(np.isfinite(outputs).all())
    violates = finite and case.violated_by(
        [Fraction(float(value)) for value in outputs], [Fraction(float(v)) for v in inputs]
    )
    label = str(getattr(runtime, "label", f"replay {number}"))
    return WitnessReplay(label, tuple(map(float, outputs)), violates)


def _evaluate(
    network: Network | GraphNetwork,
    case: UnsafeCase,
    point: Sequence[Fraction],
    phases: Sequence[Int8],
) -> tuple[tuple[float, ...], float, bool, bool]:
    """Outputs, margin, and whether they violate and follow: exact, or certain in any case."""
    if isinstance(network, GraphNetwork) and not has_exact_values(network):
        # Loads torch, which a chain of small layers does not need.
        from auditor.verify.enclosure import enclose_values, worst_margin

        found = enclose_values(network, point)
        violates, margin = worst_margin(case, found.lower, found.upper, point)
        middle = tuple((0.5 * found.lower + 0.5 * found.upper).tolist())
        return middle, margin, violates, found.follows(phases)
    values = (
        exact_values(network, point)
        if isinstance(network, GraphNetwork)
        else network.preactivations_exact(point)
    )
    exact = values[-1]
    if network.layers[-1].relu:
        exact = tuple(max(value, Fraction(0)) for value in exact)
    floats = tuple(float(value) for value in exact)
    margin = float(case.margin(exact, point))
    return floats, margin, case.violated_by(exact, point), follows_exactly(values, phases)
