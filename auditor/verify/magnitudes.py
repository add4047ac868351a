"""How large anything can get over a box: what the error terms are multiplied with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auditor.verify.network import Network
from auditor.verify.network.chain import Float64
from auditor.verify.rounding import error_factor
from auditor.verify.semantics import Semantics, execution_noise


@dataclass(frozen=True, eq=False)
class Magnitudes:
    """Bounds of absolute values over a box, rounded up.

    Attributes:
        hidden: `|h|` entering each layer and, last, leaving the network; [neurons] each.
        sums: `|W_k| |h| + |b_k|` of each layer, [neurons] each.
        noise_factor: With float32 semantics, what `sums` is multiplied with to bound the
            executed noise of each pre-activation.
        noise_floor: The part of that noise that comes from underflow.
    """

    hidden: tuple[Float64, ...]
    sums: tuple[Float64, ...]
    noise_factor: float = 0.0
    noise_floor: float = 0.0

    @property
    def underflow(self) -> float:
        """An upper bound of everything that underflow can lose in one backward pass.

        Each product loses at most 2**-1075 and is multiplied afterwards by a value of
        at most `hidden`; the count of products is at most the square of all widths.
        """
        widths = sum(len(values) for values in self.hidden) + 2
        largest = 2.0 + sum(float(values.sum()) for values in self.hidden)
        # Factors apart from each other, since their product alone would underflow.
        return max(float(widths) ** 2 * 2.0**-1060 * largest, 1e-290)


def interval_magnitudes(
    network: Network,
    lower: Float64,
    upper: Float64,
    semantics: Semantics = Semantics.REAL,
) -> Magnitudes:
    """Interval bounds of every layer's absolute values over a box.

    Args:
        network: The network.
        lower: Lower ends of the inputs, [inputs].
        upper: Upper ends.
        semantics: With `FLOAT32`, of every network of the executed family.
    """
    low, high = lower, upper
    factors, floors = [0.0], [0.0]
    hidden = [np.maximum(np.abs(low), np.abs(high))]
    sums = []
    # Overflow becomes infinity, which every later comparison treats as "nothing known".
    with np.errstate(over="ignore", invalid="ignore"):
        for layer in network.layers:
            slack = error_factor(4 * layer.num_inputs + 16)
            absolute = np.abs(layer.weight)
            size = (absolute @ hidden[-1] + np.abs(layer.bias)) * (1.0 + slack) + 1e-300
            center, radius = 0.5 * low + 0.5 * high, 0.5 * high - 0.5 * low
            middle = layer.weight @ center + layer.bias
            spread = absolute @ radius + 2.0 * slack * size + 1e-300
            if semantics is Semantics.FLOAT32:
                noise = execution_noise(layer, hidden[-1])
                error = noise.relative * size + noise.absolute
                spread, size = spread + error, size + error
                # In `sums` the underflow is stated as if it were relative, too.
                sums.append(size + noise.absolute / noise.relative)
                factors.append(noise.relative)
                floors.append(float(noise.absolute.max(initial=0.0)))
            else:
                sums.append(size)
            low = np.maximum(-size, middle - spread)
            high = np.minimum(size, middle + spread)
            if layer.relu:
                low, high = np.maximum(low, 0.0), np.maximum(high, 0.0)
            hidden.append(np.maximum(np.abs(low), np.abs(high)))
    return Magnitudes(tuple(hidden), tuple(sums), max(factors), max(floors))
