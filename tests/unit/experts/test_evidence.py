"""Rankings as records."""

from __future__ import annotations

import math

import numpy as np

from auditor.experts.divergence import measure_divergences
from auditor.experts.evidence import divergence_table, map_evidence, ranking_table
from auditor.experts.ranking import Score, rank_experts
from auditor.experts.routing_maps import Expert
from auditor.findings import ExpertMapEvidence
from tests.unit.experts.planted_maps import EXPERTS, LAYERS, noise_maps

PLANTED = Expert(3, 5)


def test_a_table_keeps_its_places_and_four_digits() -> None:
    """What was not measured is nothing, and each marked expert is named once."""
    values = np.array([[1.23456, math.nan], [-0.000012345, 0.0]])
    found = map_evidence("t", values, (2, 7), marked=[Expert(7, 1), Expert(7, 1)], unit="u")
    assert found == ExpertMapEvidence(
        title="t", layers=(2, 7), experts=2, values=((1.235, None), (-1.234e-05, 0.0)),
        marked=((7, 1),), unit="u",
    )  # fmt: skip


def test_a_ranking_is_a_table_of_its_first_experts() -> None:
    maps, pairs, _ = noise_maps(20, 0, planted={PLANTED: 0.7})
    ranking = rank_experts(maps, pairs=pairs, score=Score.MOTE, top=3, shuffles=50)
    table = ranking_table("Routing", ranking)
    assert table.rows[0][:3] == (3, 5, ranking.scores[1, 5])
    assert (len(table.rows), table.total_rows) == (3, len(LAYERS) * EXPERTS)


def test_divergences_stand_in_a_table_with_their_intervals() -> None:
    """One topic leaves a gap, not a zero."""
    maps, pairs, topics = noise_maps(6, 0)
    found = measure_divergences(maps, pairs, topics, top=2)
    within, overlap = found.within_pair, found.top_overlap
    assert divergence_table(found).rows == (
        ("within pairs, bits", within.value, within.interval.lower, within.interval.upper),
        ("between topics, bits", None, None, None),
        ("top 2 experts shared within pairs", overlap.value, overlap.interval.lower,
         overlap.interval.upper),
    )  # fmt: skip
