"""Pruning what memorised items run through, as a repair: choose, prune, attack, accept or reject.

Every candidate is measured on one split; the one that is chosen is measured again on another,
beside masks that know nothing of the items, and attacked. The new model is written only if the
gate accepts. It is suppression: the record says what an attack brings back.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.files import refuse_existing, refuse_unwritable, unfinished_folder
from auditor.fix import FixCard, FixResult
from auditor.fixes.pruning_evidence import Measured, conditions_of, trade_off
from auditor.fixes.pruning_gate import PruningDemands, decide_pruning, summarise
from auditor.fixes.pruning_study import Candidate, Outcome, PruningStudy, Split
from auditor.fixes.pruning_trials import MaskTrial, MaskTrials
from auditor.memorization.masks.mask_file import write_masks
from auditor.memorization.masks.mask_rules import magnitude_masks, matched_masks
from auditor.memorization.masks.weight_masks import pruned

FIX: Final = FixCard(
    "memorization",
    "weights that memorised items run through set to zero, and attacked; writes a new model if few "
    "enough come back and ordinary items stay as good",
    writes_model=True,
)
MAGNITUDE: Final = "the largest weights"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class PruningWork:
    """What is asked for besides the study.

    Attributes:
        demands: Limits of acceptance.
        controls: Matched random masks, at least 1.
        seed: Of their drawing.
        graph: Folder for the pruned model as an ONNX graph, besides the torch folder; None for
            none.
        trials: Where candidates that were tried are kept, to go on after an interruption; removed
            when the repair has ended. Not kept at all if None.
    """

    demands: PruningDemands = field(default_factory=PruningDemands)
    controls: int = 5
    seed: int = 0
    graph: Path | None = None
    trials: MaskTrials | None = None

    def __post_init__(self) -> None:
        """Refuse to go without a control."""
        if self.controls < 1:
            raise ConfigurationError(f"{self.controls} random masks; give at least 1")


def fix_by_pruning(
    study: PruningStudy, out: Path, work: PruningWork | None = None,
    progress: Progress = lambda text: None,
) -> FixResult:  # fmt: skip
    """Choose masks, measure them, and write the pruned model if it is accepted.

    Args:
        study: The model with its items; it is as before afterwards.
        out: Folder of the new model. The masks, and the numbers they took away, go beside it as
            `OUT.masks.safetensors`. Nothing is written if it is rejected.
        work: Limits and controls.
        progress: Told what is going on.

    Raises:
        OutputNotWritable: Something is at one of the places, or nothing can be written there.
        NothingToAudit: Nothing is memorised, or there is no candidate.
        UnsupportedModel: Layers cannot be matched, or numbers are not finite.
        OperationFailed: The disk failed; nothing is left.
    """
    work, kept = work or PruningWork(), masks_beside(out)
    for place in (out, kept, *(() if work.graph is None else (work.graph,))):
        refuse_existing(place, "part of a repair")
        refuse_unwritable(place)
    located = locate(study, work.demands, progress, work.trials)
    chosen = located.chosen
    before, attacked = study.measure(Split.REPORT), study.attacks()
    controls = _controls(study, chosen, work, progress)
    apart = study.located_apart(chosen)
    with _all_or_nothing() as written, ExitStack() as unfinished:
        digest = ""
        with pruned(chosen.sites, chosen.masks):
            progress(f"measuring {chosen.name}")
            alone = study.measure(Split.REPORT)
            with study.hardened(chosen) as trained:
                after = study.measure(Split.REPORT) if trained else alone
                progress(f"attacking {chosen.name}")
                recoveries = study.attacks()
                decision = decide_pruning(
                    before, after, alone, controls, recoveries, study.wording, work.demands
                )
                if decision.accepted == "accepted":
                    progress("writing the new model")
                    places = _Places(out, work.graph, written)
                    digest = _write(study, chosen, places, unfinished)
        if digest:  # masks hold the numbers that stood there, so the model is whole again
            write_masks(kept, chosen.masks, chosen.sites, base=study.digest, rule=chosen.name)
            written.append(kept)
    measured = Measured(
        chosen, before, after, alone if trained else None, controls, attacked, recoveries, apart,
        summarise(after, recoveries, work.demands),
    )  # fmt: skip
    if work.trials is not None:
        work.trials.forget()
    return FixResult(
        fix=FIX.name, subject=study.digest, decision=decision.accepted, reasons=decision.reasons,
        conditions=conditions_of(measured, study.wording),
        evidence=(trade_off(located.start, located.tried, study.wording),),
        parameters=study.parameters | {
            "chosen": chosen.name, "candidates": str(len(located.tried)),
            "density": f"{chosen.masks.density:.4f}",
        },
        written=out.name if digest else "", written_digest=digest,
    )  # fmt: skip


class Located(NamedTuple):
    """What was tried on the split that is chosen by.

    Attributes:
        start: What the untouched model does.
        tried: Every candidate.
        chosen: The best of them.
    """

    start: Outcome
    tried: tuple[MaskTrial, ...]
    chosen: Candidate


def locate(
    study: PruningStudy, demands: PruningDemands, progress: Progress = lambda text: None,
    trials: MaskTrials | None = None,
) -> Located:  # fmt: skip
    """Try every candidate and choose one; the model is as before afterwards.

    Args:
        study: The model with its items.
        demands: Limits of what may be chosen.
        progress: Told what is going on.
        trials: Where trials are kept; those of the same work that are there are not made again.

    Raises:
        NothingToAudit: Nothing is memorised, or there is no candidate.
        UnsupportedModel: Layers cannot be matched, or numbers are not finite.
    """
    progress("measuring the untouched model")
    start = study.measure(Split.CHOOSE)
    if not start.rates.any():
        raise NothingToAudit(
            "none of the items comes back from the untouched model; there is nothing to repair"
        )
    tried = _try_all(study, progress, trials)
    return Located(start, tuple(tried), choose(start, tried, study, demands).candidate)


def masks_beside(out: Path) -> Path:
    """Where the masks of a new model go."""
    return out.with_name(f"{out.name}.masks.safetensors")


def choose(
    start: Outcome, tried: Sequence[MaskTrial], study: PruningStudy, demands: PruningDemands
) -> MaskTrial:
    """The candidate that brings the fewest items back among those whose loss is allowed.

    Of several the one with the least loss; where no loss is allowed, the one with the least of all.
    """

    def loss(each: MaskTrial) -> float:
        return study.wording.loss(start, each.outcome)

    allowed = [each for each in tried if loss(each) <= demands.most_loss]
    if not allowed:
        return min(tried, key=loss)
    return min(allowed, key=lambda each: (float(each.outcome.rates.mean()), loss(each)))


def _try_all(study: PruningStudy, progress: Progress, trials: MaskTrials | None) -> list[MaskTrial]:
    known = [] if trials is None else trials.known(study)
    if known:
        progress(f"{len(known)} masks are known from before")
    before = {each.candidate.name: each for each in known}
    tried = []
    for name in study.names:
        if name in before:
            tried.append(before[name])
            continue
        progress(f"trying {name}")
        candidate = study.candidate(name)
        with pruned(candidate.sites, candidate.masks):
            outcome = study.measure(Split.CHOOSE)
        tried.append(MaskTrial(candidate, outcome))
        if trials is not None:
            trials.keep(tried[-1])
    if not tried:
        raise NothingToAudit("no rule, layers or share to try; give at least one of each")
    return tried


def _controls(
    study: PruningStudy, chosen: Candidate, work: PruningWork, progress: Progress
) -> dict[str, Outcome]:
    """What masks do that know nothing of the items: same layers, as many weights."""
    masks = {MAGNITUDE: magnitude_masks(chosen.sites, chosen.masks)}
    for number in range(work.controls):
        masks[f"matched random weights {number + 1}"] = matched_masks(
            chosen.sites, chosen.masks, work.seed + number
        )
    found = {}
    for name, mask in masks.items():
        progress(f"measuring the control: {name}")
        with pruned(chosen.sites, mask):
            found[name] = study.measure(Split.REPORT)
    return found


class _Places(NamedTuple):
    """Where folders go, and what is already there of them, for `_all_or_nothing`."""

    model: Path
    graph: Path | None
    written: list[Path]


def _write(study: PruningStudy, chosen: Candidate, places: _Places, unfinished: ExitStack) -> str:
    """Both folders, which are there once the stack ends well."""
    if places.graph is not None:
        drawn = unfinished.enter_context(_folder(places.graph, study.path, places.written))
        study.write_graph(drawn, chosen)
    made = unfinished.enter_context(_folder(places.model, study.path, places.written))
    return study.write(made, chosen)


@contextmanager
def _folder(place: Path, source: Path, written: list[Path]) -> Iterator[Path]:
    with unfinished_folder(place, source) as made:
        yield made
    written.append(place)


@contextmanager
def _all_or_nothing() -> Iterator[list[Path]]:
    """What stands in the list is gone again if the block fails; nothing else is touched."""
    written: list[Path] = []
    try:
        yield written
    except BaseException:
        for place in written:
            if place.is_dir():
                shutil.rmtree(place, ignore_errors=True)
            else:
                place.unlink(missing_ok=True)
        raise
