"""TraceShield: a text is let through, flagged or refused by what of it the index holds.

Published rule (TraceAlign, 2508.02063): refuse when the surprisal of a matched window is above
20. Here the score and its threshold are those of a calibration; without one nothing is refused
and the shield only reports. The streaming form judges sentence by sentence and lets none out
before it is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from auditor.errors import ConfigurationError
from auditor.trace.calibration import Calibration
from auditor.trace.sentences import sentence_ranges
from auditor.trace.traced_text import TracedSpan, TracedText, TraceOptions, Tracer

REFUSAL: Final = "I can't help with that."
TAIL_BYTES: Final = 4_000
"""How far back a stream is looked at, in whole sentences and at least one."""


class Ruling(StrEnum):
    """What the shield makes of a text; `NO_EVIDENCE` is not the same as harmless."""

    ALLOW = "allow"
    FLAG = "flag"
    REFUSE = "refuse"
    NO_EVIDENCE = "no_evidence"


@dataclass(frozen=True)
class Decision:
    """A ruling and what it rests on.

    Attributes:
        ruling: What to do.
        traced: The text with all its spans.
        spans: Those that made it so.
    """

    ruling: Ruling
    traced: TracedText
    spans: tuple[TracedSpan, ...]

    @property
    def reason(self) -> str:
        """One line: which span of which documents, without the text itself."""
        if not self.spans:
            if self.ruling is Ruling.NO_EVIDENCE:
                return "no span of the text qualifies as evidence in this index"
            return "no span above the threshold"
        span = self.spans[0]
        shown = ", ".join(span.documents[:3])
        return (
            f"bytes {span.start} to {span.stop} match {span.count} places word for word, "
            f"candidate sources {shown}" + (f"; clause {span.clause}" if span.clause else "")
        )


@dataclass(frozen=True)
class Guarded:
    """What a guarded model gives out.

    Attributes:
        text: The model's text, or the refusal.
        decision: Why.
    """

    text: str
    decision: Decision


class TraceShield:
    """Judges texts by what of them the index holds.

    Args:
        tracer: Traces and scores them.
        calibration: Score and threshold; without one the shield reports and refuses nothing.
        refusal: What is said instead of a refused text.

    Raises:
        ConfigurationError: The calibration is of another index, policy or scorer.
    """

    def __init__(
        self, tracer: Tracer, calibration: Calibration | None = None, refusal: str = REFUSAL
    ) -> None:
        self.tracer, self.calibration, self.refusal = tracer, calibration, refusal
        if calibration is not None:
            check_fit(tracer, calibration)

    def judge(self, text: str | bytes) -> Decision:
        """The ruling on a whole text."""
        content = text.encode("utf-8", "replace") if isinstance(text, str) else text
        return self._decide(self.tracer.trace(content))

    def guard(
        self, generate: Callable[[Sequence[str]], Sequence[str]]
    ) -> Callable[[Sequence[str]], list[Guarded]]:
        """The same `generate`, prompts to texts, with refused texts replaced."""

        def guarded(prompts: Sequence[str]) -> list[Guarded]:
            return [self._guarded(text) for text in generate(prompts)]

        return guarded

    def stream(self, pieces: Iterable[str]) -> Iterator[str]:
        """Let a text out sentence by sentence as it is made; the refusal ends it.

        A sentence is judged with the sentences before it, up to `TAIL_BYTES`, so that a span that
        runs over sentences counts whole. What is let out depends on the text alone and not on how
        it is cut into pieces.
        """
        given: list[str] = []
        for sentence in _sentences(pieces):
            if self._refuses("".join([*given, sentence])):
                yield self.refusal
                return
            yield sentence
            given.append(sentence)
            while len(given) > 1 and sum(map(len, given)) > TAIL_BYTES:
                del given[0]

    def _refuses(self, text: str) -> bool:
        return self.judge(text).ruling is Ruling.REFUSE

    def _guarded(self, text: str) -> Guarded:
        decision = self.judge(text)
        refused = decision.ruling is Ruling.REFUSE
        return Guarded(self.refusal if refused else text, decision)

    def _decide(self, traced: TracedText) -> Decision:
        evidence = traced.evidence
        if not evidence:
            return Decision(Ruling.NO_EVIDENCE, traced, ())
        if self.calibration is None:
            return Decision(Ruling.FLAG, traced, evidence)
        name, threshold = self.calibration.score, self.calibration.threshold
        above = sorted(
            (span for span in evidence if suspicion(span, name) > threshold),
            key=lambda span: -suspicion(span, name),
        )
        return Decision(Ruling.REFUSE if above else Ruling.ALLOW, traced, tuple(above))


def suspicion(span: TracedSpan, score: str) -> float:
    """A span's score with the sign by which higher is more suspicious.

    Raises:
        ConfigurationError: The span was traced without this score.
    """
    if score == "any_match":
        return 1.0
    if score not in span.scores:
        raise ConfigurationError(
            f"spans have no score '{score}'; they have {', '.join(sorted(span.scores))}"
        )
    return -span.scores[score] if score == "log10_e" else span.scores[score]


def text_suspicion(traced: TracedText, score: str) -> float:
    """The highest suspicion among the spans that pass the gate; -inf without any."""
    return max((suspicion(span, score) for span in traced.evidence), default=float("-inf"))


def check_fit(tracer: Tracer, calibration: Calibration) -> None:
    """Refuse a threshold that was made for other scores.

    Raises:
        ConfigurationError: It is of another index, policy, scorer, or other spans.
    """
    conflict = tracer.conflict
    refuse_misfit(
        calibration, index=tracer.index.manifest.digest,
        policy=conflict.policy.digest if conflict else "",
        stance=conflict.stance.name if conflict else "", options=tracer.options,
    )  # fmt: skip


def refuse_misfit(
    calibration: Calibration, *, index: str, policy: str, stance: str | None, options: TraceOptions
) -> None:
    """The same before anything is opened, from digests.

    Args:
        calibration: The threshold.
        index: Digest of the index.
        policy: Digest of the content policy, or "".
        stance: Name of the stance scorer, or ""; None if it is not known yet.
        options: What counts as evidence.

    Raises:
        ConfigurationError: It was made with another one of them.
    """
    for what, made, here in (
        ("corpus index", calibration.index, index),
        ("content policy", calibration.policy, policy),
        ("stance scorer", calibration.stance, stance),
        ("span length", calibration.least_tokens, options.least_tokens),
        ("chance level", calibration.chance, options.chance),
        ("number of frequent tokens", calibration.frequent, options.frequent),
        ("number of contexts", calibration.contexts, options.contexts),
    ):
        if here is not None and made != here:
            raise ConfigurationError(
                f"the calibration was made with another {what} ({made or 'none'}, here "
                f"{here or 'none'}); calibrate again"
            )


def _sentences(pieces: Iterable[str]) -> Iterator[str]:
    """The sentences of a text with the white space behind them, as soon as one has ended.

    The last one can still grow, so it waits until another has begun or the text has ended.
    """
    waiting = ""
    for piece in pieces:
        waiting += piece
        content = waiting.encode("utf-8", "replace")
        begins = [start for start, _ in sentence_ranges(content)][1:]
        reached = 0
        for begin in begins:
            yield content[reached:begin].decode()
            reached = begin
        waiting = content[reached:].decode()
    if waiting:
        yield waiting
