"""A dossier is a pure function of run and mapping, and honest about runs that hold little."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from auditor.findings import Metric, Verdict
from auditor_reports.audit_json import run_fingerprint
from auditor_reports.dossier.build import build_dossier, review_age_days, review_is_old
from auditor_reports.dossier.evidence import digest_of
from auditor_reports.dossier.record import NOT_RECORDED
from auditor_reports.html_environment import DISCLAIMER
from tests.golden.sample_report import digest, sample_report
from tests.unit.reports.dossier_runs import FRAMEWORKS, mapping, one_result, run_of


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_every_row_has_a_cell_in_order(name: str) -> None:
    """No row of the mapping is dropped."""
    dossier = build_dossier(sample_report(), mapping(name))
    assert [cell.row for cell in dossier.cells()] == [row.id for row in mapping(name).rows()]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_empty_run_assesses_nothing(name: str) -> None:
    """A run without results fails nothing, passes nothing, and says so."""
    dossier = build_dossier(run_of([]), mapping(name))
    assert {cell.status for cell in dossier.cells()} <= {"not assessed", "partial"}
    assert all(not cell.results for cell in dossier.cells())
    with_checks = {row.id for row in mapping(name).rows() if row.codes}
    by_row = {cell.row: cell.status for cell in dossier.cells()}
    assert {by_row[row] for row in with_checks} == {"not assessed"}
    assert "nothing was audited" in dossier.warnings[0]


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_interrupted_run_is_no_evidence_for_what_did_not_run(name: str) -> None:
    """Checks that were skipped by the interruption leave their rows open."""
    skipped = tuple(
        one_result(result.code, Verdict.SKIPPED, name=f"r{number}")
        for number, result in enumerate(sample_report().results)
    )
    dossier = build_dossier(run_of(skipped, complete=False), mapping(name))
    assert {cell.status for cell in dossier.cells()} <= {"not assessed", "partial"}
    assert "not complete" in dossier.warnings[0]


def test_results_are_those_the_cells_rest_on() -> None:
    """Every id in a cell leads to a result with its digests."""
    dossier = build_dossier(sample_report(), mapping("eu-ai-act"))
    named = {id for cell in dossier.cells() for id in cell.results}
    assert {entry.id for entry in dossier.results} == named
    originals = {result.id: result for result in sample_report().results}
    for entry in dossier.results:
        assert entry.key == originals[entry.id].key
        assert entry.answer_digest == digest_of(originals[entry.id].answer)
    (broken,) = [entry for entry in dossier.results if entry.id.startswith("stays-zero")]
    assert broken.blobs == (digest("witness"),)


def test_the_head_names_run_and_review() -> None:
    """A dossier can be traced to the run's report and to the version of the mapping."""
    report, chosen = sample_report(), mapping("iso-42001")
    dossier = build_dossier(report, chosen)
    assert dossier.run.fingerprint == run_fingerprint(report)
    assert dossier.framework.last_reviewed == chosen.last_reviewed
    age = report.timing.finished.date() - chosen.last_reviewed
    assert dossier.framework.review_age_days == age.days
    assert (dossier.disclaimer, dossier.dated_and_signed_by) == (DISCLAIMER, "")


def test_the_mapping_digest_follows_the_mapping() -> None:
    """Two versions of a mapping are told apart."""
    chosen = mapping("iso-42001")
    changed = chosen.model_copy(update={"reviewer_role": "somebody else"})
    digests = {
        build_dossier(sample_report(), each).framework.mapping_digest for each in (chosen, changed)
    }
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("reviewed", "day", "old"),
    [
        (date(2026, 1, 31), date(2027, 1, 31), False),
        (date(2026, 1, 31), date(2027, 2, 1), True),
        (date(2026, 12, 1), date(2027, 12, 1), False),
        (date(2026, 12, 1), date(2027, 12, 2), True),
        (date(2028, 2, 29), date(2029, 2, 28), False),
        (date(2028, 2, 29), date(2029, 3, 1), True),
        (date(2027, 1, 1), date(2026, 1, 1), False),
    ],
)
def test_a_review_holds_twelve_months(reviewed: date, day: date, old: bool) -> None:
    """The day itself still counts; leap years make no difference."""
    chosen = mapping("iso-42001").model_copy(update={"last_reviewed": reviewed})
    assert review_is_old(chosen, day) is old
    assert review_age_days(chosen, day) == (day - reviewed) // timedelta(days=1)


def test_an_old_review_is_warned_of() -> None:
    """The age is that at the run, so that the same run gives the same bytes for ever."""
    finished = sample_report().timing.finished.date()
    old = mapping("iso-42001").model_copy(update={"last_reviewed": finished - timedelta(days=400)})
    assert any("12 months" in text for text in build_dossier(sample_report(), old).warnings)
    assert build_dossier(sample_report(), mapping("iso-42001")).warnings == ()


def test_formal_properties_quote_what_was_recorded() -> None:
    """Each field comes from the results; what is nowhere is not recorded."""
    proof = one_result(
        "AUD202", Verdict.HOLDS, name="ball", facts={"semantics": "real", "norm": "L-infinity"},
        metrics=(Metric(name="certified_share", value=0.9),),
    ).model_copy(update={"parameters": {"radius": 0.02, "clip": [0.0, 1.0], "count": 5},
                         "data_digests": {"inputs": digest("inputs")}})  # fmt: skip
    file = one_result("AUD101", Verdict.HOLDS, facts={"operators": "Gemm x2", "inputs": "x [1]"})
    dossier = build_dossier(run_of([file, proof]), mapping("iso-24029-2"))
    assert dossier.properties is not None
    (entry,) = dossier.properties
    assert (entry.code, entry.type, entry.verdict) == ("AUD202", "stability", Verdict.HOLDS)
    assert entry.domain == (
        "radius: 0.02; norm: L-infinity; clip: [0, 1]; count: 5; "
        f"digest of inputs: {digest('inputs')}"
    )
    assert entry.criterion == "0.9"
    assert (entry.architecture, entry.data_type) == ("Gemm x2", "x [1]")
    assert entry.arithmetic == "real"
    assert entry.complete == entry.deterministic == entry.stage == NOT_RECORDED
    card = next(card for card in sample_report().checks if card.code == "AUD202")
    assert entry.method == card.method


def test_facts_of_another_model_are_not_taken() -> None:
    """The architecture is that of the same subject."""
    file = one_result("AUD101", Verdict.HOLDS, facts={"operators": "Conv x9"}, subject="other")
    proof = one_result("AUD202", Verdict.HOLDS)
    dossier = build_dossier(run_of([file, proof]), mapping("iso-24029-2"))
    assert dossier.properties is not None
    assert dossier.properties[0].architecture == NOT_RECORDED


@pytest.mark.parametrize("name", ["eu-ai-act", "iso-42001", "nist-ai-rmf", "sr-26-2"])
def test_other_frameworks_list_no_properties(name: str) -> None:
    """The section belongs to the framework whose mapping reads properties."""
    assert build_dossier(sample_report(), mapping(name)).properties is None
