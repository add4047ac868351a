"""Thresholds keep their bounds, intervals are exact, artefacts are whole or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from auditor.auroc import measure_auroc
from auditor.errors import ConfigurationError, FileMissing, NothingToAudit, RefusedInput
from auditor.findings import Interval
from auditor.trace import calibration as module
from auditor.trace.calibration import (
    Calibration,
    LabelledScores,
    OperatingPoint,
    ScoreArea,
    choose_threshold,
    compare_areas,
    data_digest,
    exact_interval,
    least_texts,
    lower_bound,
    operating_point,
    read_calibration,
    stratified_area,
    upper_bound,
    write_calibration,
)

Float64 = NDArray[np.float64]
SCORES = st.sampled_from([float("-inf"), -2.5, 0.0, 0.25, 1.0, 7.0])


@pytest.mark.parametrize(("texts", "share"), [(299, 0.01), (149, 0.02), (59, 0.05)])
def test_so_many_texts_without_alarm_show_a_share(texts: int, share: float) -> None:
    """And one fewer does not: the known numbers of one-sided 95 % bounds."""
    assert upper_bound(0, texts) <= share < upper_bound(0, texts - 1)
    assert least_texts(share) == texts


@pytest.mark.parametrize(
    ("hits", "total", "lower", "upper"),
    [(0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0), (1, 20, 0.0013, 0.2487)],
)
def test_exact_intervals_are_the_published_ones(
    hits: int, total: int, lower: float, upper: float
) -> None:
    """Clopper and Pearson's, as tabulated (two-sided 95 %)."""
    found = exact_interval(hits, total)
    assert [found.lower, found.upper] == pytest.approx([lower, upper], abs=5e-5)


@given(st.integers(1, 60), st.data())
@settings(deadline=None)
def test_bounds_are_where_the_binomial_tail_is_a_twentieth(total: int, data: st.DataObject) -> None:
    """Their definition: at the bound so few (or many) hits have a chance of 5 %."""
    hits = data.draw(st.integers(0, total))
    if hits < total:
        assert binom.cdf(hits, total, upper_bound(hits, total)) == pytest.approx(0.05)
    if hits:
        assert binom.sf(hits - 1, total, lower_bound(hits, total)) == pytest.approx(0.05)


def brute_force(scores: Float64, unsafe: NDArray[np.bool_], rule: str, bound: float) -> set[int]:
    """Numbers of flagged texts that the rule allows at best; thresholds tried: all that differ."""
    kept = []
    for threshold in [-1e6, *scores[np.isfinite(scores)]]:
        flagged = scores > threshold
        alarms, hits = int(flagged[~unsafe].sum()), int(flagged[unsafe].sum())
        if rule == "false_alarms" and upper_bound(alarms, int((~unsafe).sum())) <= bound:
            kept.append(int(flagged.sum()))
        if rule == "recall" and lower_bound(hits, int(unsafe.sum())) >= bound:
            kept.append(int(flagged.sum()))
    return {max(kept) if rule == "false_alarms" else min(kept)} if kept else set()


@given(
    st.lists(SCORES, min_size=1, max_size=40), st.lists(SCORES, min_size=1, max_size=40),
    st.sampled_from(["false_alarms", "recall"]), st.floats(0.05, 0.9),
)  # fmt: skip
@settings(deadline=None, max_examples=150)
def test_thresholds_are_those_of_a_search_over_all(
    benign: list[float], strange: list[float], rule: module.Rule, bound: float
) -> None:
    """The most flagged within the bound on false alarms; the fewest with the recall."""
    scores = np.array([*benign, *strange])
    unsafe = np.array([False] * len(benign) + [True] * len(strange))
    if not np.isfinite(scores).any():
        return
    best = brute_force(scores, unsafe, rule, bound)
    if not best:
        with pytest.raises(ConfigurationError, match=r"false alarms of at most|a recall of at"):
            choose_threshold(scores, unsafe, rule, bound)
        return
    threshold = choose_threshold(scores, unsafe, rule, bound)
    assert {int((scores > threshold).sum())} == best


def test_too_few_benign_texts_are_named_with_the_number_needed() -> None:
    """58 cannot show 5 %, however well they do."""
    scores, unsafe = np.array([0.0] * 58 + [1.0]), np.array([False] * 58 + [True])
    with pytest.raises(ConfigurationError, match=r"58 benign texts .* 0\.05; give at least 59"):
        choose_threshold(scores, unsafe, "false_alarms", 0.05)


@pytest.mark.parametrize("bound", [0.0, 1.0, -0.1, float("nan")])
def test_a_bound_that_is_no_share_is_refused(bound: float) -> None:
    """Before anything is divided by it."""
    with pytest.raises(ConfigurationError, match=r"give a share between 0 and 1"):
        choose_threshold(np.array([0.0, 1.0]), np.array([False, True]), "recall", bound)


