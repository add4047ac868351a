"""Pages of `docs/` whose blocks are written to files and run as commands, in order.

A block is a file where it is called `file=NAME`, commands where its language is `sh`, and output
that is only shown where it is `text`. `needs=network` marks commands that no test runs; a command
that ends with another code than 0 says so: `# exits 1`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.functional.command import clean_environment, command_line

ROOT: Final = Path(__file__).parents[2]
BLOCK: Final = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EXITS: Final = re.compile(r"\s+# exits (\d+)$")


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    options: dict[str, str]
    text: str


class Line(NamedTuple):
    """A command and the exit code that the page names."""

    command: str
    code: int


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page of `docs/`."""
    for language, words, text in BLOCK.findall((ROOT / "docs" / page).read_text("utf-8")):
        yield Block(language, dict(word.split("=", 1) for word in words.split()), text)


def lines(block: Block) -> Iterator[Line]:
    """The commands of a block."""
    for line in block.text.splitlines():
        found = EXITS.search(line)
        yield Line(EXITS.sub("", line), int(found[1]) if found else 0)


def environment(shims: Path) -> dict[str, str]:
    """A path on which `auditor` and `python` are the ones under test."""
    shims.mkdir()
    for name, command in (("auditor", command_line()), ("python", [sys.executable])):
        shim = shims / name
        shim.write_text("#!/bin/sh\nexec " + " ".join(f"'{w}'" for w in command) + ' "$@"\n')
        shim.chmod(0o755)
    return clean_environment({"PATH": f"{shims}{os.pathsep}{os.environ['PATH']}"})


def run(line: Line, where: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell and require its exit code."""
    done = subprocess.run(
        line.command, shell=True, cwd=where, env=env, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == line.code, (line, done.stdout[-2_000:], done.stderr[-2_000:])
    return done
