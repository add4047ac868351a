"""The sample comparison in every format, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.audit.comparison import Comparison
from auditor_reports.comparison.markdown import render_comparison_markdown
from auditor_reports.comparison.page import render_comparison
from auditor_reports.plain_json import plain_json
from tests.golden.sample_comparison import sample_comparison

Golden = Callable[[Path, bytes], None]


@pytest.mark.parametrize(
    ("name", "render"),
    [
        ("comparison.html", render_comparison),
        ("comparison.json", plain_json),
        ("comparison.md", render_comparison_markdown),
    ],
)
def test_format_is_unchanged(
    name: str, render: Callable[[Comparison], bytes], golden: Golden
) -> None:
    """Each format of the sample comparison is what it was."""
    golden(Path("reports") / name, render(sample_comparison()))