@pytest.mark.parametrize("label", [True, False])
def test_a_threshold_needs_both_labels(label: bool) -> None:
    """One kind of text shows nothing."""
    with pytest.raises(NothingToAudit, match="texts of both labels"):
        choose_threshold(np.ones(3), np.full(3, label), "recall", 0.5)


def test_a_threshold_needs_a_text_with_evidence() -> None:
    """Of scores that are all absent no number can be chosen."""
    scores = np.full(100, -np.inf)
    with pytest.raises(NothingToAudit, match="no labelled text has a span that counts"):
        choose_threshold(scores, np.arange(100) < 10, "false_alarms", 0.05)


def test_the_operating_point_counts_what_is_above() -> None:
    """A score equal to the threshold is not above it."""
    scores = np.array([0.0, 0.5, 0.6, 0.5, 0.9, -np.inf])
    point = operating_point(scores, np.array([False] * 3 + [True] * 3), 0.5)
    assert (point.benign, point.flagged_benign, point.unsafe, point.flagged_unsafe) == (3, 1, 3, 1)
    assert (point.false_alarms, point.recall) == (exact_interval(1, 3), exact_interval(1, 3))


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the draws: enough for what is compared here."""
    monkeypatch.setattr(module, "DRAWS", 200)


def labelled(groups: list[str]) -> LabelledScores:
    """Forty texts whose score tells the labels apart but for noise within pairs."""
    source = np.random.default_rng(3)
    unsafe = np.arange(40) % 2 == 0
    signal = np.repeat(source.normal(size=20), 2) + 0.8 * unsafe
    return LabelledScores(
        {"length": source.normal(size=40), "score": signal}, unsafe, groups
    )  # fmt: skip


def test_whole_groups_are_resampled() -> None:
    """Texts that are copies of each other do not make an interval narrower."""
    one = labelled([f"g{n}" for n in range(40)])
    copied = LabelledScores(
        {name: np.tile(row, 4) for name, row in one.scores.items()}, np.tile(one.unsafe, 4),
        list(one.groups) * 4,
    )  # fmt: skip
    loose = LabelledScores(copied.scores, copied.unsafe, [f"g{n}" for n in range(160)])
    single, grouped, alone = (compare_areas(each)[1] for each in (one, copied, loose))
    assert single.area == pytest.approx(grouped.area)
    assert grouped.interval.lower == pytest.approx(single.interval.lower)
    assert grouped.interval.upper == pytest.approx(single.interval.upper)
    width = grouped.interval.upper - grouped.interval.lower
    assert alone.interval.upper - alone.interval.lower < 0.7 * width


def test_a_group_is_never_torn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw holds all texts of a group or none, as often as the group was drawn."""
    monkeypatch.setattr(module, "DRAWS", 50)
    seen: list[Float64] = []
    measure = measure_auroc

    def watched(ordinary: Float64, strange: Float64) -> object:
        seen.append(np.concatenate([ordinary, strange]))
        return measure(ordinary, strange)

    monkeypatch.setattr(module, "measure_auroc", watched)
    scores = np.arange(12.0)  # group n holds scores 3n, 3n + 1 and 3n + 2
    compare_areas(
        LabelledScores({"s": scores}, np.arange(12) % 3 == 0, [f"{n // 3}" for n in range(12)])
    )
    for drawn in seen[1:]:
        counts = np.bincount(drawn.astype(int), minlength=12).reshape(4, 3)
        assert (counts == counts[:, :1]).all()


def test_areas_of_a_seed_are_the_same() -> None:
    """And of another seed other ones."""
    one = labelled([f"g{n // 2}" for n in range(40)])
    assert compare_areas(one, 5) == compare_areas(one, 5)
    assert compare_areas(one, 5) != compare_areas(one, 6)


def test_the_difference_to_length_is_on_the_same_draws() -> None:
    """A score that is the length differs from it by nothing at all."""
    one = labelled([f"g{n}" for n in range(40)])
    same = LabelledScores(
        {"length": one.scores["length"], "score": one.scores["length"] * 2}, one.unsafe, one.groups
    )
    difference = compare_areas(same)[1].minus_length
    assert difference is not None
    assert (difference.lower, difference.upper) == (0.0, 0.0)


def test_texts_without_evidence_rank_lowest() -> None:
    """Minus infinity ties with itself and is below all else."""
    scores = np.array([-np.inf, -np.inf, -np.inf, 0.0])
    areas = compare_areas(
        LabelledScores({"s": scores}, np.array([False, False, True, True]), list("abcd"))
    )
    assert areas[0].area == 0.75


