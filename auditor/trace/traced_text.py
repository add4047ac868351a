"""A text traced to an index: its maximal spans, their documents, and every score of each.

A span that passes the evidence gate is long enough, holds a word that is not among the most
frequent ones, and is not explained by chance. Scores stand side by side and none is made from
another: surprisal (the published Belief Conflict Index), policy conflict (ours), and length.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np

from auditor.errors import ConfigurationError
from auditor.trace.matches import Occurrence, Span, TraceIndex
from auditor.trace.policy_conflict import Conflict, PolicyConflict
from auditor.trace.sentences import covering_sentences, passage_sentences
from auditor.trace.surprisal import SurprisalScorer, UnigramCounts
from auditor.trace.tokens import hash_of, tokens_of

CONTEXT_BYTES: Final = 800
"""Of a document on each side of a match, from which its passage is taken."""
KAPPA: Final = 0.5
"""What a matched document's conflict counts for the text: a harmless part is not harmful."""

_NO_CONFLICT: Final = Conflict(0.0, "")

TextScore = Callable[[bytes, Span], float]
"""A score of a span that the index does not give, for example a model's perplexity."""


@dataclass(frozen=True)
class TraceOptions:
    """What counts as evidence; starting points, to be calibrated.

    Attributes:
        least_tokens: Tokens that a span has at least.
        frequent: A span needs a token that is not among so many most frequent ones.
        chance: Occurrences by chance that a span may have at most.
        contexts: Occurrences whose documents are held against the policy.
        places: Occurrences whose documents are named.

    Raises:
        ConfigurationError: One of them is out of range.
    """

    least_tokens: int = 8
    frequent: int = 200
    chance: float = 1e-3
    contexts: int = 5
    places: int = 1_000

    def __post_init__(self) -> None:
        """Refuse what would count everything or nothing."""
        for name, least in (("least_tokens", 1), ("frequent", 0), ("contexts", 1), ("places", 1)):
            value = getattr(self, name)
            if value < least:
                raise ConfigurationError(f"{name} {value}; give at least {least}")
        if not 0 < self.chance < np.inf:
            raise ConfigurationError(f"chance {self.chance}; give a number above 0")


