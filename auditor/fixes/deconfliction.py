"""Contrastive Belief Deconfliction as a repair: train, measure, and write a new model or none.

The control is the same training without the penalty: the same pairs, steps and clean text. What
the penalty is worth is the difference to it, not to the untouched model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.files import refuse_existing, refuse_unwritable, unfinished_folder
from auditor.fix import Condition, FixCard, FixResult
from auditor.fixes.before_after import (
    PERPLEXITY,
    Measured,
    Trial,
    as_control,
    compare,
    compare_perplexities,
    measure,
    text_digest,
)
from auditor.fixes.gate import Demands, decide
from auditor.fixes.model_folder import save_model
from auditor.language.asking import Asking, completer
from auditor.language.causal_lm import CausalLM
from auditor.models.transformers_folder import read_folder
from auditor.trace.deconfliction_training import (
    MOST_TOKENS,
    Charge,
    Preference,
    TrainingLog,
    TrainingOptions,
    train_deconfliction,
)
from auditor.trace.shield import check_fit

FIX = FixCard(
    "deconfliction",
    "Contrastive Belief Deconfliction (CBD): preference training with a penalty on tokens inside "
    "conflicting matches; writes a new model if it is accepted",
    writes_model=True,
)
CONTROL: Final = "training without the penalty"
REPAIR: Final = "CBD"
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Deconfliction:
    """What to train with.

    Attributes:
        preferences: Pairs of replies.
        charge: What the penalty is put on.
        clean: Ordinary texts; every second one holds the model to what it was, the others
            measure its perplexity and are not trained on.
        options: How to train.
        new_tokens: Of each completion that is judged.
        chat: Whether prompts, those that are trained on too, go through the tokenizer's chat
            template where it has one.
    """

    preferences: Sequence[Preference]
    charge: Charge
    clean: Sequence[str]
    options: TrainingOptions
    new_tokens: int = 64
    chat: bool = True


def fix_by_deconfliction(
    folder: Path,
    out: Path,
    work: Deconfliction,
    trial: Trial,
    demands: Demands,
    *,
    device: str = "cpu",
    progress: Progress = lambda share, text: None,
) -> FixResult:
    """Train a copy of a model, measure it, and write it to a new folder if it is accepted.

    Args:
        folder: The model, which stays as it is.
        out: Where the new one goes; nothing is written there if it is rejected.
        work: What to train with.
        trial: What to measure on; no prompt of it should be among those of the charge. Its
            `surprise` is not used: clean text says what the training costs.
        demands: What it has to keep.
        device: Where it runs.
        progress: Told what is going on.

    Raises:
        OutputNotWritable: Something is there already, or nothing can be written there.
        NothingToAudit: Fewer than two clean texts, none of two tokens, or no preferences.
        ConfigurationError: The calibration does not fit the tracer, or a text is longer than the
            model sees.
    """
    refuse_existing(out, "a repaired model")
    refuse_unwritable(out)
    check_fit(work.charge.tracer, work.charge.calibration)
    if len(work.clean) < 2:
        raise NothingToAudit("fewer than two clean texts; perplexity is measured on every second")
    base = CausalLM.open(folder, device)
    asked = _through_template(base, work) if work.chat else work
    _refuse_long(base, asked)
    progress(0.0, "the model as it is")
    before = _measured(base, work, trial)
    if np.isnan(before.nats).all():
        raise NothingToAudit("no clean text that measures perplexity has two tokens; give longer")
    progress(0.0, CONTROL)
    plain, _ = _trained(base, asked, None, progress)
    control = _measured(plain, work, trial)
    del plain
    progress(0.0, REPAIR)
    tuned, log = _trained(base, asked, asked.charge, progress)
    after = _measured(tuned, work, trial)
    notes = (f"{log.flagged_texts} texts with tokens to charge",)
    conditions = (
        as_control(_compared(CONTROL, trial, before, control), trial, control.measured,
                   after.measured, REPAIR),
        _compared(REPAIR, trial, before, after, notes),
    )  # fmt: skip
    decision, reasons = decide(conditions[-1], conditions, demands)
    written = digest = ""
    if decision == "accepted":
        with unfinished_folder(out, folder) as made:
            save_model(tuned, base, made)
        digest, written = read_folder(out).digest, out.name
    return FixResult(
        fix=FIX.name, subject=base.folder.digest, decision=decision, reasons=reasons,
        conditions=conditions, written=written, written_digest=digest,
        parameters=_parameters(work, trial),
    )  # fmt: skip


@dataclass(frozen=True)
class _State:
    measured: Measured
    nats: tuple[float, ...]


def _measured(model: CausalLM, work: Deconfliction, trial: Trial) -> _State:
    complete = completer(model, Asking(work.new_tokens, work.chat, seed=work.options.seed))
    # Answers of another model say nothing about this one's perplexity: clean text does.
    found = measure(replace(trial, surprise=None), complete)
    return _State(found, tuple(model.mean_nats(work.clean[1::2])))


def _trained(
    base: CausalLM, work: Deconfliction, charge: Charge | None, progress: Progress
) -> tuple[CausalLM, TrainingLog]:
    """A trained copy of a model, and what its training said."""
    tuned = CausalLM.open(base.folder.path, base.device, base.folder.digest)
    devices = [torch.cuda.current_device()] if base.device == "cuda" else []
    clean = [text for text in work.clean[::2] if base.encode(text)]
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(work.options.seed)  # of dropout
        log = train_deconfliction(
            tuned.model, tuned.tokenizer, work.preferences, charge=charge,
            clean=clean, options=work.options, progress=progress,
        )  # fmt: skip
    return tuned, log


def _compared(
    name: str, trial: Trial, before: _State, after: _State, notes: Sequence[str] = ()
) -> Condition:
    found = compare(name, trial, before.measured, after.measured, notes=notes)
    texts = [f"text {number}" for number in range(len(before.nats))]
    perplexity = compare_perplexities(f"{PERPLEXITY} of clean text", before.nats, after.nats, texts)
    added = () if perplexity is None else (perplexity,)
    return found.model_copy(update={"comparisons": (*found.comparisons, *added)})


def _through_template(model: CausalLM, work: Deconfliction) -> Deconfliction:
    """The same work with its prompts as the model is asked."""
    return replace(
        work,
        preferences=[replace(each, prompt=model.chat(each.prompt)) for each in work.preferences],
        charge=replace(
            work.charge, prompts=tuple(model.chat(each) for each in work.charge.prompts)
        ),
    )


def _refuse_long(model: CausalLM, work: Deconfliction) -> None:
    for text, tokens in _lengths(model, work):
        if tokens > model.max_tokens:
            raise ConfigurationError(
                f"a text to train on has {tokens} tokens and the model sees {model.max_tokens}; "
                f"shorten it: {text[:60]!r}"
            )


def _lengths(model: CausalLM, work: Deconfliction) -> Iterator[tuple[str, int]]:
    """Every text of a training, and how many tokens the model has to see for it."""
    for each in work.preferences:
        for reply in (each.chosen, each.rejected):
            text = f"{each.prompt} {reply}"
            yield text, min(len(model.encode(text)) + 1, MOST_TOKENS)
    for text in work.clean[::2]:
        yield text, min(len(model.encode(text)), MOST_TOKENS)
    for prompt in work.charge.prompts:
        yield prompt, len(model.encode(prompt)) + work.options.new_tokens


def _parameters(work: Deconfliction, trial: Trial) -> dict[str, str]:
    rule = work.charge.calibration
    pairs = [
        text for each in work.preferences for text in (each.prompt, each.chosen, each.rejected)
    ]
    return {
        "index": rule.index, "policy": rule.policy, "score": rule.score,
        "threshold": f"{rule.threshold:g}", "preferences": text_digest(pairs),
        "clean": text_digest(work.clean), "charged_prompts": text_digest(work.charge.prompts),
        "chat": str(work.chat), "judged_tokens": str(work.new_tokens), **trial.parameters,
        **{name: str(value) for name, value in vars(work.options).items()},
    }  # fmt: skip
