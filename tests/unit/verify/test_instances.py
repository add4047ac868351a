"""Instance files, and the competition's result formats."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from auditor.errors import FileMissing, InvalidText
from auditor.findings import Verdict
from auditor.verify import instances
from auditor.verify.instances import (
    InstanceResult,
    counterexample_name,
    counterexample_text,
    read_instances,
    verify_instance,
    vnncomp_results,
)
from tests.models.tiny import absolute_value, array, relu_network

VNNLIB = """\
(declare-const X_0 Real)
(declare-const Y_0 Real)
(assert (>= X_0 -1.0))
(assert (<= X_0 1.0))
(assert (>= Y_0 {bound}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """|x| on [-1, 1]: reaching 0.5 is possible, reaching 1.5 is not."""
    (tmp_path / "abs.onnx").write_bytes(absolute_value().SerializeToString())
    (tmp_path / "half.vnnlib").write_text(VNNLIB.format(bound="0.5"))
    (tmp_path / "far.vnnlib.gz").write_bytes(gzip.compress(VNNLIB.format(bound="1.5").encode()))
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "instances.csv"
    path.write_text(text)
    return path


def test_lines_with_and_without_heading_and_compressed_files(folder: Path) -> None:
    bare = "abs.onnx,half.vnnlib,10\n\nabs.onnx,far.vnnlib,20.5\n"
    heading = "onnx,property,timeout_s,known_verdict,fastest_tool\n"
    plain = read_instances(write(folder, bare), time_limit_s=12)
    headed = read_instances(write(folder, heading + "abs.onnx,half.vnnlib,10,violated,x\n"))
    assert [(i.property_file.name, i.time_limit_s, i.known) for i in plain + headed] == [
        ("half.vnnlib", 10, ""),
        ("far.vnnlib.gz", 12, ""),
        ("half.vnnlib", 10, "violated"),
    ]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("abs.onnx,half.vnnlib\n", "instances.csv:2:1: no timeout_s; a line is"),
        ("abs.onnx,half.vnnlib,soon\n", "instances.csv:2:1: timeout 'soon' is not a number"),
        ("abs.onnx,half.vnnlib,-1\n", "timeout '-1' is not a number of seconds"),
        ("abs.onnx,half.vnnlib,inf\n", "timeout 'inf' is not a number of seconds"),
    ],
)
def test_a_wrong_line_is_named(folder: Path, line: str, part: str) -> None:
    with pytest.raises(InvalidText) as caught:
        read_instances(write(folder, "abs.onnx,half.vnnlib,1\n" + line))
    assert part in str(caught.value)


def test_a_missing_model_is_named(folder: Path) -> None:
    with pytest.raises(FileMissing, match=r"model not found: .*none\.onnx"):
        read_instances(write(folder, "none.onnx,half.vnnlib,1\n"))


def test_instances_are_answered_as_known_by_construction(folder: Path) -> None:
    text = "abs.onnx,half.vnnlib,10\nabs.onnx,far.vnnlib,10\n"
    half, far = map(verify_instance, read_instances(write(folder, text)))
    assert (half.verdict, far.verdict) == (Verdict.VIOLATED, Verdict.HOLDS)
    assert half.outputs == (abs(half.inputs[0]),)
    assert abs(half.inputs[0]) >= 0.5
    assert far.inputs == ()


def test_an_instance_that_cannot_be_asked_is_an_answer_too(folder: Path) -> None:
    network = relu_network([(array([[1]]), array([0]))], last="Erf")
    (folder / "abs.onnx").write_bytes(network.SerializeToString())
    (instance,) = read_instances(write(folder, "abs.onnx,half.vnnlib,10\n"))
    result = verify_instance(instance)
    assert result.verdict is Verdict.UNKNOWN
    assert "Erf at node 'the_erf'" in result.reason


def test_the_key_follows_content_and_limit(folder: Path) -> None:
    def key(text: str) -> str:
        return read_instances(write(folder, text))[0].key

    first = key("abs.onnx,half.vnnlib,10\n")
    assert first == key("./abs.onnx,half.vnnlib,10\n")
    assert first != key("abs.onnx,half.vnnlib,11\n")
    assert first != key("abs.onnx,far.vnnlib,10\n")


def test_answers_of_another_engine_are_not_used_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (instance,) = read_instances(write(folder, "abs.onnx,half.vnnlib,10\n"))
    before = instance.key
    monkeypatch.setattr(instances, "ENGINE_VERSION", instances.ENGINE_VERSION + 1)
    assert instance.key != before


def result(verdict: Verdict, known: str = "") -> InstanceResult:
    return InstanceResult(
        name="onnx/a.onnx.gz vnnlib/p.vnnlib",
        key="k",
        verdict=verdict,
        reason="r",
        known=known,
        seconds=1.5,
        subproblems=0,
        inputs=(0.5, -1.0),
        outputs=(2.0,),
    )


def test_result_lines_are_the_competitions() -> None:
    results = [result(v) for v in (Verdict.HOLDS, Verdict.VIOLATED, Verdict.UNKNOWN, Verdict.ERROR)]
    words = [line.split(",") for line in vnncomp_results(results, "cat").splitlines()]
    assert [line[4] for line in words] == ["unsat", "sat", "unknown", "error"]
    assert words[0] == ["cat", "onnx/a.onnx.gz", "vnnlib/p.vnnlib", "0", "unsat", "1.5000"]


def test_counterexamples_are_the_competitions() -> None:
    found = result(Verdict.VIOLATED)
    assert counterexample_name(found) == "a_p.counterexample"
    assert counterexample_text(found) == "((X_0 0.5)\n(X_1 -1.0)\n(Y_0 2.0))\n"


@pytest.mark.parametrize(
    ("verdict", "known", "contradiction"),
    [
        (Verdict.HOLDS, "violated", True),
        (Verdict.VIOLATED, "holds", True),
        (Verdict.HOLDS, "holds", False),
        (Verdict.UNKNOWN, "holds", False),
        (Verdict.HOLDS, "unknown", False),
        (Verdict.VIOLATED, "", False),
    ],
)
def test_contradictions_are_seen(verdict: Verdict, known: str, contradiction: bool) -> None:
    assert result(verdict, known).contradicts is contradiction
