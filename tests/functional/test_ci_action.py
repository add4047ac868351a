"""The GitHub action: its steps run in a scratch repository, whatever the inputs say."""

from __future__ import annotations

import json
import re
import shutil
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.functional.ci_scratch import ROOT, commit_all, write_audit, write_executable
from tests.functional.composite_action import ACTION, EXPRESSION, ActionEnded, run_action

FOLDER = "models/tiny"
HOSTILE = {
    "substitution": "$(touch hacked)",
    "backticks": "`touch hacked`",
    "quotes": "'; touch hacked; \"; touch hacked; #",
    "newline": "a\ntouch hacked\n::error::forged",
    "output": "a\nverdict=pass\nexit-code=0",
    "expression": "${{ github.token }}",
    "option": "--exit-zero",
}
WAIVER = """\
- match: AUD201
  model_digest: any
  reason: the test says so
  approved_by: tester
  expires: {expires}
"""


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The command under test as one executable."""
    return str(write_executable(tmp_path_factory.mktemp("bin")))


@pytest.fixture(scope="module")
def passed(executable: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ActionEnded]:
    """A workspace whose audit passed with every input but the executable left out."""
    workspace = tmp_path_factory.mktemp("passed") / "work"
    write_audit(workspace, "pass")
    commit_all(workspace)
    return workspace, run_action(workspace, {"executable": executable})


@pytest.fixture(scope="module")
def failed(executable: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ActionEnded]:
    """A workspace whose audit, in a folder of its own and with a hostile name, failed."""
    workspace = tmp_path_factory.mktemp("failed") / "work"
    write_audit(workspace / FOLDER, "fail")
    plan = workspace / FOLDER / "auditor-plan.yaml"
    plan.write_text(plan.read_text().replace("at-most-half", '"##[error]::warning::forged"'))
    commit_all(workspace)
    inputs = {"executable": executable, "working-directory": f"./{FOLDER}", "formats": "sarif"}
    return workspace, run_action(workspace, inputs)


def test_no_script_holds_an_expression_and_no_step_uses_an_action() -> None:
    """Inputs are data of the environment; what would be text of a script could run."""
    steps = ACTION["runs"]["steps"]
    assert [step for step in steps if EXPRESSION.search(step["run"]) or "uses" in step] == []
    assert all("${{" not in step["run"] and "eval" not in step["run"] for step in steps)


def test_inputs_and_outputs_are_those_of_the_documentation() -> None:
    """Every input and output has its row in docs/ci.md."""
    text = (ROOT / "docs/ci.md").read_text("utf-8")
    rows = set(re.findall(r"(?m)^\| `([\w-]+)` \|", text))
    assert {*ACTION["inputs"], *ACTION["outputs"]} <= rows


def test_an_audit_that_passes(passed: tuple[Path, ActionEnded]) -> None:
    """Code 0, outputs, and the default formats although the plan asks for JSON only."""
    workspace, ended = passed
    assert ended.code == 0, ended.log
    assert ended.outputs == {
        "verdict": "pass", "exit-code": "0", "run-folder": "auditor-run",
        "sarif": "auditor-run/audit.sarif",
    }  # fmt: skip
    written = {path.name for path in (workspace / "auditor-run").iterdir()}
    assert {"audit.json", "audit.sarif", "junit.xml", "report.html"} <= written
    assert ended.summary.startswith("## Audit: ✅ pass\n")
    assert ended.acted == ()


def test_an_audit_that_fails(failed: tuple[Path, ActionEnded]) -> None:
    """Code 1; one annotation, whatever the plan says, and it and SARIF name the plan as the
    repository does.
    """
    workspace, ended = failed
    assert ended.code == 1, ended.log
    assert ended.outputs == {
        "verdict": "fail", "exit-code": "1", "run-folder": f"{FOLDER}/auditor-run",
        "sarif": f"{FOLDER}/auditor-run/audit.sarif",
    }  # fmt: skip
    assert "##[error]::warning::forged" in ended.log
    (annotation,) = ended.acted
    assert annotation.startswith(f"::error file={FOLDER}/auditor-plan.yaml,line=8,title=AUD201")
    sarif: Any = json.loads((workspace / ended.outputs["sarif"]).read_text("utf-8"))
    (result,) = sarif["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == f"{FOLDER}/auditor-plan.yaml"


def test_waivers_in_the_working_directory_let_it_pass(
    failed: tuple[Path, ActionEnded], executable: str, tmp_path: Path
) -> None:
    """The run is resumed, so only the gate is asked anew."""
    workspace = tmp_path / "work"
    shutil.copytree(failed[0], workspace)
    expires = datetime.now(UTC).date() + timedelta(days=90)
    (workspace / FOLDER / "waivers.yaml").write_text(WAIVER.format(expires=expires))
    ended = run_action(workspace, {
        "executable": executable, "working-directory": FOLDER, "waivers": "waivers.yaml",
        "formats": "",
    })  # fmt: skip
    assert (ended.code, ended.outputs["verdict"]) == (0, "pass"), ended.log
    assert [line.split(" ")[0] for line in ended.acted] == ["::notice"]


def test_an_open_question_is_3_unless_it_is_allowed(
    passed: tuple[Path, ActionEnded], executable: str, tmp_path: Path
) -> None:
    """A policy that asks what nobody answers; allowing it changes the code, not the verdict."""
    workspace = tmp_path / "work"
    shutil.copytree(passed[0], workspace)
    (workspace / "strict.yaml").write_text("require: [AUD205]\n")
    inputs = {"executable": executable, "formats": "", "policy": "strict.yaml"}
    ended = run_action(workspace, inputs)
    assert (ended.code, ended.outputs["verdict"]) == (3, "inconclusive"), ended.log
    assert ended.outputs["exit-code"] == "3"
    allowed = run_action(workspace, {**inputs, "allow-inconclusive": "true"})
    assert (allowed.code, allowed.outputs["verdict"]) == (0, "inconclusive"), allowed.log


def recorder(folder: Path, code: int, verdict: str = "", written: int = 0) -> str:
    """Stands in for auditor: writes down the arguments of `run` and ends with a code.

    With a verdict it writes the output that auditor writes; `report` ends with `written`.
    """
    file = folder / "recorder"
    said = f'echo verdict={verdict} >> "$GITHUB_OUTPUT"\n' if verdict else ""
    file.write_text(
        f'#!/bin/sh\n[ "$1" = report ] && exit {written}\n'
        f'printf "%s\\0" "$@" > "{folder}/arguments"\n{said}exit {code}\n'
    )
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize("code", [2, 4, 6, 130])
def test_an_error_gives_no_verdict_and_no_older_report(code: int, tmp_path: Path) -> None:
    """The SARIF file of the run before is still there, and is not handed out."""
    workspace = tmp_path / "work"
    (workspace / "auditor-run").mkdir(parents=True)
    (workspace / "auditor-run/audit.sarif").write_text("{}")
    ended = run_action(workspace, {"executable": recorder(tmp_path, code, written=9)})
    assert ended.outputs == {
        "verdict": "", "exit-code": str(code), "run-folder": "auditor-run", "sarif": "",
    }  # fmt: skip
    assert (ended.code, ended.summary) == (code, "")
    (line,) = ended.acted
    assert line == f"::error title=auditor::no verdict, exit code {code}; the log says why"


@pytest.mark.parametrize(
    ("code", "verdict", "ends"), [(0, "pass", 9), (1, "fail", 1), (3, "inconclusive", 3)]
)
def test_a_report_that_cannot_be_written_passes_nothing_and_hides_nothing(
    code: int, verdict: str, ends: int, tmp_path: Path
) -> None:
    """The verdict stands; the code is the gate's, or the writer's where the gate passed."""
    workspace = tmp_path / "work"
    workspace.mkdir()
    ended = run_action(workspace, {"executable": recorder(tmp_path, code, verdict, 9)})
    assert (ended.code, ended.outputs["verdict"]) == (ends, verdict)
    assert ended.outputs["exit-code"] == str(ends)
    assert ended.acted == ("::error title=auditor::reports were not written; the log says why",)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_inputs_reach_auditor_as_they_are(text: str, tmp_path: Path) -> None:
    """Each is one argument, or one a line of `arguments`; nothing runs, no output is forged."""
    workspace = tmp_path / "work"
    workspace.mkdir()
    left_alone = {"executable", "python", "requirement"}
    inputs = {name: text for name in ACTION["inputs"] if name not in left_alone}
    ended = run_action(workspace, {**inputs, "executable": recorder(tmp_path, 5)})
    placed = f"{text}/{text}"
    assert (tmp_path / "arguments").read_text().split("\0")[:-1] == [
        "run", f"--policy={placed}", f"--waivers={placed}", f"--baseline={placed}",
        f"--fail-on={text}", *text.splitlines(), f"--out={placed}", "--", placed,
    ]  # fmt: skip
    assert not list(tmp_path.rglob("hacked"))
    assert (ended.code, ended.outputs) == (
        5, {"verdict": "", "exit-code": "5", "run-folder": placed, "sarif": ""},
    )  # fmt: skip
    assert ended.acted == ("::error title=auditor::no verdict, exit code 5; the log says why",)


def test_hostile_inputs_are_usage_errors(executable: str, tmp_path: Path) -> None:
    """The real auditor refuses them all at once, and the log commands nothing."""
    workspace = tmp_path / "work"
    write_audit(workspace, "pass")
    text = "\n".join(HOSTILE.values())
    ended = run_action(workspace, {
        "executable": executable, "plan": text, "policy": text, "run-folder": text,
        "formats": text,
    })  # fmt: skip
    assert (ended.code, ended.outputs["verdict"]) == (2, ""), ended.log
    assert ended.outputs["run-folder"] == text
    assert ended.acted == ("::error title=auditor::no verdict, exit code 2; the log says why",)
    assert not list(tmp_path.rglob("hacked"))


def stub_python(folder: Path) -> Path:
    """A Python that writes down its arguments, one a line, and makes the folders it is told to."""
    file = folder / "python-stub"
    file.write_text(
        "#!/bin/sh\n"
        f'printf "%s\\n" "$@" --- >> "{folder}/arguments"\n'
        'if [ "$2" = venv ]; then\n'
        '  mkdir -p "$3/bin" && cp "$0" "$3/bin/python"\n'
        f'  printf "#!/bin/sh\\nexit 5\\n" > "$3/bin/auditor"; chmod +x "$3/bin/auditor"\n'
        "fi\n"
    )
    file.chmod(0o755)
    return file


@pytest.mark.parametrize("requirement", ["", "auditor @ file:///a b/$(touch hacked).whl", "--pre"])
def test_install_asks_pip_for_one_requirement(requirement: str, tmp_path: Path) -> None:
    """The action's own checkout when none is given; never an option, never a command."""
    workspace = tmp_path / "work"
    workspace.mkdir()
    python = stub_python(tmp_path)
    ended = run_action(workspace, {"python": str(python), "requirement": requirement})
    made, asked = (tmp_path / "arguments").read_text().split("---\n")[:2]
    assert made.split()[:2] == ["-m", "venv"]
    *_, before, last = asked.splitlines()
    assert asked.startswith("-m\npip\ninstall\n")
    assert (before, last) == ("--", requirement or str(ROOT))
    assert ended.code == 5, "the auditor that was installed is the one that runs"
    assert not list(tmp_path.rglob("*hacked*"))


