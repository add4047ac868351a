"""Fixtures of the tests of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.models import first_load


@pytest.fixture
def own_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test is let off by a first load that another one remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(first_load, "_passed", set())
