"""Runs the steps of `action.yml` as GitHub's runner does, with plain files for its own.

Source: GitHub documentation, "Metadata syntax for GitHub Actions" (composite actions) and
"Workflow commands for GitHub Actions": `shell: bash` is `bash --noprofile --norc -eo pipefail`
on a file, inputs reach a step through `env`, outputs through the file GITHUB_OUTPUT.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.functional.ci_scratch import ROOT
from tests.functional.command import TIMEOUT_S, clean_environment

EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
_HEREDOC = re.compile(r"(?ms)^([\w-]+)<<(\S+)\n(.*?)\n\2\n")
_COMMAND = re.compile(r"\s*::([a-z-]+)(?: .*?)?::")


@dataclass(frozen=True)
class ActionEnded:
    """How an action ended: the job's code, the action's outputs, log and summary."""

    code: int
    outputs: Mapping[str, str]
    log: str
    summary: str

    @property
    def acted(self) -> tuple[str, ...]:
        """Lines of the log that the runner takes for commands."""
        return tuple(_commands(self.log))


def run_action(
    workspace: Path, inputs: Mapping[str, str], env: Mapping[str, str] | None = None,
    action_path: Path = ROOT,
) -> ActionEnded:  # fmt: skip
    """Run every step in a workspace, until one fails; further variables are the job's."""
    temporary = workspace.parent / f"{workspace.name}-runner"
    temporary.mkdir(exist_ok=True)
    defaults = {name: str(spec.get("default", "")) for name, spec in ACTION["inputs"].items()}
    assert inputs.keys() <= defaults.keys()
    known = {f"inputs.{name}": value for name, value in {**defaults, **inputs}.items()}
    known["github.action_path"] = str(action_path)
    log, summary, code = "", "", 0
    for number, step in enumerate(ACTION["runs"]["steps"]):
        files = {name: temporary / f"{name}-{number}" for name in ("output", "summary", "script")}
        for file in files.values():
            file.write_bytes(b"")
        files["script"].write_bytes(step["run"].encode())
        given = {name: _evaluate(text, known) for name, text in step["env"].items()}
        assert step["shell"] == "bash"
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(files["script"])],
            cwd=workspace,
            env=clean_environment({
                "GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": str(files["output"]),
                "GITHUB_STEP_SUMMARY": str(files["summary"]), "RUNNER_TEMP": str(temporary),
                **(env or {}), **given,
            }),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
        log += done.stdout.decode()
        summary += files["summary"].read_text("utf-8")
        written = read_outputs(files["output"].read_text("utf-8"))
        known |= {f"steps.{step['id']}.outputs.{name}": value for name, value in written.items()}
        code = done.returncode
        if code:
            break
    outputs = {name: _evaluate(spec["value"], known) for name, spec in ACTION["outputs"].items()}
    return ActionEnded(code, outputs, log, summary)


def read_outputs(text: str) -> dict[str, str]:
    """The outputs in a GITHUB_OUTPUT file, `name=value` and `name<<end`."""
    found = {name: value for name, _, value in _HEREDOC.findall(text)}
    for line in _HEREDOC.sub("", text).splitlines():
        name, sign, value = line.partition("=")
        assert sign, f"not an output: {line}"
        found[name] = value
    return found


def _evaluate(text: str, known: Mapping[str, str]) -> str:
    """A text with its expressions filled in: names, and `a || b`."""

    def first(expression: str) -> str:
        values = [known.get(name, "") for name in expression.split(" || ")]
        return next((value for value in values if value), "")

    return EXPRESSION.sub(lambda found: first(found[1]), text)


def _commands(log: str) -> Iterator[str]:
    """Commands not stopped: `::name` at a line's start, `##[name]` anywhere in it."""
    resume = ""
    for line in log.splitlines():
        if resume:
            resume = "" if line.strip() == f"::{resume}::" else resume
        elif line.startswith("::stop-commands::"):
            resume = line.removeprefix("::stop-commands::").strip()
        elif _COMMAND.match(line) or "##[" in line:
            yield line
