"""The rows of one case over many boxes: their best mixture, and what they exclude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from auditor.verify.bounds import BoundedNetwork, LinearForms, ReluRelaxation, one_hot
from auditor.verify.contraction import Boxes, contract_boxes
from auditor.verify.slope_search import Improved, improve_bounds, starting_multipliers
from auditor.verify.torch_map import TorchDense, TorchTerm


class CaseRows:
    """The rows of one case: a network of its own that ends in them.

    Attributes:
        rows: Where they are among the rows of all cases.
        net: The network that ends in these rows alone.
    """

    def __init__(self, net: BoundedNetwork, first: int, end: int) -> None:
        self.rows = slice(first, end)
        (term,) = net.terms[-1]
        if not isinstance(term.map, TorchDense):
            raise TypeError("the property's rows are a dense layer")
        own = TorchTerm(term.source, TorchDense(term.map.weight[self.rows]))
        self.net = replace(
            net,
            terms=(*net.terms[:-1], (own,)),
            biases=(*net.biases[:-1], net.biases[-1][self.rows]),
            magnitudes=(*net.magnitudes[:-1], net.magnitudes[-1][self.rows]),
        )

    def improve(
        self,
        relaxations: Sequence[ReluRelaxation],
        rows: LinearForms,
        phases: Sequence[Tensor] | None,
        box: Boxes,
        index: Tensor,
        steps: int,
    ) -> Improved:
        """The best bound of a mixture of the rows over some of the boxes.

        Args:
            relaxations: One per layer before the rows, over all boxes.
            rows: Forms of the rows of all cases, over all boxes.
            phases: As in `improve_bounds`, over all boxes.
            box: Lower and upper ends of all boxes.
            index: Which of them to take.
            steps: Passes, where anything is free to be improved.
        """
        own = [picked(each, index) for each in relaxations]
        best = rows.lower[index, self.rows].argmax(dim=1)
        weights = one_hot(best, box[0].new_zeros(self.rows.stop - self.rows.start))
        several = weights.shape[1] > 1
        fixed = None if phases is None else [each[index] for each in phases]
        unstable = any(bool(each.unstable.any()) for each in own)
        free = several or unstable or fixed is not None
        return improve_bounds(
            self.net, len(own), own, fixed, (box[0][index], box[1][index]),
            starting_multipliers(own, weights[:, None, :]), steps if free else 1,
            mix_rows=several,
        )  # fmt: skip

    def contract(self, rows: LinearForms, improved: Improved, box: Boxes, index: Tensor) -> Boxes:
        """Some of the boxes, without what the rows' forms and their mixture exclude."""
        shrunk = box[0][index], box[1][index]
        for row in range(self.rows.start, self.rows.stop):
            shrunk = contract_boxes(
                shrunk, rows.coefficients[index, row], rows.constant[index, row]
            )
        return contract_boxes(
            shrunk, improved.forms.coefficients[:, 0], improved.forms.constant[:, 0]
        )


def picked(relaxation: ReluRelaxation, index: Tensor) -> ReluRelaxation:
    """The relaxation of some of the boxes."""
    intercept = relaxation.lower_intercept
    return ReluRelaxation(
        relaxation.lower_slope[index],
        relaxation.upper_slope[index],
        relaxation.upper_intercept[index],
        relaxation.unstable[index],
        None if intercept is None else intercept[index],
    )