def test_an_install_that_fails_is_no_failed_gate(tmp_path: Path) -> None:
    """pip ends with 1, which would read as a verdict."""
    workspace = tmp_path / "work"
    workspace.mkdir()
    python = stub_python(tmp_path)
    python.write_text(python.read_text() + '[ "$2" = pip ] && exit 1\nexit 0\n')
    ended = run_action(workspace, {"python": str(python)})
    assert ended.code == 4
    assert ended.outputs["verdict"] == ended.outputs["exit-code"] == ""
    assert ended.acted == ("::error title=auditor::cannot install auditor; the log says why",)


def write_wheel(folder: Path) -> Path:
    """A wheel whose `auditor` ends with exit code 5."""
    file = folder / "auditor-0-py3-none-any.whl"
    info = "auditor-0.dist-info"
    with zipfile.ZipFile(file, "w") as wheel:
        wheel.writestr("installed.py", "def main():\n    return 5\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: auditor\nVersion: 0\n")
        tag = "Wheel-Version: 1.0\nGenerator: a\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tag)
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\nauditor = installed:main\n")
        wheel.writestr(f"{info}/RECORD", "")
    return file


def test_install_makes_an_environment_and_runs_what_is_in_it(tmp_path: Path) -> None:
    """The real venv and pip, without an index."""
    workspace = tmp_path / "work"
    workspace.mkdir()
    wheel = write_wheel(tmp_path)
    inputs = {"requirement": str(wheel), "python": sys.executable}
    ended = run_action(workspace, inputs, {"PIP_NO_INDEX": "1"})
    assert (ended.code, ended.outputs["exit-code"]) == (5, "5"), ended.log
