"""VNN-LIB 2 says the same as version 1 where both can say it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from auditor.errors import InvalidText, PropertyMismatch, UnsupportedProperty
from auditor.verify.property import Property, load_property

HEAD = """\
; a comment, and then the version
(vnnlib-version <2.0>)
(declare-network N
  (declare-input X float32 [1, 2])
  (declare-output Y float32 [1, 3])
)
"""
BOX = "(assert (and (<= X[0,0] 0.5) (>= X[0,0] -0.1) (<= X[0,1] 1.0) (>= X[0,1] 0.0)))\n"
BOX_1 = "(assert (<= X_0 0.5))(assert (>= X_0 -0.1))(assert (<= X_1 1))(assert (>= X_1 0))\n"
DECLARED_1 = "".join(f"(declare-const {v} Real)\n" for v in ("X_0", "X_1", "Y_0", "Y_1", "Y_2"))


def read(folder: Path, text: str) -> Property:
    path = folder / "p.vnnlib"
    path.write_text(text)
    return load_property(path, num_inputs=2, num_outputs=3)


@pytest.mark.parametrize(
    ("second", "first"),
    [
        ("(<= Y[0,0] Y[0,1])", "(<= Y_0 Y_1)"),
        ("(> Y[0,2] 3.5)", "(> Y_2 3.5)"),
        ("(or (<= Y[0,0] 1.0) (and (>= Y[0,1] 2.0) (< Y[0,2] 0.1)))",
         "(or (<= Y_0 1) (and (>= Y_1 2) (< Y_2 0.1)))"),
        ("(<= (+ Y[0,0] (* 2.0 Y[0,1]) -0.3) (- Y[0,2] 1.0))",
         "(<= (+ Y_0 (* 2.0 Y_1) -0.3) (- Y_2 1.0))"),
        ("(== Y[0,0] 1.0)", "(and (<= Y_0 1) (>= Y_0 1))"),
        ("(<= X[0,0] (+ Y[0,0] X[0,1]))", "(<= X_0 (+ Y_0 X_1))"),
        ("(!= Y[0,0] 1.0)", "(or (< Y_0 1) (> Y_0 1))"),
    ],
)  # fmt: skip
def test_both_versions_give_one_property(tmp_path: Path, second: str, first: str) -> None:
    new = read(tmp_path, f"{HEAD}{BOX}(assert {second})\n")
    old = read(tmp_path, f"{DECLARED_1}{BOX_1}(assert {first})\n")
    assert replace(new, name="") == replace(old, name="")


def test_numbers_are_exact(tmp_path: Path) -> None:
    prop = read(tmp_path, f"{HEAD}{BOX}(assert (<= Y[0,0] 0.1))\n")
    assert str(prop.cases[0].rows[0].bound) == "1/10"
    assert str(prop.cases[0].lower[0]) == "-1/10"


def test_axes_are_flattened_row_by_row(tmp_path: Path) -> None:
    head = HEAD.replace("[1, 2]", "[2]").replace("[1, 3]", "[3, 1]")
    box = BOX.replace("[0,", "[")
    prop = read(tmp_path, f"{head}{box}(assert (<= Y[2,0] 1.0))\n")
    assert [float(c) for c in prop.cases[0].rows[0].coefficients] == [0, 0, 1]


def test_another_size_is_a_mismatch(tmp_path: Path) -> None:
    with pytest.raises(PropertyMismatch, match="speaks of 4 outputs, the model has 3"):
        read(tmp_path, f"{HEAD.replace('[1, 3]', '[1, 4]')}{BOX}(assert (<= Y[0,0] 1.0))\n")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (f"{HEAD}(assert (<= X[0,0] 1.0", "Parse error"),
        (f"{HEAD}{BOX}(assert (<= Y[0,7] 1.0))\n", "7"),
        (f"{HEAD}(assert (<= Y[0,0] 1.0))\n", "X_0 has no bound on one side"),
        (HEAD + "(" * 100, "nested deeper than 64"),
    ],
)
def test_wrong_text_is_one_clear_error(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(InvalidText) as caught:
        read(tmp_path, text)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_not_expressed_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedProperty):
        read(tmp_path, f"{HEAD}{BOX}(assert (<= (* Y[0,0] Y[0,1]) 1.0))\n")
    two = HEAD.replace(")\n)\n", ")\n  (declare-output Z float32 [1])\n)\n")
    with pytest.raises(UnsupportedProperty, match="one input, one output"):
        read(tmp_path, f"{two}{BOX}(assert (<= Y[0,0] 1.0))\n")
