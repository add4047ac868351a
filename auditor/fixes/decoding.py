"""Defences while decoding, evaluated: TraceShield, Prov-Decode, and both.

Neither changes the model. Each is measured beside the untouched model on the same prompts and
seeds, and beside a control of the same strength that knows nothing of the index: refusals and
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
from auditor.fix import Condition, FixCard, FixResult
from auditor.fixes.before_after import Trial, as_control, compare, measure
from auditor.fixes.gate import Demands, decide
from auditor.language.asking import Asking, completer
from auditor.language.causal_lm import CausalLM
from auditor.language.opening import quiet_transformers
from auditor.trace.calibration import Calibration
from auditor.trace.drift import Generate
from auditor.trace.prov_decode import ProvDecode
from auditor.trace.shield import REFUSAL, Ruling, TraceShield
from auditor.trace.traced_text import Tracer

FIX = FixCard(
    "decoding",
    "TraceShield and Prov-Decode around a model: texts refused and tokens vetoed that match "
    "conflicting training text; measured, the model stays as it is",
    writes_model=False,
)
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
        chat: Whether prompts go through the tokenizer's chat template where it has one.
    """

    tracer: Tracer
    shield: Calibration | None = None
    veto: Calibration | None = None
    look_ahead: int = 0
    patience: int | None = None
    new_tokens: int = 64
    seed: int = 0
    refusal: str = REFUSAL
    chat: bool = True


def evaluate_decoding(
    model: CausalLM,
    defences: DecodingDefences,
    trial: Trial,
    demands: Demands,
    progress: Progress = lambda share, text: None,
) -> FixResult:
    """Measure each defence, the combination, and a control of each; the last one is decided on.

    Raises:
        ConfigurationError: There is no defence, or a calibration does not fit the tracer.
    """
    if defences.shield is None and defences.veto is None:
        raise ConfigurationError("no defence; give a calibration for the shield or the vetoes")
    # Before anything is measured, for that takes long.
    if defences.shield is not None:
        TraceShield(defences.tracer, defences.shield)
    if defences.veto is not None:
        _veto(model, defences, defences.veto)
    runs = _Runs(model, defences, trial, progress)
    if defences.shield is not None:
        runs.add("TraceShield", defences.shield, None)
    if defences.veto is not None:
        runs.add("Prov-Decode", None, defences.veto)
    if defences.shield is not None and defences.veto is not None:
        runs.add("TraceShield and Prov-Decode", defences.shield, defences.veto)
    chosen = [each for each in runs.conditions if not each.control][-1]
    decision, reasons = decide(chosen, runs.conditions, demands)
    return FixResult(
        fix=FIX.name, subject=model.folder.digest, decision=decision, reasons=reasons,
        conditions=tuple(runs.conditions),
        parameters={
            "index": defences.tracer.index.manifest.digest,
            "shield": _rule(defences.shield), "veto": _rule(defences.veto),
            "look_ahead": str(defences.look_ahead), "patience": str(defences.patience),
            "new_tokens": str(defences.new_tokens),
            "seed": str(defences.seed), "chat": str(defences.chat), **trial.parameters,
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
        progress(0.0, "the model without a defence")
        self.base = measure(trial, self._with([]))

    def add(self, name: str, shield: Calibration | None, veto: Calibration | None) -> None:
        """Measure a defence, and its control."""
        self.progress(0.0, name)
        vetoes = None if veto is None else _veto(self.model, self.defences, veto)
        complete = self._with([] if vetoes is None else [vetoes])
        guarded = None if shield is None else _Guarded(self.defences, shield, complete)
        found = measure(self.trial, guarded or complete)
        notes = () if vetoes is None else _notes(vetoes)
        self.conditions.append(compare(name, self.trial, self.base, found, notes=notes))
        total = len(found.completions)
        refused = 0 if guarded is None else guarded.refused
        altered = 0.0
        if vetoes is not None:
            counts = vetoes.counts
            refused = min(total, refused + counts.dead_ends + counts.given_up)
            altered = counts.altered / max(1, counts.steps)
        control = f"{refused} of {total} texts refused at random"
        if vetoes is not None:
            control += f", {altered:.1%} of steps vetoed at random"
        self.progress(0.0, control)
        at_random = measure(self.trial, self._at_random(refused, altered))
        self.conditions.append(as_control(
            compare(control, self.trial, self.base, at_random), self.trial, at_random, found, name
        ))  # fmt: skip

    def _at_random(self, refused: int, altered: float) -> Generate:
        """Exactly so many texts replaced by the refusal, and vetoes at this share of steps."""
        defences = self.defences
        vetoes = [RandomVeto(altered, defences.seed)] if altered else []
        complete = self._with(vetoes)

        def ask(prompts: Sequence[str]) -> list[str]:
            texts = list(complete(prompts))
            for number in random_places(len(texts), refused, defences.seed):
                texts[number] = defences.refusal
            return texts

        return ask

    def _with(self, processors: Sequence[Any]) -> Generate:
        defences = self.defences
        asking = Asking(defences.new_tokens, defences.chat, seed=defences.seed)
        return completer(self.model, asking, processors)


class _Guarded:
    """The shield around a way to complete, which counts what it refuses."""

    def __init__(
        self, defences: DecodingDefences, calibration: Calibration, complete: Generate
    ) -> None:
        shield = TraceShield(defences.tracer, calibration, defences.refusal)
        self.guard = shield.guard(complete)
        self.refused = 0

    def __call__(self, prompts: Sequence[str]) -> list[str]:
        found = self.guard(prompts)
        # A model may say the refusal by itself, so the rulings are counted and not the texts.
        self.refused += sum(each.decision.ruling is Ruling.REFUSE for each in found)
        return [each.text for each in found]


def greedy_roll_out(model: CausalLM) -> Callable[[Tensor, int], Tensor]:
    """Goes on greedily behind rows of token ids of one length, as far as the model sees."""
    pad = model.tokenizer.pad_token_id
    pad = model.tokenizer.eos_token_id if pad is None else pad

    def roll_out(ids: Tensor, count: int) -> Tensor:
        count = min(count, model.max_tokens - ids.shape[1])
        if count < 1:
            return ids
        with torch.no_grad(), quiet_transformers():
            longer: Tensor = model.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False,
                pad_token_id=pad,
            )  # fmt: skip
        return longer

    return roll_out


def random_places(total: int, wanted: int, seed: int) -> list[int]:
    """So many of `total` places, each as likely as any other, in order."""
    source = np.random.default_rng(seed)
    return sorted(source.choice(total, size=wanted, replace=False).tolist())


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


def _veto(model: CausalLM, defences: DecodingDefences, calibration: Calibration) -> ProvDecode:
    return ProvDecode(
        defences.tracer, calibration, model.tokenizer, refusal=defences.refusal,
        look_ahead=defences.look_ahead, patience=defences.patience,
        roll_out=greedy_roll_out(model) if defences.look_ahead else None,
    )  # fmt: skip


def _rule(calibration: Calibration | None) -> str:
    return "none" if calibration is None else f"{calibration.score} above {calibration.threshold:g}"


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
