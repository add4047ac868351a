"""Records are written as `json.dumps` writes them, whole or in parts."""

from __future__ import annotations

import json
import math

import pytest

from auditor.findings import AuditReport, Metric
from auditor_reports.plain_json import plain_json, plain_json_parts
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, enlarged, poisoned

REPORTS = {
    "sample": sample_report(),
    "no result": sample_report().model_copy(update={"results": ()}),
    "many findings": enlarged(12, 3),
    **{name: poisoned(text) for name, text in HOSTILE_TEXTS.items()},
}


def written_by_the_library(report: AuditReport) -> bytes:
    """The same text from the standard library's own encoder."""
    plain = report.model_dump(mode="json")
    return (json.dumps(plain, sort_keys=True, indent=1) + "\n").encode("ascii")


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_the_text_is_that_of_the_library(report: AuditReport) -> None:
    """The quicker way gives the same bytes."""
    assert plain_json(report) == written_by_the_library(report)


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_parts_make_the_whole(report: AuditReport) -> None:
    """What is hashed part by part is what the file holds."""
    assert b"".join(plain_json_parts(report)) == plain_json(report)


@pytest.mark.parametrize(
    ("value", "text"), [(math.inf, "Infinity"), (-math.inf, "-Infinity"), (math.nan, "NaN")]
)
def test_numbers_that_json_does_not_have_are_words(value: float, text: str) -> None:
    """They stand in quotes, also between finite numbers."""
    written = plain_json(Metric(name="m", value=1.0, repeats=(0.5, value)))
    assert json.loads(written)["repeats"] == [0.5, text]


def test_a_report_has_more_than_one_part() -> None:
    """No part holds two results."""
    parts = [part for part in plain_json_parts(sample_report()) if b'"answer"' in part]
    assert len(parts) == len(sample_report().results)
