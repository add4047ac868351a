"""A scratch git repository with a tiny model, and the executable that CI scripts call."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from tests.functional.command import clean_environment, command_line
from tests.models.tiny import absolute_value

ROOT = Path(__file__).parents[2]
PROPERTY = """\
version: 1
id: small
inputs: {box: {lower: -1, upper: 1}}
then:
  - at_most: {output: 0, value: 0.5}
"""
PLAN = """\
version: 1
name: small
title: A tiny model
reports: [json]
subjects:
  - path: model.onnx
checks:
"""
# A plan for each verdict: |x| is at most 0.5 on [-1, 1] is false, and nobody asks AUD205.
CHECKS = {
    "pass": "  - check: AUD102\n",
    "fail": "  - check: AUD201\n    id: at-most-half\n    params: {property: property.yaml}\n",
    "inconclusive": "  - check: AUD102\npolicy: {require: [AUD205]}\n",
}


def write_audit(folder: Path, verdict: str) -> None:
    """Model, property and plan of an audit that ends with this verdict."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(absolute_value().SerializeToString())
    (folder / "property.yaml").write_text(PROPERTY)
    (folder / "auditor-plan.yaml").write_text(PLAN + CHECKS[verdict])


def commit_all(folder: Path) -> None:
    """Make a folder a git repository with everything in it committed."""
    who = ["-c", "user.name=a", "-c", "user.email=a@a.example", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True, env=clean_environment())


def write_executable(folder: Path) -> Path:
    """An executable `auditor` in a folder of its own that runs the command under test."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "auditor"
    file.write_text(f'#!/bin/sh\nexec {shlex.join(command_line())} "$@"\n')
    file.chmod(0o755)
    return file
