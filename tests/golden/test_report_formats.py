"""Whole outputs of the sample report, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from auditor_reports.audit_json import schema_text
from auditor_reports.github import render_annotations
from auditor_reports.registry import WRITERS, Writer
from tests.golden.sample_report import sample_report

Golden = Callable[[Path, bytes], None]
SCHEMA = Path(__file__).parents[2] / "specs/auditor_specs/schemas/audit.schema.json"


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
def test_format_is_unchanged(writer: Writer, golden: Golden) -> None:
    """Each format of the sample report is what it was."""
    golden(Path("reports") / writer.filename, writer.render(sample_report()))


def test_annotations_are_unchanged(golden: Golden) -> None:
    """The build annotations of the sample report are what they were."""
    golden(Path("reports/annotations.txt"), render_annotations(sample_report()).encode())


def test_published_schema_is_the_schema_of_the_records(golden: Golden) -> None:
    """The schema file changes only together with the records, and visibly."""
    golden(SCHEMA, schema_text().encode())
