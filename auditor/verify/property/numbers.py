"""Exact decimals of text: every number of a property is the fraction it was written as."""

from __future__ import annotations

import re
from fractions import Fraction

MAX_CHARACTERS = 400
MAX_EXPONENT = 400

_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d+))?", re.ASCII)


def exact_decimal(text: str) -> Fraction:
    """The exact value of a decimal with optional exponent.

    Raises:
        ValueError: Not a finite decimal, or so long that it can only be an attack.
    """
    match = _DECIMAL.fullmatch(text) if len(text) <= MAX_CHARACTERS else None
    if match is None:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise ValueError(f"'{shown}' is not a decimal number; write it like -0.25 or 1e-3")
    exponent = match.group(1)
    if exponent and (len(exponent) > 6 or abs(int(exponent)) > MAX_EXPONENT):
        raise ValueError(f"exponent of '{text[:40]}' is beyond {MAX_EXPONENT}")
    return Fraction(text)


def exact_number(value: Fraction | float | int | str) -> Fraction:
    """The exact value of a number given in Python; a float means the float it is.

    Raises:
        ValueError: Not finite, or text that is no decimal.
    """
    if isinstance(value, str):
        return exact_decimal(value)
    try:
        return Fraction(value)
    except OverflowError:
        raise ValueError(f"{value} is not finite") from None
