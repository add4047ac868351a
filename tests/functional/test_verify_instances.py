"""`auditor verify --instances`: a table, a resumed run, and the competition's formats."""

from __future__ import annotations

import json
from pathlib import Path

from tests.functional.command import auditor
from tests.models.tiny import absolute_value

PROPERTY = """\
(declare-const X_0 Real)
(declare-const Y_0 Real)
(assert (and (>= X_0 -1.0) (<= X_0 1.0) (>= Y_0 {bound})))
"""


def write(folder: Path, *bounds: str) -> None:
    (folder / "abs.onnx").write_bytes(absolute_value().SerializeToString())
    lines = []
    for bound in bounds:
        (folder / f"p{bound}.vnnlib").write_text(PROPERTY.format(bound=bound))
        lines.append(f"abs.onnx,p{bound}.vnnlib,20\n")
    (folder / "instances.csv").write_text("".join(lines))


def test_many_are_verified_and_the_same_command_resumes(tmp_path: Path) -> None:
    write(tmp_path, "0.5", "1.5", "1.25")
    arguments = ("verify", "--instances", "instances.csv", "--out", "out", "--workers", "2")
    first = auditor(*arguments, cwd=tmp_path)
    assert first.code == 1
    assert "3 of 3 decided, 1 violated, 0 contradictions" in first.out
    lines = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert [line.split(",")[4] for line in lines] == ["sat", "unsat", "unsat"]
    (example,) = (tmp_path / "out" / "counterexamples").iterdir()
    assert example.name == "abs_p0.5.counterexample"
    assert example.read_text().startswith("((X_0 ")
    write(tmp_path, "0.5", "1.5", "1.25", "1.75")
    again = auditor(*arguments, "--json", cwd=tmp_path)
    assert "4 instances, 3 known from before" in again.err
    verdicts = [json.loads(line)["verdict"] for line in again.out.splitlines()]
    assert verdicts == ["violated", "holds", "holds", "holds"]


def test_model_and_instances_exclude_each_other(tmp_path: Path) -> None:
    write(tmp_path, "0.5")
    both = auditor(
        "verify", "abs.onnx", "p0.5.vnnlib", "--instances", "instances.csv", cwd=tmp_path
    )
    neither = auditor("verify", cwd=tmp_path)
    assert (both.code, neither.code) == (2, 2)
    assert "not both" in both.err
    assert "MODEL and PROPERTY are needed" in neither.err