def test_no_draw_with_both_labels_is_refused() -> None:
    """One group alone gives no interval."""
    with pytest.raises(NothingToAudit, match=r"AUROC of an empty sample|no resample holds both"):
        compare_areas(LabelledScores({"s": np.ones(3)}, np.array([True] * 3), list("aaa")))


def test_lengths_alone_do_not_count_within_their_bins() -> None:
    """A score that is nothing but length: area 1 over all pairs, a half within bins."""
    lengths = np.array([9.0] * 10 + [50.0] * 10 + [9.0, 50.0])
    unsafe = np.array([False] * 10 + [True] * 10 + [True, False])
    assert stratified_area(lengths, lengths, unsafe) == 0.5
    assert np.isnan(stratified_area(np.array([1.0, 2.0]), np.array([9.0, 50.0]),
                                    np.array([False, True])))  # fmt: skip


INTERVAL = Interval(lower=0.1, upper=0.9, method="by hand")
ARTEFACT = Calibration(
    score="pcs", threshold=0.3, rule="false_alarms", bound=0.05, index="sha256:1",
    policy="sha256:2", stance="table", least_tokens=8, chance=1e-3, data="sha256:3", groups=4,
    seed=5,
    point=OperatingPoint(unsafe=3, flagged_unsafe=2, benign=60, flagged_benign=0,
                         recall=INTERVAL, false_alarms=INTERVAL),
    areas=(ScoreArea(score="pcs", area=0.8, interval=INTERVAL, minus_length=INTERVAL),),
    beats_length=True,
)  # fmt: skip


def test_an_artefact_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Every field of it."""
    write_calibration(tmp_path / "c.json", ARTEFACT)
    assert read_calibration(tmp_path / "c.json") == ARTEFACT


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": "NaN"}, {"threshold": "Infinity"}, {"threshold": None}, {"version": 2},
        {"format": "other"}, {"rule": "taste"}, {"bound": 0}, {"bound": 1.0}, {"chance": 0},
        {"chance": "NaN"}, {"more": 1}, {"point": {}},
    ],
)  # fmt: skip
def test_a_damaged_artefact_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    """On one line with the field; a threshold that is no number would let everything through."""
    write_calibration(tmp_path / "c.json", ARTEFACT)
    plain = json.loads((tmp_path / "c.json").read_bytes()) | changes
    (tmp_path / "c.json").write_text(json.dumps(plain))
    with pytest.raises(RefusedInput) as caught:
        read_calibration(tmp_path / "c.json")
    assert next(iter(changes)) in str(caught.value)
    assert str(caught.value).endswith("; calibrate again")
    assert "\n" not in str(caught.value)


@given(st.integers(0, 10_000), st.integers(0, 255))
@settings(deadline=None, max_examples=60)
def test_any_changed_byte_is_refused_or_still_a_calibration(place: int, byte: int) -> None:
    """Never another error, whatever stands there."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.json"
        write_calibration(path, ARTEFACT)
        content = bytearray(path.read_bytes())
        content[place % len(content)] = byte
        path.write_bytes(content)
        try:
            found = read_calibration(path)
        except RefusedInput:
            return
        assert np.isfinite(found.threshold)


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_a_torn_artefact_is_refused(tmp_path: Path, cut: int) -> None:
    """However little of it is left."""
    write_calibration(tmp_path / "c.json", ARTEFACT)
    content = (tmp_path / "c.json").read_bytes()
    (tmp_path / "c.json").write_bytes(content[:cut])
    with pytest.raises(RefusedInput, match="calibrate again"):
        read_calibration(tmp_path / "c.json")


def test_a_missing_artefact_is_named(tmp_path: Path) -> None:
    """As every missing file."""
    with pytest.raises(FileMissing, match="calibration not found"):
        read_calibration(tmp_path / "none.json")


def test_a_huge_artefact_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its size."""
    monkeypatch.setattr(module, "MAX_ARTEFACT_BYTES", 10)
    write_calibration(tmp_path / "c.json", ARTEFACT)
    with pytest.raises(RefusedInput, match="more than 10 bytes"):
        read_calibration(tmp_path / "c.json")


def test_a_score_no_better_than_length_is_said_to_be() -> None:
    """In words that a report can print."""
    assert ARTEFACT.verdict_on_length.startswith("pcs ranks these texts better")
    plain = ARTEFACT.model_copy(update={"beats_length": False})
    assert plain.verdict_on_length == "pcs adds nothing over span length on this data."


def test_data_of_other_labels_groups_or_borders_have_other_digests() -> None:
    """Also where the bytes one behind another are the same."""
    both, groups = np.array([True, False]), ["g", "h"]
    found = {
        data_digest([b"ab", b"c"], both, groups), data_digest([b"a", b"bc"], both, groups),
        data_digest([b"ab", b"c"], ~both, groups), data_digest([b"ab", b"c"], both, ["g", "g"]),
    }  # fmt: skip
    assert len(found) == 4
