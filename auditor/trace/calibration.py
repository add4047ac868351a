"""Thresholds from labelled texts, kept as an artefact that says what they are worth.

A threshold is chosen on calibration texts only, by a bound on false alarms or on recall with
exact intervals; the artefact names score, index, policy and data by digest, and holds beside the
score's area under the ROC curve those of the baselines it has to beat. Groups (templates,
families, near-duplicates) are resampled whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, ValidationError
from scipy.stats import beta

from auditor.auroc import measure_auroc
from auditor.errors import ConfigurationError, FileMissing, NothingToAudit, RefusedInput
from auditor.files import write_atomically
from auditor.findings import Interval, Record
from auditor.intervals import group_weights, middle_95

Float64 = NDArray[np.float64]
DRAWS: Final = 2_000
BINS: Final = (0.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, float("inf"))
"""Ends of the length bins, tokens, inside which the stratified area compares."""
MAX_ARTEFACT_BYTES: Final = 4_000_000
Rule = Literal["false_alarms", "recall"]


class ScoreArea(Record):
    """A score's area under the ROC curve on the calibration texts."""

    score: str
    """Its name."""
    area: float
    """Share of pairs, one text of each label, in which the unsafe one scores higher."""
    interval: Interval
    """95 %, groups resampled."""
    minus_length: Interval | None = None
    """95 % of the area less that of span length alone, on the same draws."""


class OperatingPoint(Record):
    """What a threshold does to the calibration texts."""

    unsafe: int
    """Texts labelled unsafe."""
    flagged_unsafe: int
    """How many of them score above the threshold."""
    benign: int
    """Texts labelled benign."""
    flagged_benign: int
    """How many of them score above it."""
    recall: Interval
    """Two-sided 95 %, Clopper-Pearson."""
    false_alarms: Interval
    """The same."""


class Calibration(Record):
    """A threshold and where it is from."""

    format: Literal["auditor-trace-calibration"] = "auditor-trace-calibration"
    """What the file is."""
    version: Literal[1] = 1
    """Version of the format."""
    score: str
    """Name of the score that is held against the threshold."""
    threshold: FiniteFloat
    """A text is flagged when a span of it passes the gate and scores higher."""
    rule: Rule
    """What was bounded to choose it."""
    bound: float = Field(gt=0, lt=1)
    """By how much: the one-sided 95 % bound of that share keeps to it."""
    index: str
    """Digest of the corpus index."""
    policy: str = ""
    """Digest of the content policy, if one took part."""
    stance: str = ""
    """Name of the stance scorer."""
    smoother: str = "published"
    """How unseen tokens count in the surprisal."""
    least_tokens: int
    """Tokens of a span at least."""
    chance: float = Field(gt=0, allow_inf_nan=False)
    """Chance occurrences of a span at most."""
    frequent: int = 200
    """A span needs a token that is not among so many most frequent ones."""
    contexts: int = 5
    """Occurrences whose documents are held against the policy."""
    data: str
    """Digest of the labelled texts."""
    groups: int
    """Groups among them."""
    seed: int
    """Of the resampling."""
    point: OperatingPoint
    """What the threshold does to the calibration texts themselves."""
    areas: tuple[ScoreArea, ...]
    """The score and its baselines."""
    beats_length: bool
    """Whether the score's area is above that of length, the whole interval of it."""

    @property
    def verdict_on_length(self) -> str:
        """One sentence: whether the score says more than the length of spans does."""
        if self.score == "length":
            return "Span length is the baseline that another score has to beat."
        if self.beats_length:
            return f"{self.score} ranks these texts better than span length alone."
        return f"{self.score} adds nothing over span length on this data."


@dataclass(frozen=True)
class LabelledScores:
    """Scores of labelled texts.

    Attributes:
        scores: By name, [texts]; higher is more suspicious, -inf where there is no evidence.
        unsafe: [texts], bool.
        groups: Name of each text's group, [texts].
    """

    scores: Mapping[str, Float64]
    unsafe: NDArray[np.bool_]
    groups: Sequence[str]


