"""The command as a whole: quick help, codes for every ending, streams kept apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.command import Ended, auditor, clean_environment, command_line
from tests.models.tiny import absolute_value

HEAVY = ("torch", "onnxruntime", "z3", "transformers", "numba", "onnx", "numpy")
PROPERTY = "version: 1\nid: p\ninputs: {box: {lower: -1, upper: 1}}\nthen:\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["-h"], ["completion", "bash"]])
def test_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    """Measured by the imported modules of a real process, not by time."""
    program = (
        "import sys\nfrom auditor_cli.main import run_command_line\n"
        f"code = run_command_line({arguments!r})\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'imported {heavy}' if heavy else code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_help_lists_every_command_with_its_line(tmp_path: Path) -> None:
    ended = auditor("--help", cwd=tmp_path)
    for name in ("run", "gate", "report", "diff", "verify", "model", "init", "list", "config",
                 "doctor", "completion", "mine", "patterns"):  # fmt: skip
        assert f" {name} " in ended.out
        assert auditor(name, "--help", cwd=tmp_path).code == 0


def verify(folder: Path, then: str, *options: str) -> Ended:
    (folder / "model.onnx").write_bytes(absolute_value().SerializeToString())
    (folder / "p.yaml").write_text(f"{PROPERTY}  - {then}\n")
    return auditor("verify", "model.onnx", "p.yaml", *options, cwd=folder)


def test_verify_answers_with_its_exit_code(tmp_path: Path) -> None:
    """|x| is at least 0 and not at most 0.5 on [-1, 1]."""
    assert verify(tmp_path, "at_least: {output: 0, value: 0}").code == 0
    violated = verify(tmp_path, "at_most: {output: 0, value: 0.5}", "--json")
    record = json.loads(violated.out)
    assert (violated.code, record["verdict"]) == (1, "violated")
    assert abs(record["witness"][0]) > 0.5
    assert record["outputs"] == [abs(record["witness"][0])]


def test_a_violation_found_at_once_loads_no_engine(tmp_path: Path) -> None:
    """Loading is most of a short command: neither torch nor Z3 nor a compiler for this one."""
    (tmp_path / "model.onnx").write_bytes(absolute_value().SerializeToString())
    (tmp_path / "p.vnnlib").write_text(
        "(declare-const X_0 Real)(declare-const Y_0 Real)"
        "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= Y_0 0.5))"
    )
    program = (
        "import sys\nfrom auditor_cli.main import run_command_line\n"
        "code = run_command_line(['verify', 'model.onnx', 'p.vnnlib', '-q'])\n"
        "heavy = [n for n in ('torch', 'z3', 'numba', 'pydantic', 'highspy') if n in sys.modules]\n"
        "sys.exit(f'imported {heavy}' if heavy else code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        cwd=tmp_path, env=clean_environment(),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")


def test_an_open_question_exits_3(tmp_path: Path) -> None:
    """No time at all: the answer is that there is none, with a reason."""
    ended = verify(tmp_path, "at_least: {output: 0, value: -0.0001}", "--time", "1e-9")
    assert ended.code == 3
    assert "no answer" in ended.err


def test_an_internal_error_exits_4_without_a_traceback(tmp_path: Path) -> None:
    """A bug is planted in a command; the entry point must not let it look like a verdict."""
    program = (
        "import auditor_cli.commands.list_ as module, sys\n"
        "def broken(output): raise RuntimeError('a bug')\n"
        "module._plans = broken\n"
        "from auditor_cli.main import run_command_line\n"
        "sys.exit(run_command_line(['list', 'plans']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 4
    assert done.stderr.startswith("auditor: internal error: RuntimeError: a bug;")
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_goes_away_does_not_change_the_code(
    demo: tuple[Path, Ended],
) -> None:
    """`auditor gate run | head -0` must not become another verdict."""
    process = subprocess.Popen(
        command_line("gate", "run"), cwd=demo[0], env=clean_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), errors) == (1, b"")


def test_json_mode_prints_only_json(demo: tuple[Path, Ended]) -> None:
    for arguments in (("gate", "run"), ("diff", "run", "run"), ("report", "run", "-o",
                      "json=copy.json"), ("list", "checks"), ("list", "plans")):  # fmt: skip
        ended = auditor(*arguments, "--json", cwd=demo[0])
        assert [type(json.loads(line)) for line in ended.out.splitlines()]
        assert ended.err == ""


def test_no_color_is_honoured(demo: tuple[Path, Ended]) -> None:
    for env in ({"NO_COLOR": "1"}, {}):
        ended = auditor("gate", "run", cwd=demo[0], env=env)
        assert "\x1b[" not in ended.out + ended.err


def test_a_flag_outranks_its_variable(demo: tuple[Path, Ended]) -> None:
    env = {"AUDITOR_FAIL_ON": "critical"}
    assert auditor("gate", "run", cwd=demo[0], env=env).code == 0
    assert auditor("gate", "run", "--fail-on", "high", cwd=demo[0], env=env).code == 1


def test_doctor_finds_this_machine_in_order(tmp_path: Path) -> None:
    ended = auditor("doctor", "--json", cwd=tmp_path)
    statuses = {line["subject"]: line["status"] for line in map(json.loads, ended.out.splitlines())}
    assert ended.code == 0
    assert "problem" not in statuses.values()
    assert {"guarded child", "network of workers"} <= statuses.keys()


def test_init_does_not_overwrite(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(absolute_value().SerializeToString())
    assert auditor("init", "model.onnx", cwd=tmp_path).code == 0
    written = (tmp_path / "auditor-plan.yaml").read_text()
    again = auditor("init", "model.onnx", cwd=tmp_path)
    assert again.code == 2
    assert "add --force to replace it" in again.err
    assert (tmp_path / "auditor-plan.yaml").read_text() == written
    assert auditor("config", "validate", "auditor-plan.yaml", cwd=tmp_path).code == 0


def test_scan_refuses_with_code_6_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "good.onnx").write_bytes(absolute_value().SerializeToString())
    (tmp_path / "bad.onnx").write_bytes(b"\x80\x04N.")
    ended = auditor("model", "scan", "good.onnx", "bad.onnx", "--json", cwd=tmp_path)
    records = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 6
    assert [record["verdict"] for record in records] == ["accepted", "refused"]
    assert records[1]["rule"] == "pickle-content"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_command(shell: str, tmp_path: Path) -> None:
    ended = auditor("completion", shell, cwd=tmp_path)
    assert ended.code == 0
    assert "_AUDITOR_COMPLETE" in ended.out
