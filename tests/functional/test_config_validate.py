"""`auditor config validate`: plans, policies and waivers, told apart, each error with its line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from auditor_cli.main import run_command_line
from tests.functional.ci_scratch import write_audit
from tests.functional.command import Ended

WAIVER = """\
- match: AUD101
  model_digest: any
  reason: known
  approved_by: release owner
  expires: {expires}
"""
VARIABLES = """\
version: 1
name: several
variables: {data: {description: folder of the models}}
subjects: [{path: "${data}/*.onnx"}]
checks:
  - {check: AUD101}
  - {check: AUD201, params: {property: "${data}/p.yaml"}}
"""


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Runs `auditor config validate` in the test's folder, in this process: it loads much."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ended:
        code = run_command_line(["config", "validate", *arguments])
        streams = capsys.readouterr()
        return Ended(code, streams.out, streams.err)

    return run


def waiver(days: int) -> str:
    """A waiver file whose only entry ends in so many days."""
    return WAIVER.format(expires=datetime.now(UTC).date() + timedelta(days=days))


def test_several_files_are_told_apart(tmp_path: Path, here: Callable[..., Ended]) -> None:
    """A record each, with what it holds; a waiver that has expired is valid, and named."""
    write_audit(tmp_path, "pass")
    (tmp_path / "policy.yaml").write_text("require: [AUD101]\n")
    (tmp_path / "w.yaml").write_text(waiver(30) + waiver(-1))
    (tmp_path / "no-waivers.yaml").write_text("# none left\n")
    ended = here(
        "auditor-plan.yaml", "policy.yaml", "w.yaml", "no-waivers.yaml",
        "--json", "--text-only",
    )  # fmt: skip
    records = [json.loads(line) for line in ended.out.splitlines()]
    notices = [record.pop("notices") for record in records]
    assert ended.code == 0
    assert records == [
        {"file": "auditor-plan.yaml", "kind": "plan", "valid": True, "checks": 1},
        {"file": "policy.yaml", "kind": "policy", "valid": True, "thresholds": 0},
        {"file": "w.yaml", "kind": "waivers", "valid": True, "waivers": 2},
        {"file": "no-waivers.yaml", "kind": "waivers", "valid": True, "waivers": 0},
    ]
    assert [len(found) for found in notices] == [0, 0, 1, 0]
    assert "covers nothing" in notices[2][0]


def test_every_file_is_looked_at_and_each_error_has_its_line(
    tmp_path: Path, here: Callable[..., Ended]
) -> None:
    """Also what comes after one that is wrong."""
    (tmp_path / "policy.yaml").write_text("version: 1\nrequire: [AUD101]\nfail_on: sometimes\n")
    (tmp_path / "w.yaml").write_text(waiver(30) + waiver(4_000))
    (tmp_path / "other.yaml").write_text("a: 1\n")
    (tmp_path / "good.yaml").write_text("fail_on: low\n")
    names = ["policy.yaml", "w.yaml", "other.yaml", "missing.yaml", "good.yaml"]
    ended = here(*names)
    starts = [
        "auditor: policy.yaml:3:1: fail_on: ", "auditor: w.yaml:10:3: expires ",
        "auditor: other.yaml:1:1: neither a plan, nor a policy, nor a list of waivers",
        "auditor: plan not found: missing.yaml",
    ]  # fmt: skip
    lines = ended.err.splitlines()
    assert ended.code == 2
    assert [line.startswith(start) for line, start in zip(lines, starts, strict=True)] == [True] * 4
    assert ended.out == "good.yaml: valid policy, 0 thresholds\n"


def test_one_file_that_is_wrong_is_one_line(tmp_path: Path, here: Callable[..., Ended]) -> None:
    """With --json one record, as every command ends."""
    (tmp_path / "w.yaml").write_text("- match: AUD101\n  model: any\n")
    ended = here("w.yaml", "--json")
    error = json.loads(ended.out)["error"]
    assert (ended.code, error["exit_code"], error["kind"]) == (2, 2, "InvalidText")
    assert error["message"].startswith("w.yaml:")


def test_the_kind_can_be_said(tmp_path: Path, here: Callable[..., Ended]) -> None:
    """A plan without its checks is then told what is missing."""
    (tmp_path / "a.yaml").write_text("version: 1\n")
    assert here("a.yaml").out == ("a.yaml: valid policy, 0 thresholds\n")
    ended = here("a.yaml", "--as", "plan")
    assert (ended.code, ended.err) == (2, "auditor: a.yaml:1:1: key 'name' is missing\n")


def test_text_only_needs_neither_models_nor_values(
    tmp_path: Path, here: Callable[..., Ended]
) -> None:
    """Codes and parameters are checked all the same, with their lines."""
    file = tmp_path / "plan.yaml"
    file.write_text(VARIABLES)
    ended = here("plan.yaml", "--text-only")
    assert (ended.code, ended.out) == (0, "plan.yaml: valid plan, 2 checks in its text\n")
    file.write_text(VARIABLES + "  - {check: AUD202, params: {inputs: a.npz, radius: wide}}\n")
    ended = here("plan.yaml", "--text-only")
    assert (ended.code, ended.err.startswith("auditor: plan.yaml:8:45: radius: ")) == (2, True)
    file.write_text(VARIABLES.replace("AUD101", "AUD999"))
    ended = here("plan.yaml", "--text-only")
    assert ended.code == 2
    assert ended.err.startswith("auditor: plan.yaml:6:6: unknown check 'AUD999'")


def test_without_text_only_models_are_looked_at(tmp_path: Path, here: Callable[..., Ended]) -> None:
    """The same plan, with a value that leads nowhere."""
    (tmp_path / "plan.yaml").write_text(VARIABLES)
    ended = here("plan.yaml", "--set", "data=none")
    assert (ended.code, ended.err.startswith("auditor: model not found: none/*.onnx")) == (2, True)