def choose_threshold(scores: Float64, unsafe: NDArray[np.bool_], rule: Rule, bound: float) -> float:
    """The threshold that flags most within the bound on false alarms, or least above a recall.

    Args:
        scores: [texts]; flagged is what scores higher than the threshold.
        unsafe: [texts].
        rule: `false_alarms`: the smallest threshold at which the one-sided 95 % upper bound of the
            flagged share of benign texts is at most `bound`. `recall`: the largest at which
            the lower bound of the flagged share of unsafe texts is at least `bound`.
        bound: In (0, 1).

    Raises:
        NothingToAudit: There are no texts of a label, or none with evidence.
        ConfigurationError: The bound is not in (0, 1), or no threshold keeps it with so few texts.
    """
    if not 0 < bound < 1:
        raise ConfigurationError(f"a bound of {bound:g}; give a share between 0 and 1")
    ordinary, strange = scores[~unsafe], scores[unsafe]
    if not len(ordinary) or not len(strange):
        raise NothingToAudit("a threshold needs texts of both labels; give unsafe and benign ones")
    finite = np.unique(scores[np.isfinite(scores)])
    if not len(finite):
        raise NothingToAudit(
            "no labelled text has a span that counts as evidence in this index, so there is no "
            "score to choose a threshold of; give texts that the index holds parts of"
        )
    candidates = np.concatenate([[finite[0] - 1.0], finite])
    if rule == "false_alarms":
        for threshold in candidates:
            if upper_bound(int((ordinary > threshold).sum()), len(ordinary)) <= bound:
                return float(threshold)
        raise ConfigurationError(
            f"{len(ordinary)} benign texts cannot show false alarms of at most {bound:g}; give "
            f"at least {least_texts(bound)}"
        )
    for threshold in candidates[::-1]:
        if lower_bound(int((strange > threshold).sum()), len(strange)) >= bound:
            return float(threshold)
    raise ConfigurationError(
        f"no threshold has a recall of at least {bound:g} on {len(strange)} unsafe texts; give "
        "more, or ask for less"
    )


def upper_bound(hits: int, total: int) -> float:
    """The one-sided 95 % Clopper-Pearson upper bound of a share."""
    return 1.0 if hits == total else float(beta.ppf(0.95, hits + 1, total - hits))


def lower_bound(hits: int, total: int) -> float:
    """The one-sided 95 % Clopper-Pearson lower bound of a share."""
    return 0.0 if hits == 0 else float(beta.ppf(0.05, hits, total - hits + 1))


def exact_interval(hits: int, total: int) -> Interval:
    """The two-sided 95 % Clopper-Pearson interval of a share."""
    lower = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, total - hits + 1))
    upper = 1.0 if hits == total else float(beta.ppf(0.975, hits + 1, total - hits))
    return Interval(lower=lower, upper=upper, method="Clopper-Pearson")


def least_texts(bound: float) -> int:
    """Texts without a false alarm that show a share of at most `bound` (95 %, one-sided)."""
    return int(np.ceil(np.log(0.05) / np.log1p(-bound)))


def operating_point(scores: Float64, unsafe: NDArray[np.bool_], threshold: float) -> OperatingPoint:
    """What a threshold does to labelled texts."""
    flagged = scores > threshold
    hits, alarms = int(flagged[unsafe].sum()), int(flagged[~unsafe].sum())
    positives, negatives = int(unsafe.sum()), int((~unsafe).sum())
    return OperatingPoint(
        unsafe=positives, flagged_unsafe=hits, benign=negatives, flagged_benign=alarms,
        recall=exact_interval(hits, positives), false_alarms=exact_interval(alarms, negatives),
    )  # fmt: skip


