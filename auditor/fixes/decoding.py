"""Defences while decoding, evaluated: TraceShield, Prov-Decode, and both.

Neither changes the model. Each is measured beside the untouched model on the same prompts and
seeds, and beside a control of the same strength that knows nothing of the index: refusals or
vetoes at random, as often as the defence's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.fix import Condition, FixResult
from auditor.fixes.before_after import Measured, Trial, compare, measure
from auditor.fixes.gate import Demands, decide
from auditor.language.causal_lm import CausalLM
from auditor.trace.calibration import Calibration
from auditor.trace.drift import Generate
from auditor.trace.prov_decode import ProvDecode
from auditor.trace.shield import REFUSAL, TraceShield
from auditor.trace.traced_text import Tracer

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class DecodingDefences:
    """What to put around a model.

    Attributes:
        tracer: Traces texts.
        shield: Calibration of the shield, if there is to be one.
        veto: Calibration of the vetoes, if there are to be any.
        look_ahead: Greedy tokens behind each candidate that a veto looks at.
        patience: Vetoed likeliest tokens after which a text ends with the refusal.
        new_tokens: Of each completion.
        seed: Of sampling and of the controls.
        refusal: What is said instead.
    """

    tracer: Tracer
    shield: Calibration | None = None
    veto: Calibration | None = None
    look_ahead: int = 0
    patience: int | None = None
    new_tokens: int = 64
    seed: int = 0
    refusal: str = REFUSAL


def evaluate_decoding(
    model: CausalLM,
    defences: DecodingDefences,
    trial: Trial,
    demands: Demands,
    progress: Progress = lambda share, text: None,
) -> FixResult:
    """Measure each defence, the combination, and a control of each.

    Raises:
        ConfigurationError: There is no defence, or a calibration does not fit the tracer.
    """
    if defences.shield is None and defences.veto is None:
        raise ConfigurationError("no defence; give a calibration for the shield or the vetoes")
    runs = _Runs(model, defences, trial, progress)
    if defences.shield is not None:
        runs.shielded("TraceShield", runs.plain)
    if defences.veto is not None:
        runs.vetoed("Prov-Decode")
    if defences.shield is not None and defences.veto is not None:
        runs.shielded("TraceShield and Prov-Decode", runs.with_veto())
    chosen = runs.conditions[-1] if not runs.conditions[-1].control else runs.last
    decision, reasons = decide(chosen, runs.conditions, demands)
    return FixResult(
        fix="decoding", subject=model.folder.digest, decision=decision, reasons=reasons,
        conditions=tuple(runs.conditions),
        parameters={
            "index": defences.tracer.index.manifest.digest,
            "shield": defences.shield.score if defences.shield else "none",
            "veto": defences.veto.score if defences.veto else "none",
            "look_ahead": str(defences.look_ahead), "new_tokens": str(defences.new_tokens),
            "seed": str(defences.seed), "judge": trial.judge.name,
        },
    )  # fmt: skip


class _Runs:
    """The conditions of one evaluation, in order."""

    def __init__(
        self, model: CausalLM, defences: DecodingDefences, trial: Trial, progress: Progress
    ) -> None:
        self.model, self.defences, self.trial = model, defences, trial
        self.progress = progress
        self.conditions: list[Condition] = []
        self.plain = completer(model, defences.new_tokens, defences.seed)
        self.base = measure(trial, self.plain)
        self.last: Condition

    def shielded(self, name: str, complete: Generate) -> None:
        """The shield around a way to complete, and refusals at random as often."""
        defences = self.defences
        shield = TraceShield(defences.tracer, defences.shield, defences.refusal)
        guarded = shield.guard(complete)
        found = self._add(name, lambda prompts: [each.text for each in guarded(prompts)])
        refused = sum(text == defences.refusal for text in found.completions)
        share = refused / max(1, len(found.completions))
        source = np.random.default_rng(defences.seed)

        def at_random(prompts: Sequence[str]) -> list[str]:
            hit = source.random(len(prompts)) < share
            texts = complete(prompts)
            return [defences.refusal if no else text for no, text in zip(hit, texts, strict=True)]

        self._add(f"refusals at random ({share:.1%} of texts)", at_random, control=True)

    def vetoed(self, name: str) -> None:
        """Vetoes, and vetoes at random as often."""
        veto = self._veto()
        self._add(name, self._with([veto]), notes=lambda: _notes(veto))
        share = veto.counts.altered / max(1, veto.counts.steps)
        random = RandomVeto(share, self.defences.seed)
        self._add(f"vetoes at random ({share:.1%} of steps)", self._with([random]), control=True)

    def with_veto(self) -> Generate:
        """A way to complete with fresh vetoes."""
        return self._with([self._veto()])

    def _veto(self) -> ProvDecode:
        defences = self.defences
        if defences.veto is None:
            raise ConfigurationError("no calibration for the vetoes")
        return ProvDecode(
            defences.tracer, defences.veto, self.model.tokenizer, refusal=defences.refusal,
            look_ahead=defences.look_ahead, patience=defences.patience,
            roll_out=greedy_roll_out(self.model) if defences.look_ahead else None,
        )  # fmt: skip

    def _with(self, processors: Sequence[Any]) -> Generate:
        return completer(self.model, self.defences.new_tokens, self.defences.seed, processors)

    def _add(
        self, name: str, complete: Generate, *, control: bool = False,
        notes: Callable[[], tuple[str, ...]] = lambda: (),
    ) -> Measured:  # fmt: skip
        self.progress(0.0, name)
        found = measure(self.trial, complete)
        condition = compare(name, self.trial, self.base, found, control=control, notes=notes())
        self.conditions.append(condition)
        if not control:
            self.last = condition
        return found


def completer(
    model: CausalLM, new_tokens: int, seed: int = 0, processors: Sequence[Any] = ()
) -> Generate:
    """A way to complete prompts greedily."""

    def complete(prompts: Sequence[str]) -> list[str]:
        found = model.generate(prompts, max_new_tokens=new_tokens, seed=seed, processors=processors)
        return [each.text for each in found]

    return complete


def greedy_roll_out(model: CausalLM) -> Callable[[Tensor, int], Tensor]:
    """Goes on greedily behind rows of token ids of one length."""

    def roll_out(ids: Tensor, count: int) -> Tensor:
        with torch.no_grad():
            longer: Tensor = model.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False,
                pad_token_id=model.tokenizer.pad_token_id or model.tokenizer.eos_token_id,
            )  # fmt: skip
        return longer

    return roll_out


class RandomVeto:
    """Takes the likeliest token away at random steps: a control.

    Args:
        share: Of steps.
        seed: Of the choice.
    """

    def __init__(self, share: float, seed: int) -> None:
        self.share, self.source = share, np.random.default_rng(seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Logits [rows, vocabulary] with some rows' largest set to -inf."""
        changed = scores.clone()
        rows = np.flatnonzero(self.source.random(len(scores)) < self.share)
        for row in rows.tolist():
            changed[row, int(changed[row].argmax())] = float("-inf")
        return changed


def _notes(veto: ProvDecode) -> tuple[str, ...]:
    counts = veto.counts
    most = sorted(counts.documents.items(), key=lambda item: (-item[1], item[0]))[:5]
    named = ", ".join(name for name, _ in most)
    return (
        f"{counts.altered} of {counts.steps} steps altered, {counts.vetoed} candidates vetoed",
        f"{counts.dead_ends} texts in which every candidate was vetoed ended with the refusal, and "
        f"{counts.given_up} in which the likeliest was vetoed too often",
        *((f"candidate sources named most often: {named}",) if named else ()),
    )
