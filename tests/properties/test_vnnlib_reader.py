"""Laws of the VNN-LIB reader: only its own errors, and numbers read exactly."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import AuditorError
from auditor.verify.property.numbers import exact_decimal
from auditor.verify.property.vnnlib import parse_vnnlib

HEAD = "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"

words = st.sampled_from(
    ["(", ")", "and", "or", "<=", ">=", "<", "X_0", "Y_0", "Y_1", "Y_7", "0.5", "-1e3", "+", "-",
     "*", "assert", "declare-const", "Real", ";", "\n", "1e999999999", "nan", "(<= X_0 1)",
     "(assert (<= X_0 1))", "(assert (>= X_0 0))", "(assert (or (and (<= Y_0 1)) (>= Y_1 2)))"]
)  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.lists(words, max_size=40), st.booleans())
def test_any_token_sequence_is_read_or_refused_with_an_auditor_error(
    tokens: list[str], with_head: bool
) -> None:
    text = (HEAD if with_head else "") + " ".join(tokens)
    message = ""
    try:
        parse_vnnlib(text, "fuzz", source="fuzz", num_inputs=1, num_outputs=2)
    except AuditorError as error:
        message = str(error)
    assert "\n" not in message


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_an_auditor_error(text: str) -> None:
    message = ""
    try:
        parse_vnnlib(text, "fuzz", source="fuzz", num_inputs=1, num_outputs=1)
    except AuditorError as error:
        message = str(error)
    assert len(message) < 1000


@given(st.decimals(allow_nan=False, allow_infinity=False, places=20))
def test_bounds_are_the_decimals_of_the_text(number: object) -> None:
    text = f"{HEAD}(assert (<= X_0 {number}))(assert (>= X_0 {number}))(assert (<= Y_0 Y_1))"
    prop = parse_vnnlib(text, "exact", source="exact", num_inputs=1, num_outputs=2)
    assert prop.cases[0].lower == prop.cases[0].upper == (Fraction(str(number)),)


@given(st.fractions(max_denominator=10**6))
def test_a_decimal_is_read_as_the_fraction_it_says(value: Fraction) -> None:
    scaled = value.numerator * 10**6 // value.denominator
    text = f"{scaled}e-6"
    assert exact_decimal(text) == Fraction(scaled, 10**6)
