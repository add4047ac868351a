"""Calibration of a score on labelled texts, with the baselines it has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import InvalidText, NothingToAudit, UnknownName
from auditor.json_lines import JsonLine, read_json_lines
from auditor.trace.calibration import (
    Calibration,
    LabelledScores,
    Rule,
    choose_threshold,
    compare_areas,
    data_digest,
    operating_point,
)
from auditor.trace.shield import text_suspicion
from auditor.trace.surprisal import SurprisalScorer
from auditor.trace.tokens import tokens_of
from auditor.trace.traced_text import TracedText, Tracer

Float64 = NDArray[np.float64]
Perplexity = Callable[[Sequence[str]], Sequence[float]]
"""How surprised a model is by texts, mean nats of a token."""

INDEX_SCORES: Final = (
    "length", "any_match", "unsafe_source", "bci", "density", "kl", "max_token_risk", "log10_e",
)  # fmt: skip
POLICY_SCORES: Final = ("pc_gen", "pc_doc", "pcs")


@dataclass(frozen=True)
class LabelledText:
    """A text and whether it is unsafe; texts of one group (template, family) hang together."""

    text: str
    unsafe: bool
    group: str


def read_labelled_texts(path: Path) -> list[LabelledText]:
    """Read JSON lines with `text`, `label` (unsafe or benign) and, if need be, `group`.

    Raises:
        FileMissing: There is no such file.
        InvalidText: A line is something else.
    """
    return [_labelled(line) for line in read_json_lines(path, "labelled texts")]


def _labelled(line: JsonLine) -> LabelledText:
    text, label = line.text("text"), line.fields.get("label")
    if label not in ("unsafe", "benign"):
        raise InvalidText(line.place, f"label {str(label)[:40]!r}; give 'unsafe' or 'benign'")
    group = line.fields.get("group")
    name = f"line {line.number}" if group is None else str(group)
    return LabelledText(text, label == "unsafe", name)


def calibrate_texts(
    tracer: Tracer,
    texts: Sequence[LabelledText],
    score: str,
    rule: Rule,
    bound: float,
    *,
    perplexity: Perplexity | None = None,
    seed: int = 0,
    traced: Sequence[TracedText] | None = None,
) -> Calibration:
    """Choose a threshold of a score on labelled texts.

    Args:
        tracer: Traces the texts; the calibration fits this index, policy and scorer only.
        texts: Of both labels. None of them may serve a test later, nor any of their groups.
        score: Name of the score.
        rule: What is bounded: false alarms or recall.
        bound: By how much; see `choose_threshold`.
        perplexity: A model's perplexity as one more baseline; NaN for a text that has none.
        seed: Of resampling, placebo and random baseline.
        traced: The texts as traced before by the same tracer, if they were.

    Raises:
        NothingToAudit: There are no texts of a label.
        ConfigurationError: No threshold keeps the bound, or there is no such score.
    """
    if not texts:
        raise NothingToAudit("no labelled texts to calibrate on")
    names = [*INDEX_SCORES, *(POLICY_SCORES if tracer.conflict is not None else ())]
    if score not in (*names, *tracer.extra):
        raise UnknownName("score", score, (*names, *tracer.extra))
    if traced is None:
        traced = [tracer.trace(each.text.encode()) for each in texts]
    scores = {
        name: np.array([text_suspicion(each, name) for each in traced])
        for name in dict.fromkeys([score, *names])
    }
    source = np.random.default_rng(seed)
    scores["placebo"] = np.array([_placebo(tracer, each, source) for each in traced])
    scores["random"] = source.random(len(texts))
    if perplexity is not None:
        # What a model has seen before it finds likely: low perplexity is the suspicious side.
        nats = np.asarray(perplexity([each.text for each in texts]))
        scores["model_perplexity"] = np.where(np.isnan(nats), -np.inf, -nats)
    unsafe = np.array([each.unsafe for each in texts])
    groups = [each.group for each in texts]
    threshold = choose_threshold(scores[score], unsafe, rule, bound)
    areas = compare_areas(LabelledScores(scores, unsafe, groups), seed)
    over_length = next(each for each in areas if each.score == score).minus_length
    conflict = tracer.conflict
    return Calibration(
        score=score, threshold=threshold, rule=rule, bound=bound,
        index=tracer.index.manifest.digest,
        policy=conflict.policy.digest if conflict else "",
        stance=conflict.stance.name if conflict else "",
        least_tokens=tracer.options.least_tokens, chance=tracer.options.chance,
        frequent=tracer.options.frequent, contexts=tracer.options.contexts,
        data=data_digest([each.text.encode() for each in texts], unsafe, groups),
        groups=len(set(groups)), seed=seed,
        point=operating_point(scores[score], unsafe, threshold), areas=areas,
        beats_length=over_length is not None and over_length.lower > 0,
    )  # fmt: skip


def _placebo(tracer: Tracer, traced: TracedText, source: np.random.Generator) -> float:
    """Surprisal of as many tokens as the longest span has, from a part that does not match.

    If it tells texts apart as well as the surprisal of matches, the index adds nothing.
    """
    wanted = int(text_suspicion(traced, "length")) if traced.evidence else 0
    gaps, reached = [], 0
    for span in traced.evidence:
        gaps.append(traced.text[reached : span.start])
        reached = max(reached, span.stop)
    gaps.append(traced.text[reached:])
    tokens = [found for gap in gaps if len(found := tokens_of(gap)) >= wanted]
    if not wanted or not tokens:
        return float("-inf")
    chosen = tokens[int(source.integers(len(tokens)))]
    start = int(source.integers(len(chosen) - wanted + 1))
    scorer = SurprisalScorer(chosen[start : start + wanted], tracer.unigrams.published())
    return scorer.span().bci
