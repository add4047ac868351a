"""Addresses in a run's folder, the worst results first, and files that stay within a size."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.audit.ledger import EvidenceFolder
from auditor_reports.audit_places import (
    blob_address,
    evidence_of,
    render_within,
    select_worst,
    sha256_of,
)
from auditor_reports.standing import Standings
from tests.golden.sample_report import digest, sample_report


def test_the_worst_come_first_with_their_numbers() -> None:
    """The number is that of the result in the report, whatever the order here."""
    report = sample_report()
    found = select_worst(report, Standings(report), 3)
    assert [report.results[number] for number, _ in found.results] == [
        result for _, result in found.results
    ]
    assert found.results[0].result.id == "stays-zero:digit-classifier"
    assert found.left_out == len(report.results) - 3
    assert str(found.left_out) in found.note()


def test_nothing_left_out_says_nothing() -> None:
    """A note only where something is missing."""
    report = sample_report()
    assert select_worst(report, Standings(report), len(report.results)).note() == ""


def test_evidence_of_findings_is_addressed_below_them() -> None:
    """The witness belongs to the finding, and so does its address."""
    report = sample_report()
    (witness,) = [each for each in select_worst(report, Standings(report), 99).results
                  if each.result.id == "stays-zero:digit-classifier"]  # fmt: skip
    first = next(evidence_of(witness))
    assert first.address == "audit.json#/results/3/answer/findings/0/evidence/0"
    assert first.kind == "witness"


def test_a_blob_is_where_the_run_stores_it(tmp_path: Path) -> None:
    """The address is the path below the run's folder."""
    folder = EvidenceFolder(tmp_path / "evidence")
    blob = folder.put(b"content", "text/plain")
    address = blob_address(blob)
    assert address is not None
    assert (tmp_path / address).read_bytes() == b"content"


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:ab", "sha256:../../x", "md5:00", "g" * 64])
def test_other_digests_have_no_hexadecimal(text: str) -> None:
    """Nothing that is no SHA-256 gets into a path or a hash field."""
    assert sha256_of(text) is None


def test_a_digest_has_its_hexadecimal() -> None:
    """The part behind the colon."""
    assert f"sha256:{sha256_of(digest('x'))}" == digest("x")


def test_the_limit_shrinks_until_the_file_fits() -> None:
    """At least by half, and further where that would not do."""
    tried: list[int] = []

    def render(most: int) -> bytes:
        tried.append(most)
        return b"x" * (10 * most)

    assert render_within(render, 64, most_bytes=400) == b"x" * 320
    assert render_within(render, 64, most_bytes=100) == b"x" * 100
    assert tried == [64, 32, 64, 10]


def test_one_result_is_written_whatever_its_size() -> None:
    """A file that says what was left out is better than none."""
    assert render_within(lambda most: b"x" * 1_000, 8, most_bytes=10) == b"x" * 1_000
