"""Writes what `ReluSearch` does into a proof, batch by batch.

Neurons of a proof are counted over all hidden layers of the network; a search may leave
out those that are always off, and then counts the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.verify.bounds import BoundedNetwork
from auditor.verify.proof import EACH_CASE, Choice, Lemma, Proof
from auditor.verify.proof_numbers import as_bytes, rounded_down
from auditor.verify.slope_search import Improved, Multipliers

Scalar = TypeVar("Scalar", np.uint8, np.float32)

# A bound of the first layer is claimed anew when it closes this share of its interval.
LEAST_GAIN = 0.02


class ReluRecord:
    """The proof of one problem as a `ReluSearch` finds it."""

    def __init__(self, proof: Proof) -> None:
        self.proof = proof
        self._places = self._within = np.zeros(0, dtype=np.int64)
        self._neurons = 0

    def count_only(self, neurons: Sequence[Tensor], widths: Sequence[int]) -> None:
        """Say which neurons of each hidden layer, of some widths, the search goes on to count."""
        within = [each.cpu().numpy().astype(np.int64) for each in neurons]
        starts = np.cumsum([0, *widths])
        self._within = np.concatenate(within)
        self._places = np.concatenate(
            [first + each for first, each in zip(starts[:-1], within, strict=True)]
        )
        self._neurons = int(starts[-1])

    def lemma(
        self,
        net: BoundedNetwork,
        layer: int,
        neurons: Tensor,
        known: tuple[Tensor, Tensor],
        improved: Improved,
    ) -> Tensor:
        """Claim what passes gave for both sides of neurons at the root; the claimed values.

        Args:
            net: The network.
            layer: The layer whose pre-activations were bounded.
            neurons: Which of them, [neurons].
            known: Bounds that intervals give, [neurons of the layer] each.
            improved: Bounds of z, then of -z; [1, 2 neurons].
        """
        before = torch.cat([known[0][neurons], -known[1][neurons]])
        values = rounded_down(torch.fmax(improved.lower[0], before))
        places = neurons.cpu().numpy().astype(np.int64)
        slopes = improved.multipliers.slopes[:layer]
        chosen = as_bytes(torch.cat([each[0] for each in slopes], dim=1)) if slopes else None
        finite = np.isfinite(values.cpu().numpy())
        lemma = Lemma(
            layer=sum(net.relus[:layer]),
            sides=np.concatenate([2 * places, 2 * places + 1])[finite],
            values=values.to(torch.float32).cpu().numpy()[finite],
            slopes=None if chosen is None else chosen[finite],
        )
        self.proof.nodes[0].lemmas.append(lemma)
        return values

    def first_layer(
        self, numbers: Tensor, known: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Claim new bounds of the first layer where they pay.

        Args:
            numbers: Numbers of the nodes, [nodes].
            known: Bounds so far, [nodes, neurons] each.
            found: What was found over the shrunk boxes.

        Returns:
            The claimed bounds, infinite where nothing is claimed.
        """
        places = torch.arange(known[0].shape[1], device=known[0].device)
        return self._claimed(Lemma(0), numbers, places, known, found, afterwards=True)

    def tightened(
        self,
        layer: int,
        numbers: Tensor,
        places: Tensor,
        known: tuple[Tensor, Tensor],
        found: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Claim new bounds of a layer, found with the root's slopes, where they pay.

        Args:
            layer: Number of the ReLU layer.
            numbers: Numbers of the nodes, [nodes]; nothing new is claimed at the root.
            places: The bounded neurons among all that are counted, [neurons].
            known: Their bounds so far, [nodes, neurons] each.
            found: What passes with the slopes of the root's claims gave.

        Returns:
            As `first_layer`.
        """
        infinite = torch.full_like(found[0], torch.inf)
        root = (numbers == 0)[:, None]
        found = torch.where(root, -infinite, found[0]), torch.where(root, infinite, found[1])
        like = Lemma(layer, as_at_root=True)
        return self._claimed(like, numbers, places, known, found, afterwards=False)

    def _claimed(
        self,
        like: Lemma,
        numbers: Tensor,
        places: Tensor,
        known: tuple[Tensor, Tensor],
        found: tuple[Tensor, Tensor],
        *,
        afterwards: bool,
    ) -> tuple[Tensor, Tensor]:
        gain = LEAST_GAIN * (known[1] - known[0])
        unstable = (known[0] < 0) & (known[1] > 0)
        low, high = rounded_down(found[0]), -rounded_down(-found[1])
        take_low = unstable & ((low - known[0] > gain) | (low >= 0))
        take_high = unstable & ((known[1] - high > gain) | (high <= 0))
        within = self._within[places.cpu().numpy()]
        for index, number in enumerate(numbers.tolist()):
            below = torch.nonzero(take_low[index]).ravel()
            above = torch.nonzero(take_high[index]).ravel()
            if not len(below) + len(above):
                continue
            values = torch.cat([low[index, below], -high[index, above]])
            sides = [2 * within[below.cpu().numpy()], 2 * within[above.cpu().numpy()] + 1]
            lemma = replace(
                like,
                sides=np.concatenate(sides),
                values=values.to(torch.float32).cpu().numpy(),
            )
            node = self.proof.nodes[number]
            (node.afterwards if afterwards else node.lemmas).append(lemma)
        infinite = low.new_full((), torch.inf)
        return torch.where(take_low, low, -infinite), torch.where(take_high, high, infinite)

    def refuted(self, case: int, numbers: Tensor, multipliers: Multipliers) -> None:
        """Note what refutes a case on nodes, [nodes]."""
        choices = self._choices(case, multipliers)
        for number, choice in zip(numbers.tolist(), choices, strict=True):
            self.proof.nodes[number].refuted.append(choice)

    def shrunk(
        self,
        case: int,
        numbers: Tensor,
        boxes: tuple[Tensor, Tensor],
        multipliers: Multipliers,
        moved: tuple[Tensor, Tensor],
    ) -> None:
        """Note box ends that moved, [nodes, inputs], and the forms that moved them."""
        choices = self._choices(case, multipliers)
        for index, (number, choice) in enumerate(zip(numbers.tolist(), choices, strict=True)):
            below, above = (torch.nonzero(each[index]).ravel() for each in moved)
            node = self.proof.nodes[number]
            node.shrinking.append(choice)
            node.ends = torch.cat([2 * below, 2 * above + 1]).cpu().numpy().astype(np.int64)
            values = torch.cat([boxes[0][index, below], boxes[1][index, above]])
            node.values = values.cpu().numpy()

    def split(self, numbers: Tensor, neurons: Tensor) -> list[Tensor]:
        """Split nodes at the sign of a neuron each; the numbers of both children."""
        pairs = [
            self.proof.divide(number, -1 - int(self._places[neuron]), 2)
            for number, neuron in zip(numbers.tolist(), neurons.tolist(), strict=True)
        ]
        both = torch.tensor(pairs, dtype=numbers.dtype, device=numbers.device)
        return [both[:, 0], both[:, 1]]

    def each_case(self, cases: int) -> list[int]:
        """One child of the root for each case that is still open."""
        return self.proof.divide(0, EACH_CASE, cases) if cases else []

    def _choices(self, case: int, multipliers: Multipliers) -> list[Choice]:
        slopes = self._over_all(as_bytes(torch.cat([k[:, 0] for k in multipliers.slopes], dim=1)))
        betas = torch.cat([each[:, 0] for each in multipliers.betas], dim=1)
        pushes = self._over_all(betas.to(torch.float32).cpu().numpy())
        weights = multipliers.weights[:, 0].cpu().numpy()
        # Copies, so that a kept row does not keep its whole batch.
        return [
            Choice(case, weights[k].copy(), slopes[k].copy(), pushes[k].copy())
            for k in range(len(weights))
        ]

    def _over_all(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Values of the counted neurons among zeros for the others, [rows, all neurons]."""
        every = np.zeros((len(values), self._neurons), dtype=values.dtype)
        every[:, self._places] = values
        return every