@dataclass(frozen=True)
class TracedSpan:
    """One maximal span of a text.

    Attributes:
        start, stop: Bytes of the text.
        text: These bytes.
        tokens: How many tokens it has.
        count: How often the index holds it.
        occurrences: Some or all of these places, candidate sources.
        scores: By name: `length`, `bci`, `density`, `kl`, `max_token_risk`, `log10_e`,
            `unsafe_source` (whether the corpus labels one of its documents unsafe), and with a
            policy `pc_gen`, `pc_doc`, `pcs`.
        gate: Whether it is evidence at all.
        clause: The clause in conflict, or "".
    """

    start: int
    stop: int
    text: bytes
    tokens: int
    count: int
    occurrences: tuple[Occurrence, ...]
    scores: Mapping[str, float]
    gate: bool
    clause: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes, which names the span where it is not shown."""
        return f"sha256:{hashlib.sha256(self.text).hexdigest()}"

    @property
    def documents(self) -> tuple[str, ...]:
        """Names of the documents among the occurrences, each once."""
        return tuple(dict.fromkeys(each.document.identifier for each in self.occurrences))


@dataclass(frozen=True)
class TracedText:
    """A text and its spans, in order of their beginning.

    Attributes:
        text: The text.
        spans: Its maximal spans of enough tokens.
    """

    text: bytes
    spans: tuple[TracedSpan, ...]

    @property
    def evidence(self) -> tuple[TracedSpan, ...]:
        """The spans that pass the gate."""
        return tuple(span for span in self.spans if span.gate)


@dataclass
class Tracer:
    """Traces texts to an index.

    Attributes:
        index: The index.
        conflict: Holds texts and documents against a policy; not done without it.
        options: What counts as evidence.
        extra: More scores by name.
    """

    index: TraceIndex
    conflict: PolicyConflict | None = None
    options: TraceOptions = field(default_factory=TraceOptions)
    extra: Mapping[str, TextScore] = field(default_factory=dict)

    @cached_property
    def unigrams(self) -> UnigramCounts:
        """Token counts of the index."""
        return self.index.unigrams()

    @cached_property
    def _frequent(self) -> frozenset[int]:
        """Hashes of the most frequent tokens."""
        hashes = np.concatenate([shard.tokens[:, 0] for shard in self.index.shards])
        counts = np.concatenate([shard.tokens[:, 3] for shard in self.index.shards])
        kinds, places = np.unique(hashes, return_inverse=True)
        totals = np.zeros(len(kinds), dtype=np.int64)
        np.add.at(totals, places, counts)
        order = np.argsort(-totals, kind="stable")[: self.options.frequent]
        return frozenset(kinds[order].tolist())

    def trace(self, text: bytes) -> TracedText:
        """The spans of a text with their documents and scores."""
        return self.score_spans(text, self.index.spans(text))

    def score_spans(self, text: bytes, spans: Sequence[Span], *, own: bool = True) -> TracedText:
        """The same for spans that are known; `own` is whether the text's sentences are judged."""
        found = []
        for span in spans:
            inside = text[span.start : span.stop]
            tokens = tokens_of(inside)
            if len(tokens) >= self.options.least_tokens:
                found.append((span, inside, tokens))
        occurrences = [self._places(text, span, inside) for span, inside, _ in found]
        conflicts = self._conflicts(text, [span for span, _, _ in found], occurrences, own)
        return TracedText(text, tuple(
            self._traced(text, *one, places, conflict)
            for one, places, conflict in zip(found, occurrences, conflicts, strict=True)
        ))  # fmt: skip

    def _places(self, text: bytes, span: Span, inside: bytes) -> tuple[Occurrence, ...]:
        """Where a span stands; alone, its bytes might be cut into other tokens than in the text."""
        most = self.options.places
        if self.index.manifest.mode == "bytes":
            return self.index.find(inside, most, CONTEXT_BYTES).occurrences
        return self.index.find_span(text, span, most, CONTEXT_BYTES).occurrences

    def _traced(
        self, text: bytes, span: Span, inside: bytes, tokens: list[bytes],
        places: tuple[Occurrence, ...], conflict: tuple[dict[str, float], str],
    ) -> TracedSpan:  # fmt: skip
        scorer = SurprisalScorer(tokens, self.unigrams.published())
        surprisal = scorer.span()
        chance = surprisal.log10_e_value(self.unigrams.total)
        scores = {
            "length": float(len(tokens)), "bci": surprisal.bci, "density": surprisal.density,
            "kl": surprisal.kl, "max_token_risk": scorer.max_token_risk(), "log10_e": chance,
            "unsafe_source": float(any(each.document.label == "unsafe" for each in places)),
            **conflict[0],
            **{name: score(text, span) for name, score in self.extra.items()},
        }  # fmt: skip
        rare = any(hash_of(token) not in self._frequent for token in tokens)
        gate = rare and chance <= np.log10(self.options.chance)
        return TracedSpan(
            span.start, span.stop, inside, len(tokens), span.count, places, scores, bool(gate),
            conflict[1],
        )  # fmt: skip

    def _conflicts(
        self,
        text: bytes,
        spans: Sequence[Span],
        occurrences: Sequence[tuple[Occurrence, ...]],
        own: bool,
    ) -> list[tuple[dict[str, float], str]]:
        """Scores against the policy and the clause, for each span."""
        if self.conflict is None:
            return [({}, "")] * len(spans)
        judged = [covering_sentences(text, span.start, span.stop) if own else [] for span in spans]
        matched = [
            list(dict.fromkeys(
                sentence
                for place in _spread(places, self.options.contexts)
                for sentence in _document_sentences(text[span.start : span.stop], place)
            ))
            for span, places in zip(spans, occurrences, strict=True)
        ]  # fmt: skip
        asked = [each for sentences in (*judged, *matched) for each in sentences]
        found = dict(zip(asked, self.conflict.of(asked), strict=True))
        results = []
        for sentences, others in zip(judged, matched, strict=True):
            generated = max((found[each] for each in sentences), default=_NO_CONFLICT)
            document = max((found[each] for each in others), default=_NO_CONFLICT)
            scores = {
                "pc_gen": generated.score, "pc_doc": document.score,
                "pcs": max(generated.score, KAPPA * document.score),
            }  # fmt: skip
            best = generated if generated.score >= KAPPA * document.score else document
            results.append((scores, best.clause))
        return results


def _spread(places: Sequence[Occurrence], most: int) -> list[Occurrence]:
    """So many of the places, evenly over their order."""
    if len(places) <= most:
        return list(places)
    return [places[at] for at in np.linspace(0, len(places) - 1, most).astype(int)]


def _document_sentences(inside: bytes, place: Occurrence) -> list[str]:
    before, after = place.before.encode(), place.after.encode()
    whole = before + inside + after
    return passage_sentences(whole, len(before), len(before) + len(inside))
