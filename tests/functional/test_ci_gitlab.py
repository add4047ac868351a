"""The GitLab job: its script runs in a scratch repository, in sh and in bash."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from auditor_cli.commands.run import command as run_command
from auditor_reports.registry import writer
from tests.functional.ci_scratch import ROOT, commit_all, write_audit, write_executable
from tests.functional.command import TIMEOUT_S, Ended, auditor, clean_environment
from tests.functional.composite_action import ACTION

TEMPLATES = files("auditor_specs") / "ci"
JOB: dict[str, Any] = yaml.safe_load((TEMPLATES / "gitlab.yml").read_text("utf-8"))["auditor"]
HOSTILE = "$(touch hacked) `touch hacked` '; touch hacked; \"; touch hacked; # *"
# Variables that the script reads; all others are read by auditor.
OF_THE_SCRIPT = {
    "AUDITOR_PLAN", "AUDITOR_FORMATS", "AUDITOR_ARGUMENTS", "AUDITOR_REQUIREMENT",
    "AUDITOR_EXECUTABLE",
}  # fmt: skip


def run_job(folder: Path, variables: Mapping[str, str], shell: str = "sh") -> Ended:
    """Run before_script and script in one shell, as GitLab's runner does."""
    lines = [*JOB["before_script"], *JOB["script"]]
    # Project variables outrank those of the job; both are environment variables.
    given = {name: str(value) for name, value in JOB["variables"].items()} | dict(variables)
    done = subprocess.run(
        [shell, "-e", "-c", "\n".join(lines)],
        cwd=folder, env=clean_environment(given), capture_output=True, text=True,
        timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def artifact(name: str) -> str:
    """A path of the job's artifacts with the job's variables filled in."""
    return re.sub(r"\$(\w+)", lambda found: str(JOB["variables"][found[1]]), name)


def test_a_failing_audit_leaves_what_the_artifacts_name(tmp_path: Path) -> None:
    """Code 1, and the JUnit report where GitLab looks for it, although the plan asks for none."""
    folder = tmp_path / "work"
    write_audit(folder, "fail")
    commit_all(folder)
    executable = write_executable(tmp_path / "bin")
    ended = run_job(folder, {"AUDITOR_EXECUTABLE": str(executable)})
    assert ended.code == 1, ended.err
    junit = folder / artifact(JOB["artifacts"]["reports"]["junit"])
    assert junit.name == writer("junit").filename
    assert "<failure" in junit.read_text("utf-8")
    assert [junit.parent] == [folder / artifact(path) for path in JOB["artifacts"]["paths"]]
    assert artifact(JOB["artifacts"]["exclude"][0]) == "auditor-run/evidence/**/*"
    assert JOB["artifacts"]["when"] == "always"


def recorder(folder: Path, code: int) -> Path:
    """Stands in for auditor: writes down its calls and ends with a code; reports end with 9."""
    file = folder / "recorder"
    file.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" --- >> "{folder}/calls"\n'
        f'[ "$1" = run ] && exit {code}\nexit 9\n'
    )
    file.chmod(0o755)
    return file


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_hostile_variables_reach_auditor_as_they_are(shell: str, tmp_path: Path) -> None:
    """Each is one argument, or one a line or word of a list; nothing runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    ended = run_job(folder, {
        "AUDITOR_EXECUTABLE": str(recorder(tmp_path, 1)), "AUDITOR_PLAN": HOSTILE,
        "AUDITOR_OUT": HOSTILE, "AUDITOR_FORMATS": f"html,{HOSTILE}",
        "AUDITOR_ARGUMENTS": f"--set\n{HOSTILE}\nEND_OF_ARGUMENTS",
    }, shell)  # fmt: skip
    calls = (tmp_path / "calls").read_text().split("---\n")[:-1]
    formats = [f"--format={word}" for word in ["html", *HOSTILE.split()]]
    assert [call.splitlines() for call in calls] == [
        ["run", "--set", HOSTILE, "END_OF_ARGUMENTS", "--", HOSTILE],
        ["report", *formats, "--", HOSTILE],
    ]
    assert ended.code == 1, ended.err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "ends", "reported"), [(0, 9, 1), (1, 1, 1), (3, 3, 1), (2, 2, 0), (4, 4, 0)]
)
def test_the_job_ends_with_the_code_of_the_audit(
    code: int, ends: int, reported: int, tmp_path: Path
) -> None:
    """A report that cannot be written fails a job that passed, and hides no failed gate."""
    ended = run_job(tmp_path, {"AUDITOR_EXECUTABLE": str(recorder(tmp_path, code))})
    calls = (tmp_path / "calls").read_text().split("---\n")
    assert (ended.code, sum(call.startswith("report") for call in calls)) == (ends, reported)


def test_nothing_is_installed_by_a_guessed_name(tmp_path: Path) -> None:
    """A package that happens to be called auditor in some index is not this one."""
    ended = run_job(tmp_path, {})
    assert (ended.code, list(tmp_path.iterdir())) == (2, [])
    assert ended.err == "set AUDITOR_REQUIREMENT to what pip should install as auditor\n"


def test_an_install_that_fails_is_no_failed_gate(tmp_path: Path) -> None:
    """Making the environment ends with 1, which would read as a verdict."""
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    variables = {"PATH": f"{tmp_path}:/usr/bin:/bin", "AUDITOR_REQUIREMENT": "$(touch hacked)"}
    assert run_job(tmp_path, variables).code == 4
    assert list(tmp_path.iterdir()) == [python]


def test_every_variable_is_read_by_the_script_or_by_auditor() -> None:
    """A misspelt variable would be ignored without a word."""
    read = {str(parameter.envvar) for parameter in run_command.params if parameter.envvar}
    script = "\n".join([*JOB["before_script"], *JOB["script"]])
    assert {name for name in JOB["variables"] if f"${name}" in script} >= OF_THE_SCRIPT
    assert JOB["variables"].keys() - OF_THE_SCRIPT <= read


def test_every_variable_is_in_the_documentation() -> None:
    """The table of docs/ci.md names them all."""
    text = (ROOT / "docs/ci.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `AUDITOR_")]
    assert JOB["variables"].keys() == {
        name for row in rows for name in re.findall(r"`(AUDITOR_\w+)`", row)
    }


def test_github_workflow_pins_actions_and_knows_the_inputs_and_outputs() -> None:
    """Third-party actions by full commit; what is given and asked for is in action.yml."""
    text = (TEMPLATES / "github.yml").read_text("utf-8")
    workflow: dict[str, Any] = yaml.safe_load(text)
    steps = workflow["jobs"]["audit"]["steps"]
    pinned = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}")
    (own,) = [step for step in steps if not pinned.fullmatch(step["uses"])]
    assert own["uses"] == "OWNER/auditor@COMMIT"
    assert own["with"].keys() <= ACTION["inputs"].keys()
    asked = set(re.findall(r"steps\.audit\.outputs\.([\w-]+)", text))
    assert asked == {"sarif", "run-folder"} <= ACTION["outputs"].keys()
    assert all(step in text for step in ("if: always()", "/evidence"))


@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_templates_are_printed_as_they_are(system: str, tmp_path: Path) -> None:
    """`auditor config ci` is the file that ships, ready to be redirected."""
    ended = auditor("config", "ci", system, cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (TEMPLATES / f"{system}.yml").read_text("utf-8")
