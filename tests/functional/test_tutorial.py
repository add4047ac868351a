"""The tutorial does what it says: its files are written and its commands run, in order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.functional.command import clean_environment, command_line

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXITS = re.compile(r"\s+# exits (\d+)$")


class Block(NamedTuple):
    """A fenced block of the tutorial."""

    language: str
    options: dict[str, str]
    text: str


def blocks() -> Iterator[Block]:
    expires = datetime.now(UTC).date() + timedelta(days=90)
    for language, words, text in BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text()):
        options = dict(word.split("=", 1) for word in words.split())
        yield Block(language, options, text.replace("@IN_90_DAYS@", str(expires)))


def environment(shims: Path) -> dict[str, str]:
    """A path on which `auditor` and `python` are the ones under test."""
    shims.mkdir()
    for name, command in (("auditor", command_line()), ("python", [sys.executable])):
        shim = shims / name
        shim.write_text("#!/bin/sh\nexec " + " ".join(f"'{w}'" for w in command) + ' "$@"\n')
        shim.chmod(0o755)
    return clean_environment({"PATH": f"{shims}{os.pathsep}{os.environ['PATH']}"})


@pytest.mark.slow
def test_every_command_ends_as_the_tutorial_says(tmp_path: Path) -> None:
    env = environment(tmp_path / "bin")
    folder = tmp_path / "work"
    folder.mkdir()
    commands = 0
    for block in blocks():
        if "file" in block.options:
            (folder / block.options["file"]).write_text(block.text)
            continue
        assert block.language == "sh"
        where = ROOT if block.options.get("run") == "clone" else folder
        for line in block.text.splitlines():
            found = EXITS.search(line)
            done = subprocess.run(
                EXITS.sub("", line), shell=True, cwd=where, env=env, capture_output=True,
                text=True, timeout=600, check=False,
            )  # fmt: skip
            commands += 1
            assert done.returncode == (int(found[1]) if found else 0), (line, done)
    assert commands > 10
    workflow = yaml.safe_load((folder / "workflow.yaml").read_text())
    steps = workflow["jobs"]["audit"]["steps"]
    ran = [step["run"] for step in steps if step.get("run", "").startswith("auditor")]
    assert all(f"\n{command}\n" in (ROOT / "docs" / "tutorial.md").read_text() for command in ran)
