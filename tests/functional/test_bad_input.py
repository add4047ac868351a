"""Bad input: one clear line on stderr, the right exit code, nothing half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.functional.command import Ended, auditor
from tests.models.small_audit import PLAN, PROPERTY, write_small_audit
from tests.models.tiny import array, relu_network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good model, property and plan."""
    return write_small_audit(tmp_path)


def one_line(ended: Ended) -> str:
    """The only line on stderr."""
    assert "Traceback" not in ended.err
    lines = ended.err.splitlines()
    assert len(lines) == 1, ended.err
    return lines[0]


def check_refused_before_anything(folder: Path, code: int, *parts: str) -> None:
    """`verify` and `run` both end with the code, name the problem, and write nothing."""
    before = sorted(folder.rglob("*"))
    for arguments in (("verify", "model.onnx", "property.yaml"), ("run", "plan.yaml")):
        ended = auditor(*arguments, cwd=folder)
        line = one_line(ended)
        assert ended.code == code, ended
        assert all(part in line for part in parts), line
        assert sorted(folder.rglob("*")) == before


def test_a_missing_model(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    check_refused_before_anything(folder, 2, "model.onnx", "not found")


def test_a_property_for_another_input_size(folder: Path) -> None:
    (folder / "property.yaml").write_text(
        PROPERTY.replace("[-1]", "[-1, -1]").replace("[1]", "[1, 1]")
    )
    check_refused_before_anything(folder, 2, "not-negative", "2 inputs", "the model has 1")


def test_a_misspelt_key_in_a_property(folder: Path) -> None:
    (folder / "property.yaml").write_text(PROPERTY.replace("then:", "than:"))
    check_refused_before_anything(folder, 2, "property.yaml:5:1", "did you mean 'then'?")


def test_a_misspelt_key_in_a_plan(folder: Path) -> None:
    (folder / "plan.yaml").write_text(PLAN.replace("params:", "parms:"))
    ended = auditor("run", "plan.yaml", cwd=folder)
    assert ended.code == 2
    assert one_line(ended) == (
        "auditor: plan.yaml:8:5: unknown key 'parms'; did you mean 'params'?"
    )
    assert not (folder / "auditor-runs").exists()


def test_a_misspelt_parameter_in_a_plan(folder: Path) -> None:
    (folder / "plan.yaml").write_text(PLAN.replace("property:", "propertie:"))
    ended = auditor("run", "plan.yaml", cwd=folder)
    assert ended.code == 2
    assert "plan.yaml:8:14: unknown key 'propertie'; did you mean 'property'?" in one_line(ended)


def test_an_unwritable_output_folder(folder: Path) -> None:
    (folder / "taken").write_text("a file, not a folder")
    ended = auditor("run", "plan.yaml", "--out", "taken/run", "--progress", "none", cwd=folder)
    assert ended.code == 2
    assert "cannot write to taken/run" in one_line(ended)
    assert (folder / "taken").read_text() == "a file, not a folder"


def break_into_text(content: bytes) -> bytes:
    return b"this is not a model\n"


def cut_in_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def make_a_pickle(content: bytes) -> bytes:
    return b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07marker.\x94."


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (break_into_text, "[not-a-model]"),
        (cut_in_half, "[truncated]"),
        (make_a_pickle, "[pickle-content]"),
    ],
)
def test_a_file_that_is_not_a_model_is_refused(
    folder: Path, spoil: Callable[[bytes], bytes], rule: str
) -> None:
    """Exit 6; a run still leaves a whole report that says so."""
    model = folder / "model.onnx"
    model.write_bytes(spoil(model.read_bytes()))
    verified = auditor("verify", "model.onnx", "property.yaml", cwd=folder)
    assert verified.code == 6
    assert rule in one_line(verified)
    ran = auditor("run", "plan.yaml", "--progress", "none", "--out", "run", cwd=folder)
    assert ran.code == 6
    assert rule in one_line(ran)
    assert {path.name for path in (folder / "run").iterdir()} == {
        "audit.json", "audit.sarif", "junit.xml", "ledger.jsonl", "plan.yaml", "report.html",
        "summary.md",
    }  # fmt: skip


def test_an_unsupported_operator_is_named_with_its_node(folder: Path) -> None:
    network = relu_network([(array([[1]]), array([0]))], last="Erf")
    (folder / "model.onnx").write_bytes(network.SerializeToString())
    verified = auditor("verify", "model.onnx", "property.yaml", cwd=folder)
    assert verified.code == 3
    assert "unsupported operator: Erf at node 'the_erf'" in one_line(verified)
    dry = auditor("run", "plan.yaml", "--dry-run", cwd=folder)
    assert "unsupported operator: Erf at node 'the_erf'" in one_line(dry)
    assert not (folder / "auditor-runs").exists()
    ran = auditor("run", "plan.yaml", "--progress", "none", cwd=folder)
    assert ran.code == 3
    assert "AUD201: unknown: unsupported operator: Erf at node 'the_erf'" in ran.out


def test_weights_that_are_not_numbers(folder: Path) -> None:
    """AUD101 finds them (exit 1); nothing is proved about such a network (exit 3)."""
    network = relu_network([(array([[1], [np.nan]]), array([0, 0])), (array([[1, 1]]), array([0]))])
    (folder / "model.onnx").write_bytes(network.SerializeToString())
    verified = auditor("verify", "model.onnx", "property.yaml", cwd=folder)
    assert verified.code == 3
    assert "w0" in one_line(verified)
    ran = auditor("run", "plan.yaml", "--progress", "none", cwd=folder)
    assert ran.code == 1
    assert "w0" in ran.out


def test_an_unknown_command_option_and_check(folder: Path) -> None:
    for arguments, part in (
        (("ran",), "unknown command 'ran'; did you mean 'run'?"),
        (("run", "plan.yaml", "--chek", "x"), "--chek"),
        (("run", "dem"), "did you mean 'demo'?"),
        (("list", "check"), "'check'"),
    ):
        ended = auditor(*arguments, cwd=folder)
        assert ended.code == 2
        assert part in one_line(ended)


def test_no_check_matches(folder: Path) -> None:
    ended = auditor("run", "plan.yaml", "--check", "AUD999", cwd=folder)
    assert ended.code == 5
    assert "no check of plan.yaml matches AUD999" in one_line(ended)


def test_errors_are_json_when_json_is_asked_for(folder: Path) -> None:
    ended = auditor("run", "none.yaml", "--json", cwd=folder)
    assert ended.code == 2
    assert ended.err == ""
    assert ended.out.startswith('{"error": {"exit_code": 2, "kind": "FileMissing", "message": ')
