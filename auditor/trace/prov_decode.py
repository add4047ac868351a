"""Prov-Decode: tokens that would go on with a conflicting match are vetoed while decoding.

Published rule (TraceAlign, 2508.02063): candidates whose continued span matches with a surprisal
above a threshold are penalised, asked for the whole vocabulary with a fixed window. Here only the
likeliest candidates are asked, each extends the longest tail of the text that the index holds,
and the score is that of a calibration. The text is compared as bytes, so any tokenizer will do.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.trace.calibration import Calibration
from auditor.trace.matches import Span, word_ends, word_starts
from auditor.trace.shield import REFUSAL, check_fit, suspicion
from auditor.trace.tokens import tokens_of
from auditor.trace.traced_text import TracedSpan, Tracer

CANDIDATES: Final = 32
TAIL_BYTES: Final = 600
"""How far back a match may begin."""
KEPT_ROWS: Final = 4_096
UNFINISHED: Final = frozenset({"pcs", "pc_gen"})
"""Scores of the text's own sentences, which an unfinished sentence does not have yet."""

RollOut = Callable[[Tensor, int], Tensor]
"""Goes on greedily: token ids [rows, length] and a number of tokens to ids [rows, longer]."""


@dataclass
class DecodeCounts:
    """What the processor did.

    Attributes:
        steps: Rows that were asked for a next token.
        vetoed: Candidates that were vetoed or penalised.
        altered: Steps whose likeliest token was vetoed or penalised.
        dead_ends: Texts in which all candidates were vetoed; they end with the refusal.
        given_up: Texts that end with it as patience was at its end.
        documents: Candidate sources of vetoed spans, with how often each was one.
    """

    steps: int = 0
    vetoed: int = 0
    altered: int = 0
    dead_ends: int = 0
    given_up: int = 0
    documents: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Row:
    """What is known of one text.

    Attributes:
        tail: Where its matching tail begins.
        refusal: How many tokens of the refusal it has said, -1 if it says none.
        ended: Whether it has ended, beside longer ones that have not.
        altered: How many of its tokens were not the likeliest one, which was vetoed.
        alters: Whether its next token will be such a one.
    """

    tail: int
    refusal: int = -1
    ended: bool = False
    altered: int = 0
    alters: bool = False