def compare_areas(labelled: LabelledScores, seed: int = 0) -> tuple[ScoreArea, ...]:
    """Each score's area under the ROC curve, with intervals by resampling whole groups.

    Raises:
        NothingToAudit: There are no texts of a label.
    """
    names = list(labelled.scores)
    ranked = np.stack([_finite(labelled.scores[name]) for name in names])
    unsafe = labelled.unsafe
    areas = [measure_auroc(row[~unsafe], row[unsafe]).value for row in ranked]
    draws = _drawn_areas(ranked, unsafe, labelled.groups, seed)
    length = draws[:, names.index("length")] if "length" in names else None
    found = []
    for number, name in enumerate(names):
        difference = None
        if length is not None and name != "length":
            difference = middle_95(draws[:, number] - length)
        found.append(ScoreArea(
            score=name, area=areas[number], interval=middle_95(draws[:, number]),
            minus_length=difference,
        ))  # fmt: skip
    return tuple(found)


def stratified_area(scores: Float64, lengths: Float64, unsafe: NDArray[np.bool_]) -> float:
    """The area over pairs of texts whose spans are of one length bin; NaN without such pairs."""
    bins = np.digitize(lengths, BINS)
    hits = pairs = 0.0
    for each in np.unique(bins):
        ordinary = _finite(scores)[(bins == each) & ~unsafe]
        strange = _finite(scores)[(bins == each) & unsafe]
        if len(ordinary) and len(strange):
            here = len(ordinary) * len(strange)
            hits += measure_auroc(ordinary, strange).value * here
            pairs += here
    return hits / pairs if pairs else float("nan")


def _finite(scores: Float64) -> Float64:
    """The same order with finite numbers."""
    found: Float64 = np.nan_to_num(scores, neginf=-1e300, posinf=1e300)
    return found


def _drawn_areas(
    ranked: Float64, unsafe: NDArray[np.bool_], groups: Sequence[str], seed: int
) -> Float64:
    """Areas of resampled groups, [draws, scores]; draws without both labels are left out."""
    weights = group_weights(groups, DRAWS, seed)
    strange, ordinary = weights * unsafe, weights * ~unsafe
    both = strange.any(axis=1) & ordinary.any(axis=1)
    if not both.any():
        raise NothingToAudit("no resample holds both labels; give more groups of texts")
    return np.stack([_weighted_areas(row, ordinary[both], strange[both]) for row in ranked], axis=1)


def _weighted_areas(scores: Float64, ordinary: Float64, strange: Float64) -> Float64:
    """The area for each row of weights, [draws]; scores [texts], weights [draws, texts]."""
    order = np.argsort(scores, kind="stable")
    sorted_scores = scores[order]
    begins = np.flatnonzero(np.concatenate([[True], sorted_scores[1:] != sorted_scores[:-1]]))
    low = np.add.reduceat(ordinary[:, order], begins, axis=1)
    high = np.add.reduceat(strange[:, order], begins, axis=1)
    below = np.cumsum(low, axis=1) - low
    won: Float64 = (high * (below + low / 2)).sum(axis=1)
    shares: Float64 = won / (low.sum(axis=1) * high.sum(axis=1))
    return shares


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write an artefact.

    Raises:
        OutputNotWritable, OperationFailed: The file cannot be written.
    """
    text = json.dumps(calibration.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
    write_atomically(path, text.encode())


def read_calibration(path: Path) -> Calibration:
    """Read an artefact.

    Raises:
        FileMissing: There is none.
        RefusedInput: It is damaged, or something else.
    """
    if not path.is_file():
        raise FileMissing(path, "calibration")
    if path.stat().st_size > MAX_ARTEFACT_BYTES:
        raise RefusedInput(f"{path} has more than {MAX_ARTEFACT_BYTES} bytes; calibrate again")
    try:
        return Calibration.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "file"
        raise RefusedInput(f"{path}: {place}: {first['msg']}; calibrate again") from None


def data_digest(texts: Sequence[bytes], unsafe: NDArray[np.bool_], groups: Sequence[str]) -> str:
    """SHA-256 of labelled texts."""
    found = hashlib.sha256()
    for text, label, group in zip(texts, unsafe.tolist(), groups, strict=True):
        found.update(f"{len(text)} {label:d} {len(group)}\n".encode() + text + group.encode())
    return f"sha256:{found.hexdigest()}"
