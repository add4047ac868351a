"""Whole outputs of the sample report, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auditor_reports.audit_json import schema
from auditor_reports.github import render_annotations
from auditor_reports.published_schema import schema_text
from auditor_reports.registry import WRITERS, Writer, writer
from tests.golden.sample_report import every_check_report, sample_report

Golden = Callable[[Path, bytes], None]
SCHEMA = Path(__file__).parents[2] / "specs/auditor_specs/schemas/audit.schema.json"


@pytest.mark.parametrize("each", WRITERS, ids=lambda each: each.name)
def test_format_is_unchanged(each: Writer, golden: Golden) -> None:
    """Each format of the sample report is what it was."""
    golden(Path("reports") / each.filename, each.render(sample_report()))


@pytest.mark.parametrize("name", ["cyclonedx", "intoto", "markdown", "modelcard", "oscal"])
def test_format_with_every_check_is_unchanged(name: str, golden: Golden) -> None:
    """The formats that are short show every built-in check."""
    chosen = writer(name)
    golden(Path("reports/every-check") / chosen.filename, chosen.render(every_check_report()))


def test_annotations_are_unchanged(golden: Golden) -> None:
    """The build annotations of the sample report are what they were."""
    golden(Path("reports/annotations.txt"), render_annotations(sample_report()).encode())


def test_published_schema_is_the_schema_of_the_records(golden: Golden) -> None:
    """The schema file changes only together with the records, and visibly."""
    golden(SCHEMA, schema_text(schema()).encode())
