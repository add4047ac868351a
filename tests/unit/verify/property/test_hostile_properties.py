"""Property files of strangers: small texts that would grow beyond any memory are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import AuditorError, InvalidText, UnsupportedProperty
from auditor.verify.property import load_property
from auditor.verify.property.alternatives import MAX_CELLS
from auditor.verify.property.vnnlib import MAX_WORDS

DECLARED = "".join(f"(declare-const {letter}_{n} Real)" for letter in "XY" for n in (0, 1))
BOX = "(assert (<= X_0 1))(assert (>= X_0 0))(assert (<= X_1 1))(assert (>= X_1 0))"
NETWORK = (
    "(vnnlib-version <2.0>)\n(declare-network N (declare-input X float32 [2]) "
    "(declare-output Y float32 [2]))\n"
)


def refusal(folder: Path, text: str, *, outputs: int = 2, name: str = "p.vnnlib") -> AuditorError:
    """The error of a text, which fits on a line."""
    path = folder / name
    path.write_text(text)
    with pytest.raises((InvalidText, UnsupportedProperty)) as caught:
        load_property(path, num_inputs=2, num_outputs=outputs)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    return caught.value


def product_tree(levels: int, leaf: str) -> str:
    """A product of 2 ** levels numbers, each product of two."""
    for _ in range(levels):
        leaf = f"(* {leaf} {leaf})"
    return leaf


def test_a_product_of_products_ends_before_its_number_grows(tmp_path: Path) -> None:
    """The number would have half a million digits."""
    text = f"{DECLARED}{BOX}(assert (<= Y_0 {product_tree(10, '1e400')}))"
    assert "bits" in str(refusal(tmp_path, text))


def test_a_conjunction_of_much_with_many_is_refused_before_it_is_multiplied_out(
    tmp_path: Path,
) -> None:
    """Each of 9,000 cases would hold a copy of a thousand conditions."""
    many = "(<= X_0 1)" * 1_000 + f"(or {'(<= Y_0 1)' * 9_000})"
    message = str(refusal(tmp_path, f"{DECLARED}{BOX}(assert (and {many}))"))
    assert str(MAX_CELLS) in message


def test_blocks_of_one_long_and_many_short_choices_are_refused(tmp_path: Path) -> None:
    """The same growth over two assertions."""
    long = f"(assert (or (and {'(<= Y_0 1)' * 2_000}) (<= Y_0 2)))"
    text = f"{DECLARED}{BOX}{long}(assert (or {'(<= Y_0 1)' * 9_000}))"
    assert "cases" in str(refusal(tmp_path, text))


def test_more_words_than_allowed_are_refused_at_once(tmp_path: Path) -> None:
    """Each would become an object."""
    assert "words" in str(refusal(tmp_path, "()" * (MAX_WORDS + 1)))


def test_rows_over_a_thousand_outputs_are_counted_before_they_are_made(tmp_path: Path) -> None:
    """Each of ten thousand conditions would be a row of a thousand numbers."""
    declared = "".join(f"(declare-const Y_{n} Real)" for n in range(2, 1_000))
    rows = "".join(f"(assert (<= Y_0 {n}))" for n in range(10_000))
    message = str(refusal(tmp_path, f"{DECLARED}{declared}{BOX}{rows}", outputs=1_000))
    assert "conditions over outputs" in message


@pytest.mark.parametrize("bound", ["1e400", "-1e400", "1e200"])
def test_a_number_that_engines_cannot_compute_with_is_named(tmp_path: Path, bound: str) -> None:
    """Floats would overflow, also in products of what alone is a float."""
    error = refusal(tmp_path, f"{DECLARED}{BOX}(assert (<= Y_0 {bound}))")
    assert isinstance(error, UnsupportedProperty)
    assert bound.replace("e", "e+") in str(error)


def test_numbers_too_small_for_floats_are_shown_as_they_are(tmp_path: Path) -> None:
    """They are not zero."""
    path = tmp_path / "p.vnnlib"
    path.write_text(f"{DECLARED}{BOX}(assert (<= Y_0 1e-400))")
    assert "1e-400" in load_property(path, num_inputs=2, num_outputs=2).text


@pytest.mark.parametrize(
    "formula",
    [
        "(<= X[99999999999999999999] 1.0)",
        f"(<= Y[0] (* {'1.0e300 ' * 400}))",
        "(<= Y[0] 1.0e1000000000)",
    ],
)
def test_version_2_with_numbers_beyond_all_ranges_is_no_crash(tmp_path: Path, formula: str) -> None:
    """The library's own errors, and products that grow, become one line."""
    assert "p.vnnlib" in str(refusal(tmp_path, f"{NETWORK}(assert {formula})"))


def test_comments_alone_take_no_memory_to_be_told_apart(tmp_path: Path) -> None:
    """A version is looked for behind any number of comments and blank lines."""
    text = "; c\n \n" * 200_000 + "(vnnlib-version <2.0>)"
    assert "version 2" not in str(refusal(tmp_path, text))


def test_conditions_of_a_yaml_property_are_counted_before_they_are_made(tmp_path: Path) -> None:
    """Nine conditions over a thousand classes would be nine million numbers."""
    text = "version: 1\nid: p\ninputs: {box: {lower: 0, upper: 1}}\nthen:\n" + "- {class: 0}\n" * 9
    message = str(refusal(tmp_path, text, outputs=1_000, name="p.yaml"))
    assert "coefficients" in message


def test_names_in_messages_are_printable(tmp_path: Path) -> None:
    """A terminal escape in an output's name stays text."""
    text = (
        'version: 1\nid: p\ninputs: {box: {lower: 0, upper: 1}}\nthen:\n- {class: "\\e[31mred"}\n'
    )
    assert "red" in str(refusal(tmp_path, text, name="p.yaml"))