class ProvDecode:
    """A logits processor that keeps a model from going on with conflicting matches.

    It works with greedy search, sampling and beams: what it knows of a text is found again by the
    text's tokens, so beams may change places.

    Args:
        tracer: Traces and scores spans.
        calibration: Score and threshold, made with the same tracer; not a score of whole sentences
            of the text itself (`pcs`, `pc_gen`), use `pc_doc`.
        tokenizer: Of the model, from transformers.
        mode: `hard` vetoes; `soft` takes `strength * (score - threshold)` from the logit.
        strength: Logits for each unit of the score, `soft` only.
        candidates: How many of the likeliest tokens are asked; `hard` leaves no other token.
        look_ahead: Greedy tokens behind each candidate that are judged after it.
        roll_out: Makes them; needed for a look-ahead above 0.
        patience: A text whose likeliest token was vetoed so often already ends with the refusal
            at the next such token: it is drawn back to conflicting text again and again, and
            with single words changed says the same. None vetoes for ever; `hard` only.
        refusal: Said where all candidates are vetoed, or patience is at its end.

    Raises:
        ConfigurationError: The calibration does not fit, a number is out of range, the refusal has
            no token, or a look-ahead has no roll-out.
    """

    def __init__(
        self,
        tracer: Tracer,
        calibration: Calibration,
        tokenizer: Any,
        *,
        mode: Literal["hard", "soft"] = "hard",
        strength: float = 10.0,
        candidates: int = CANDIDATES,
        look_ahead: int = 0,
        roll_out: RollOut | None = None,
        patience: int | None = None,
        refusal: str = REFUSAL,
    ) -> None:
        check_fit(tracer, calibration)
        if calibration.score in UNFINISHED:
            raise ConfigurationError(
                f"'{calibration.score}' is a score of whole sentences, which an unfinished text "
                "does not have; calibrate 'pc_doc' for decoding"
            )
        for name, value, least in (
            ("candidates", candidates, 1), ("look-ahead", look_ahead, 0),
            ("strength", strength, 0), ("patience", patience or 0, 0),
        ):  # fmt: skip
            if not least <= value < float("inf"):
                raise ConfigurationError(f"{name} {value}; give a number of at least {least}")
        if look_ahead and roll_out is None:
            raise ConfigurationError(f"a look-ahead of {look_ahead} tokens needs a roll-out")
        self.tracer, self.calibration, self.tokenizer = tracer, calibration, tokenizer
        self.mode, self.strength, self.candidates = mode, strength, candidates
        self.look_ahead, self.roll_out, self.patience = look_ahead, roll_out, patience
        self.counts = DecodeCounts()
        self._refusal: list[int] = tokenizer.encode(refusal, add_special_tokens=False)
        if not self._refusal:
            raise ConfigurationError(f"the refusal {refusal!r} has no token; give a sentence")
        if tokenizer.eos_token_id is not None:
            self._refusal.append(int(tokenizer.eos_token_id))
        self._pieces: dict[int, int] = {}
        self._rows: OrderedDict[bytes, _Row] = OrderedDict()
        self._scores: dict[bytes, TracedSpan | None] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits with the vetoes: ids [rows, length] and logits [rows, vocabulary] to logits."""
        changed = scores.clone()
        for row in range(len(input_ids)):
            self._veto(input_ids[row], changed[row])
        return changed

    def _veto(self, ids: Tensor, logits: Tensor) -> None:
        """Change one row of logits in place."""
        plain = ids.tolist()
        known = self._known(plain)
        if known.ended or (plain[-1] == self.tokenizer.eos_token_id and self._continues(plain)):
            self._keep(plain, _Row(0, ended=True))
            return
        self.counts.steps += 1
        if known.refusal >= 0:
            self._force(plain, logits, known.refusal)
            return
        top = torch.topk(logits, min(self.candidates, len(logits)))
        excess = self._excess(ids, top.indices, known.tail)
        hit = excess > 0
        self.counts.vetoed += int(hit.sum())
        self.counts.altered += bool(hit[0])
        self._keep(plain, replace(self._rows[_key(plain)], altered=known.altered,
                                  alters=bool(hit[0])))  # fmt: skip
        if self.mode == "soft":
            taken = torch.from_numpy(self.strength * np.maximum(excess, 0)).to(logits)
            logits[top.indices] -= taken
            return
        if hit[0] and self.patience is not None and known.altered >= self.patience:
            self.counts.given_up += 1
            self._force(plain, logits, 0)
            return
        # What another processor has forbidden is no way out, either.
        gone = hit | ~torch.isfinite(top.values).cpu().numpy()
        if gone.all():
            if hit.any():
                self.counts.dead_ends += 1
                self._force(plain, logits, 0)
            return
        left = top.indices[torch.from_numpy(~gone).to(top.indices.device)]
        kept = logits[left].clone()
        logits.fill_(float("-inf"))
        logits[left] = kept

    def _force(self, ids: list[int], logits: Tensor, at: int) -> None:
        """Leave only the refusal's token `at`; what follows it is known of the longer text."""
        token = self._refusal[min(at, len(self._refusal) - 1)]
        logits.fill_(float("-inf"))
        logits[token] = 0.0
        self._keep([*ids, token], _Row(0, at + 1))

    def _excess(self, ids: Tensor, candidates: Tensor, tail: int) -> np.ndarray[Any, Any]:
        """By how much the worst span that ends in each candidate is above the threshold.

        [candidates], -inf where there is none that counts.
        """
        found = np.full(len(candidates), -np.inf)
        text = self._text(ids.tolist())
        start = self._matching_tail(text, max(tail, len(text) - TAIL_BYTES))
        self._keep(ids.tolist(), _Row(start))
        added = max(self._most_added(token) for token in candidates.tolist()) + self.look_ahead
        if len(tokens_of(text[start:])) + added < self.tracer.options.least_tokens:
            return found
        known = len(text.rstrip())
        for number, longer in enumerate(self._continued(ids, candidates)):
            spans = [span for span in self._new_spans(longer, known, start) if span.gate]
            if spans:
                name = self.calibration.score
                worst = max(spans, key=lambda span: suspicion(span, name))
                found[number] = suspicion(worst, name) - self.calibration.threshold
                if found[number] > 0:
                    for document in worst.documents:
                        self.counts.documents[document] = self.counts.documents.get(document, 0) + 1
        return found

    def _most_added(self, token: int) -> int:
        """How many words and marks a token of the model adds to a text at most."""
        if token not in self._pieces:
            self._pieces[token] = max(1, len(tokens_of(self._text([token]))))
        return self._pieces[token]

    def _new_spans(self, text: bytes, known: int, start: int) -> Iterator[TracedSpan]:
        """The matching spans that end behind byte `known`: at each word's end, and at the end.

        A candidate may hold more than one word, and a look-ahead may leave the match again; the
        spans before that count all the same.
        """
        ends = word_ends(np.frombuffer(text, dtype=np.uint8)).tolist()
        for end in sorted({*ends, len(text.rstrip())}):
            if end > known:
                start = self._matching_tail(text[:end], start)
                span = self._span(text[:end], start)
                if span is not None:
                    yield span

    def _continued(self, ids: Tensor, candidates: Tensor) -> list[bytes]:
        """The text behind each candidate and its look-ahead."""
        rows = torch.cat([ids.expand(len(candidates), -1), candidates[:, None]], dim=1)
        if self.look_ahead and self.roll_out is not None:
            rows = self.roll_out(rows, self.look_ahead)
        return [self._text(row) for row in rows.tolist()]

    def _text(self, ids: list[int]) -> bytes:
        decoded: str = self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        # The first bytes of a character whose others are still to come; no match ends in them.
        return decoded.rstrip("\N{REPLACEMENT CHARACTER}").encode()

    def _matching_tail(self, text: bytes, start: int) -> int:
        """The first word start from `start` on from which the text stands in the index."""
        starts = word_starts(np.frombuffer(text, dtype=np.uint8))
        starts = starts[starts >= start]
        low, high = 0, len(starts)
        while low < high:  # a tail of a match is a match
            middle = (low + high) // 2
            if self.tracer.index.count(text[starts[middle] :].rstrip()):
                high = middle
            else:
                low = middle + 1
        return int(starts[low]) if low < len(starts) else len(text)

    def _span(self, text: bytes, start: int) -> TracedSpan | None:
        inside = text[start:].rstrip()
        if len(tokens_of(inside)) < self.tracer.options.least_tokens:
            return None
        if inside not in self._scores:
            if len(self._scores) > KEPT_ROWS:
                self._scores.clear()
            count = self.tracer.index.count(inside)
            traced = self.tracer.score_spans(inside, [Span(0, len(inside), count)], own=False)
            self._scores[inside] = traced.spans[0] if traced.spans else None
        return self._scores[inside]

    def _known(self, ids: list[int]) -> _Row:
        """What is known of a text, or of the same text less its last token."""
        for known in (ids, ids[:-1]):
            row = self._rows.get(_key(known))
            if row is not None and known is ids:
                return row
            if row is not None and row.refusal < 0:
                return replace(row, altered=row.altered + row.alters, alters=False)
        return _Row(0)

    def _continues(self, ids: list[int]) -> bool:
        """Whether the last token is one that the model was asked for, and not of the prompt."""
        return _key(ids[:-1]) in self._rows

    def _keep(self, ids: list[int], row: _Row) -> None:
        self._rows[_key(ids)] = row
        while len(self._rows) > KEPT_ROWS:
            self._rows.popitem(last=False)


def _key(ids: list[int]) -> bytes:
    return hashlib.blake2b(np.array(ids, dtype=np.int64).tobytes(), digest_size=16).digest()
