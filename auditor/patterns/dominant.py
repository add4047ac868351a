"""Delta-relaxed dominant states from counts (Geng et al. 2023, 2210.16114).

Of a class's samples, a neuron that is active in at least a share delta is fixed as
active, one that is active in at most 1 - delta as inactive. Cut-offs are exact integers:
with floats, 1 of 10 would not count as at most 1 - 0.9.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError

MAX_DENOMINATOR: Final = 1_000_000
Delta = Fraction | Decimal | float | str


class States(NamedTuple):
    """Which neurons a pattern fixes: two boolean arrays of one shape, never both true."""

    active: NDArray[np.bool_]
    inactive: NDArray[np.bool_]


def read_delta(value: Delta) -> Fraction:
    """A delta as the exact fraction of the decimal it was written as.

    Raises:
        ConfigurationError: Not a number in (0.5, 1], or more than six decimals.
    """
    try:
        delta = value if isinstance(value, Fraction) else Fraction(Decimal(str(value)))
    except (InvalidOperation, ValueError, OverflowError):
        raise ConfigurationError(f"delta '{value}' is not a number; give one like 0.95") from None
    if not Fraction(1, 2) < delta <= 1:
        raise ConfigurationError(f"delta {value}; give a number above 0.5 and at most 1")
    if delta.denominator > MAX_DENOMINATOR:
        raise ConfigurationError(f"delta {value} has more than six decimals; round it")
    return delta


def dominant_states(
    counts: NDArray[np.int64], totals: NDArray[np.int64], delta: Fraction
) -> States:
    """The states that dominate in each class.

    Args:
        counts: Samples in which a neuron is active, [classes, neurons].
        totals: Samples of each class, [classes]. A class without samples fixes nothing.
        delta: See `read_delta`; 1 fixes only what never varies.

    Returns:
        Active and inactive neurons, [classes, neurons] each. Lowering delta fixes more.
    """
    share, whole = delta.numerator, delta.denominator
    seen = totals[:, None] > 0
    scaled = counts * whole
    active = seen & (scaled >= share * totals[:, None])
    inactive = seen & (scaled <= (whole - share) * totals[:, None])
    return States(active, inactive)
