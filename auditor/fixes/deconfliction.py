"""Contrastive Belief Deconfliction as a repair: train, measure, and write a new model or none.

The control is the same training without the penalty: the same pairs, steps and clean text. What
the penalty is worth is the difference to it, not to the untouched model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from auditor.errors import NothingToAudit, OperationFailed, OutputNotWritable
from auditor.files import refuse_existing
from auditor.findings import Metric
from auditor.fix import Comparison, Condition, FixResult
from auditor.fixes.before_after import Measured, Trial, compare, mean_interval, measure
from auditor.fixes.decoding import completer
from auditor.fixes.gate import Demands, decide
from auditor.language.causal_lm import CausalLM
from auditor.models.transformers_folder import read_folder
from auditor.trace.deconfliction_training import (
    Charge,
    Preference,
    TrainingOptions,
    train_deconfliction,
)

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
    """

    preferences: Sequence[Preference]
    charge: Charge
    clean: Sequence[str]
    options: TrainingOptions
    new_tokens: int = 64


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
        trial: What to measure on; no prompt of it should be among those of the charge.
        demands: What it has to keep.
        device: Where it runs.
        progress: Told what is going on.

    Raises:
        OutputNotWritable: Something is there already, or nothing can be written there.
        NothingToAudit: Fewer than two clean texts, or no preferences.
    """
    refuse_existing(out, "a repaired model")
    if len(work.clean) < 2:
        raise NothingToAudit("fewer than two clean texts; perplexity is measured on every second")
    base = CausalLM.open(folder, device)
    before = _measured(base, work, trial)
    conditions = []
    tuned = base
    for name, charge in (("training without the penalty", None), ("CBD", work.charge)):
        progress(0.0, name)
        tuned = CausalLM.open(folder, device, base.folder.digest)
        log = train_deconfliction(
            tuned.model, tuned.tokenizer, work.preferences, charge=charge,
            clean=work.clean[::2], options=work.options, progress=progress,
        )  # fmt: skip
        after = _measured(tuned, work, trial)
        notes = (f"{log.flagged_texts} texts with tokens to charge",) if charge else ()
        conditions.append(_compared(name, charge is None, trial, before, after, work.clean, notes))
    decision, reasons = decide(conditions[-1], conditions, demands)
    written = digest = ""
    if decision == "accepted":
        digest, written = _write(tuned, folder, out), out.name
    return FixResult(
        fix="deconfliction", subject=base.folder.digest, decision=decision, reasons=reasons,
        conditions=tuple(conditions), written=written, written_digest=digest,
        parameters={
            "index": work.charge.calibration.index, "score": work.charge.calibration.score,
            "threshold": f"{work.charge.calibration.threshold:g}", "judge": trial.judge.name,
            **{name: str(value) for name, value in vars(work.options).items()},
        },
    )  # fmt: skip


@dataclass(frozen=True)
class _State:
    measured: Measured
    nats: tuple[float, ...]


def _measured(model: CausalLM, work: Deconfliction, trial: Trial) -> _State:
    complete = completer(model, work.new_tokens, work.options.seed)
    nats = [float(np.nanmean(each)) for each in model.token_nll(list(work.clean[1::2]))]
    # Answers of another model say nothing about this one's perplexity: clean text does.
    return _State(measure(replace(trial, surprise=None), complete), tuple(nats))


def _compared(
    name: str, control: bool, trial: Trial, before: _State, after: _State,
    clean: Sequence[str], notes: tuple[str, ...],
) -> Condition:  # fmt: skip
    found = compare(name, trial, before.measured, after.measured, control=control, notes=notes)
    perplexity = np.exp([before.nats, after.nats])
    documents = [str(number) for number in range(len(before.nats))]
    metrics = [
        Metric(name="perplexity", value=float(row.mean()), unit="perplexity",
               sample_size=len(documents), better="lower")
        for row in perplexity
    ]  # fmt: skip
    comparison = Comparison(
        name="perplexity of clean text",
        before=metrics[0],
        after=metrics[1],
        change=mean_interval(perplexity[1] - perplexity[0], documents),
        change_of="difference of means over texts",
    )
    return found.model_copy(update={"comparisons": (*found.comparisons, comparison)})


def _write(model: CausalLM, old: Path, out: Path) -> str:
    """Write a model beside the old one's tokenizer; returns the digest of the new folder."""
    made = out.with_name(f".{out.name}.unfinished")
    shutil.rmtree(made, ignore_errors=True)
    try:
        model.model.save_pretrained(made, safe_serialization=True)
        model.tokenizer.save_pretrained(made)
        made.rename(out)
    except OSError as error:
        reason = error.strerror or str(error)
        if not out.parent.is_dir():
            raise OutputNotWritable(out, reason) from None
        raise OperationFailed(f"cannot write {out}: {reason}; {old} is as it was") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return read_folder(out).digest
