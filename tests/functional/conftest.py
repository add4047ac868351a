"""The demo, run once for every test that only reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.functional.command import Ended, auditor


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    """The folder in which the demo ran, and how it ended; do not write to it."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, auditor("run", "demo", "--out", "run", cwd=folder)
