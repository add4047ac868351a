"""What a process gives up where the filter of system calls cannot be had."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_a_network_of_its_own_leads_nowhere(tmp_path: Path) -> None:
    """The second choice, where the filter cannot be had."""
    code = (
        "from auditor.guarded import protections\nprotections._leave_network()\n"
        "print(protections.network_left())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    if done.stdout.strip() == "open":
        pytest.skip("this system lets nobody make a network of its own")
    assert done.stdout.strip() == "none (own namespace)"
