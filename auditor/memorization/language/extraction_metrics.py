"""Extraction as metrics and controls: shares, slopes, means, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from auditor.findings import Control, Metric
from auditor.intervals import middle_95, share_metric
from auditor.memorization.language.exposure import Exposure
from auditor.memorization.language.extraction_curves import (
    RatePoint,
    is_exact,
    is_near,
    rate_of,
    rates_by_prefix,
    slope_of_copies,
    slope_of_prefix,
)
from auditor.memorization.language.extraction_record import Extraction, SpanResult
from auditor.memorization.language.extraction_study import ExtractionStudy
from auditor.memorization.language.guessing import Guess

RESAMPLES = 1_000


def extraction_metrics(study: ExtractionStudy, near: float, draws: int) -> tuple[Metric, ...]:
    """Shares at each prefix length, slopes, and means over spans at the longest prefix.

    Args:
        study: What was found out.
        near: Similarity from which a completion is near.
        draws: Draws whose chance of giving the continuation is stated.
    """
    found = study.found
    longest = found.longest
    metrics = [_share("extracted_share", study.exact)]
    if study.guesses or study.reference is not None:
        metrics.append(_share("extracted_beyond_common_share", study.beyond_common))
    if any(each.compared is not None for each in longest):
        metrics += [
            _share("near_share", rate_of(longest, is_near(near))),
            _share("same_text_share", rate_of(longest, _same_text)),
        ]
    metrics += [
        _share(f"extracted_share_prefix_{point.x}", point)
        for point in rates_by_prefix(found, is_exact)
    ]
    return (*metrics, *_slopes(found), *_means(longest, draws), *_exposed(study.exposures))


def extraction_controls(study: ExtractionStudy) -> tuple[Control, ...]:
    """What the same measurement says where nothing should be memorised."""
    found: list[Control] = []
    if study.never_exact is not None:
        found.append(Control(
            name="texts that were never trained on",
            question="How many of them does the model give exactly?",
            metrics=(_share("extracted_share", study.never_exact),),
        ))  # fmt: skip
    if study.once:
        found.append(_guessed(study.once, study.guesses))
    if study.reference is not None:
        found.append(_counterfactual(study.found, study.reference))
    return tuple(found)


def _same_text(result: SpanResult) -> bool:
    """Whether the text is given, in whatever tokens."""
    return result.exact or (result.compared is not None and result.compared.same_text)


def _share(name: str, point: RatePoint) -> Metric:
    return Metric(
        name=name, value=point.share, unit="share", sample_size=point.total,
        interval=point.interval, better="lower",
    )  # fmt: skip


def _slopes(found: Extraction) -> list[Metric]:
    named = {
        "slope_per_doubling_of_copies": slope_of_copies(found.longest, is_exact),
        "slope_per_doubling_of_prefix": slope_of_prefix(found, is_exact),
    }
    return [
        Metric(name=name, value=slope.value, unit="share per doubling", sample_size=slope.spans,
               interval=slope.interval)
        for name, slope in named.items() if slope is not None
    ]  # fmt: skip


def _means(longest: Sequence[SpanResult], draws: int) -> list[Metric]:
    found = [
        _mean("tokens_until_divergence", "tokens", [each.reading.agreed for each in longest]),
        _mean("longest_guessed_run", "tokens", [each.longest_guess for each in longest]),
        _mean(f"chance_in_{draws}_draws", "probability",
              [each.chance_in(draws) for each in longest]),
    ]  # fmt: skip
    if sampled := [each.drawn for each in longest if each.drawn is not None]:
        found += [
            _mean("drawn_share", "share of draws", [each.hits / each.total for each in sampled]),
            share_metric("drawn_at_least_once_share", sum(each.hits > 0 for each in sampled),
                         len(sampled), "lower"),
        ]  # fmt: skip
    return found


def _mean(name: str, unit: str, values: Sequence[float]) -> Metric:
    """A mean over spans, lower is better, with a bootstrap interval."""
    known = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(0).integers(len(known), size=(RESAMPLES, len(known)))
    return Metric(
        name=name, value=float(known.mean()), unit=unit, sample_size=len(known), better="lower",
        interval=middle_95(known[drawn].mean(1), "bootstrap"),
    )  # fmt: skip


def _exposed(found: Sequence[Exposure]) -> list[Metric]:
    if not found:
        return []
    most = found[0].candidates
    note = f"of at most {math.log2(most):.1f} among {most}; 1.4 where nothing is known"
    metric = _mean("mean_exposure", "bits", [each.bits for each in found])
    return [metric.model_copy(update={"note": note})]


def _guessed(once: Sequence[Guess], own: Sequence[Guess]) -> Control:
    """How often continuations follow unrelated prefixes, and what that says of extracted ones."""
    metrics = [
        share_metric("guessed_share", sum(each.guessed for each in once), len(once), "lower")
    ]
    if own:
        metrics += [
            share_metric("guessed_share_of_extracted", sum(each.guessed for each in own), len(own),
                         "lower"),
            _mean("prior_gap_of_extracted", "nats", [each.gap for each in own]),
        ]  # fmt: skip
    return Control(
        name="prefixes of other documents",
        question="How often does the same continuation follow them exactly?",
        metrics=tuple(metrics),
    )


def _counterfactual(subject: Extraction, reference: Extraction) -> Control:
    """Spans that a model which did not see them gives, too, and what is left without these.

    Where the reference was stopped early, the spans that both were asked for are compared.
    """
    pairs = list(zip(subject.longest, reference.longest, strict=False))
    total = len(pairs)
    gaps = [float(other.reading.nats.mean() - one.reading.nats.mean()) for one, other in pairs]
    return Control(
        name="reference model",
        question="How many of the same spans does a model give that did not see them?",
        metrics=(
            share_metric("reference_extracted_share", sum(other.exact for _, other in pairs), total,
                         "lower"),
            share_metric("extracted_by_subject_alone_share",
                         sum(one.exact and not other.exact for one, other in pairs), total,
                         "lower"),
            _mean("gap_to_reference", "nats per token", gaps),
        ),
    )  # fmt: skip
