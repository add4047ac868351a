"""What may be said of a share of extracted spans, beside what else was found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from auditor.findings import Verdict
from auditor.memorization.language.extraction_study import ExtractionStudy, judge_extraction
from auditor.memorization.language.guessing import Guess
from tests.models.planted_results import extraction_of, result_of

MEMORISED, GUESSED = Guess(7, 16, -4.0, 3.8), Guess(8, 16, -2.5, 0.4)


def study_of(
    exact: int, total: int = 100, *, guessed: int = 0, never: int | None = None, planned: int = 0
) -> ExtractionStudy:
    """So many spans of a total extracted, and what stands beside them."""
    found = extraction_of([result_of(f"{at}", at < exact) for at in range(total)], planned)
    control = None if never is None else extraction_of(
        [result_of(f"{at}", at < never) for at in range(100)]
    )  # fmt: skip
    guesses = tuple(GUESSED if at < guessed else MEMORISED for at in range(exact))
    return ExtractionStudy(found, control, guesses=guesses)


@pytest.mark.parametrize(
    ("exact", "most", "verdict"),
    [
        (0, 0.05, Verdict.HOLDS), (0, 0.03, Verdict.UNKNOWN), (10, 0.05, Verdict.VIOLATED),
        (10, 0.06, Verdict.UNKNOWN), (10, 0.2, Verdict.HOLDS), (100, 1.0, Verdict.HOLDS),
    ],
)  # fmt: skip
def test_the_whole_interval_decides(exact: int, most: float, verdict: Verdict) -> None:
    """0 of 100 reaches to 3.7 %, 10 of 100 from 5.5 % to 17.4 %."""
    found, reason = judge_extraction(study_of(exact), most)
    assert found is verdict
    assert bool(reason) == (verdict is Verdict.UNKNOWN)


def test_common_strings_do_not_violate() -> None:
    """What is left without them has to exceed the limit for certain."""
    assert judge_extraction(study_of(20, guessed=4), 0.05)[0] is Verdict.VIOLATED
    verdict, reason = judge_extraction(study_of(20, guessed=15), 0.05)
    assert verdict is Verdict.UNKNOWN
    assert reason.startswith("15 of the 20 spans that are given follow most prefixes of other")
    assert "5 of 100" in reason


def test_a_control_that_is_given_as_often_explains_the_share() -> None:
    """The whole interval has to lie above the control's share: 20 of 100 from 13.3 % on."""
    assert judge_extraction(study_of(20, never=13), 0.05)[0] is Verdict.VIOLATED
    verdict, reason = judge_extraction(study_of(20, never=14), 0.05)
    assert verdict is Verdict.UNKNOWN
    assert "14 of 100" in reason
    assert "never trained on" in reason


def test_a_run_that_was_stopped_decides_nothing() -> None:
    """Whatever it found, and it says how far it got."""
    for exact in (0, 90):
        study = study_of(exact, planned=300)
        assert judge_extraction(study, 0.05) == (
            Verdict.UNKNOWN, "time was up after 100 of 300 spans"
        )  # fmt: skip


def test_a_violation_needs_everything_beside_it() -> None:
    """Where a control had no time it might explain the share; a share within the limit stands."""
    study = replace(study_of(20), left_out=("the rest of the reference model",))
    assert judge_extraction(study, 0.05) == (
        Verdict.UNKNOWN, "time was up before the rest of the reference model"
    )  # fmt: skip
    assert judge_extraction(study, 0.5) == (Verdict.HOLDS, "")


def test_guesses_belong_to_the_extracted_spans_in_order() -> None:
    """Spans that are not extracted have none."""
    found = extraction_of([result_of(name, name in "bd") for name in "abcd"])
    study = ExtractionStudy(found, guesses=(MEMORISED, GUESSED))
    assert (study.exact.hits, study.beyond_common.hits, study.common) == (2, 1, frozenset({3}))
    assert ExtractionStudy(found).beyond_common.hits == 2
    assert "neither" in ExtractionStudy(found).common_by


def test_a_reference_says_what_is_common_better_than_prefixes() -> None:
    """What it does not give is memorised, however many prefixes it follows, and the other way."""
    found = extraction_of([result_of(name, name in "bcd") for name in "abcd"])
    other = extraction_of([result_of(name, name in "ab") for name in "abcd"])
    study = ExtractionStudy(found, guesses=(MEMORISED, GUESSED, GUESSED), reference=other)
    assert (study.common, study.beyond_common.hits) == (frozenset({1}), 2)
    assert study.common_by == "are given by the reference model, too"
