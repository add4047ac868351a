"""What a search did to prove a property, node by node, for a certificate.

A search that is given a `Proof` notes in it every bound it relied on, every refutation
with its multipliers, every shrunk box and every split. It then works with numbers that
can be written down exactly: neuron bounds rounded outward to float32, slopes in units of
1/255, float32 phase multipliers; and with error terms `SLACK` times as large, so that
another program's rounding cannot undo what it found.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from auditor.verify.network.chain import Float64

SLACK = 4.0
SLOPE_UNITS = 255.0
AGAIN, EACH_CASE = -(1 << 31), 1 - (1 << 31)

Bytes = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Choice:
    """Multipliers of one weighted row.

    Attributes:
        case: Number of the unsafe case.
        weights: Of its rows, [rows of the case], not negative.
        slopes: Lower slopes of all hidden neurons in units of 1/255.
        betas: Phase multipliers of all hidden neurons, not negative; None for none.
    """

    case: int
    weights: Float64
    slopes: Bytes
    betas: Float32 | None = None


@dataclass(frozen=True, eq=False)
class Lemma:
    """Claimed bounds of neurons of one ReLU layer.

    Attributes:
        layer: Number of the ReLU layer.
        sides: 2 j for z_j and 2 j + 1 for -z_j, [claims].
        values: Lower bounds of these, [claims].
        slopes: Of earlier layers' neurons, [claims, neurons], or None for the default rule.
        as_at_root: Whether slopes are those that the root's lemmas gave for the same sides.
    """

    layer: int
    sides: Int64 = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    values: Float32 = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    slopes: Bytes | None = None
    as_at_root: bool = False


@dataclass(eq=False)
class ProofNode:
    """One node of a tree.

    Attributes:
        lemmas: Bounds found here, in the order of layers.
        refuted: Cases that are refuted here.
        shrinking: Forms that shrink the box, in order for each case.
        gone: Cases of which shrinking leaves nothing.
        afterwards: Bounds found over the shrunk box.
        ends: Claimed box ends: (2 i for the lower and 2 i + 1 for the upper end of input i).
        values: Their values.
        split: Input number, -1 - neuron, AGAIN or EACH_CASE; None for a leaf.
        middle: Where an input is cut.
        children: Numbers of the nodes below: lower part or z <= 0 first, cases in order.
    """

    lemmas: list[Lemma] = field(default_factory=list)
    refuted: list[Choice] = field(default_factory=list)
    shrinking: list[Choice] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    afterwards: list[Lemma] = field(default_factory=list)
    ends: Int64 = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    values: Float64 = field(default_factory=lambda: np.zeros(0))
    split: int | None = None
    middle: float = 0.0
    children: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Proof:
    """The tree of one problem; node 0 is its whole box with all cases."""

    nodes: list[ProofNode] = field(default_factory=lambda: [ProofNode()])

    def divide(self, node: int, split: int, parts: int, middle: float = 0.0) -> list[int]:
        """Split a node; the numbers of its new children."""
        children = list(range(len(self.nodes), len(self.nodes) + parts))
        self.nodes.extend(ProofNode() for _ in children)
        parent = self.nodes[node]
        parent.split, parent.middle, parent.children = split, middle, children
        return children
