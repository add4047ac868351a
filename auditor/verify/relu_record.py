"""Writes what `ReluSearch` does into a proof, batch by batch.

Neurons are counted over all hidden layers, as in the search's tensors.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from auditor.verify.bounds import BoundedNetwork
from auditor.verify.proof import EACH_CASE, Choice, Lemma, Proof
from auditor.verify.proof_numbers import as_bytes, rounded_down
from auditor.verify.slope_search import Improved, Multipliers

# A bound of the first layer is claimed anew when it closes this share of its interval.
LEAST_GAIN = 0.02


class ReluRecord:
    """The proof of one problem as a `ReluSearch` finds it."""

    def __init__(self, proof: Proof) -> None:
        self.proof = proof

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
        gain = LEAST_GAIN * (known[1] - known[0])
        unstable = (known[0] < 0) & (known[1] > 0)
        low, high = rounded_down(found[0]), -rounded_down(-found[1])
        take_low = unstable & ((low - known[0] > gain) | (low >= 0))
        take_high = unstable & ((known[1] - high > gain) | (high <= 0))
        for index, number in enumerate(numbers.tolist()):
            below = torch.nonzero(take_low[index]).ravel()
            above = torch.nonzero(take_high[index]).ravel()
            if not len(below) + len(above):
                continue
            values = torch.cat([low[index, below], -high[index, above]])
            sides = torch.cat([2 * below, 2 * above + 1]).cpu().numpy().astype(np.int64)
            lemma = Lemma(0, sides, values.to(torch.float32).cpu().numpy())
            self.proof.nodes[number].afterwards.append(lemma)
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
            self.proof.divide(number, -1 - neuron, 2)
            for number, neuron in zip(numbers.tolist(), neurons.tolist(), strict=True)
        ]
        both = torch.tensor(pairs, dtype=numbers.dtype, device=numbers.device)
        return [both[:, 0], both[:, 1]]

    def each_case(self, cases: int) -> list[int]:
        """One child of the root for each case that is still open."""
        return self.proof.divide(0, EACH_CASE, cases) if cases else []

    def _choices(self, case: int, multipliers: Multipliers) -> list[Choice]:
        slopes = as_bytes(torch.cat([each[:, 0] for each in multipliers.slopes], dim=1))
        betas = torch.cat([each[:, 0] for each in multipliers.betas], dim=1)
        pushes = betas.to(torch.float32).cpu().numpy()
        weights = multipliers.weights[:, 0].cpu().numpy()
        # Copies, so that a kept row does not keep its whole batch.
        return [
            Choice(case, weights[k].copy(), slopes[k].copy(), pushes[k].copy())
            for k in range(len(weights))
        ]
