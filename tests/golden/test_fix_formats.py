"""Whole pages of the sample repair, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.fix import FixResult
from auditor_reports.fix.json import render_fix_json
from auditor_reports.fix.markdown import render_fix_markdown
from auditor_reports.fix.page import render_fix
from tests.golden.sample_fix import sample_expert_fix, sample_fix

Golden = Callable[[Path, bytes], None]


@pytest.mark.parametrize(
    ("name", "render"), [("fix.html", render_fix), ("fix.md", render_fix_markdown)]
)
def test_page_is_unchanged(name: str, render: Callable[[FixResult], str], golden: Golden) -> None:
    """Each page of the sample repair is what it was."""
    golden(Path("reports") / name, render(sample_fix()).encode())


@pytest.mark.parametrize(
    ("name", "render"),
    [("fix-experts.html", render_fix), ("fix-experts.md", render_fix_markdown),
     ("fix-experts.json", lambda result: render_fix_json(result).decode())],
)  # fmt: skip
def test_page_with_random_sets_is_unchanged(
    name: str, render: Callable[[FixResult], str], golden: Golden
) -> None:
    """Each page of the repair beside random sets, and its record, is what it was."""
    golden(Path("reports") / name, render(sample_expert_fix()).encode())
