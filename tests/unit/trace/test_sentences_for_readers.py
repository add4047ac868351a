"""Sentences that the trace part writes for people: whole ones, and true of every score."""

from __future__ import annotations

import pytest

from auditor.findings import Interval
from auditor.trace.calibration import Calibration, OperatingPoint
from auditor.trace.evidence import traced_text_evidence
from auditor.trace.shield import Decision, Ruling
from auditor.trace.traced_text import TracedText

SHARE = Interval(lower=0.0, upper=1.0, method="Clopper-Pearson")
POINT = OperatingPoint(
    unsafe=1, flagged_unsafe=1, benign=1, flagged_benign=0, recall=SHARE, false_alarms=SHARE
)


def calibration(score: str, *, beats_length: bool) -> Calibration:
    return Calibration(
        score=score, threshold=1.0, rule="false_alarms", bound=0.05, index="sha256:0",
        least_tokens=8, chance=1e-3, data="sha256:1", groups=2, seed=0, point=POINT, areas=(),
        beats_length=beats_length,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("score", "beats", "sentence"),
    [
        ("bci", False, "bci adds nothing over span length on this data."),
        ("pcs", True, "pcs ranks these texts better than span length alone."),
        ("length", False, "Span length is the baseline that another score has to beat."),
    ],
)
def test_a_calibration_says_what_its_score_is_worth(score: str, beats: bool, sentence: str) -> None:
    """Length is not compared with itself."""
    assert calibration(score, beats_length=beats).verdict_on_length == sentence


def test_the_note_of_a_traced_text_is_a_sentence() -> None:
    """Reports put another sentence behind it."""
    decision = Decision(Ruling.NO_EVIDENCE, TracedText(b"plain", ()), ())
    evidence = traced_text_evidence("A completion", "Say something.", decision)
    assert evidence.note == "no span of the text qualifies as evidence in this index."
