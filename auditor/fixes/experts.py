"""Routing interventions as a repair: propose, apply, evaluate, and write a new model or none.

It repairs over-refusal or strengthens refusals; a repair that costs refusals of held-out harmful
prompts is rejected here, in the function that writes, and nothing is written then.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.experts.routers import find_routers
from auditor.files import refuse_existing, refuse_unwritable
from auditor.fix import FixCard, FixResult
from auditor.fixes.expert_evaluation import Evaluation, evaluate
from auditor.fixes.expert_proposal import Proposal
from auditor.fixes.expert_steering import (
    ExpertSteering,
    describe,
    refuse_misuse,
    refuse_unreadable,
)
from auditor.fixes.expert_study import Subject, learn, propose_for
from auditor.fixes.steered_model import require_writable, write_steered
from auditor.language.causal_lm import CausalLM

FIX = FixCard(
    "experts",
    "routing intervention on few experts against over-refusal, or to strengthen refusals; writes a "
    "new model if held-out refusals do not fall",
    writes_model=True,
)
Progress = Callable[[str], None]


def fix_by_experts(
    folder: Path, out: Path, work: ExpertSteering, *, device: str = "cpu",
    progress: Progress = lambda text: None,
) -> FixResult:  # fmt: skip
    """Switch few experts of a model, measure what that does, and write it if it is accepted.

    Args:
        folder: The model, which stays as it is.
        out: Where the new one goes: a transformers folder where the family's weights can say the
            method, else an ONNX folder. Nothing is written there if it is rejected.
        work: What to do.
        device: Where it runs.
        progress: Told what is going on.

    Returns:
        The record. A model that turns out not to be writable is rejected, and says why.

    Raises:
        OutputNotWritable: Something is there already, or nothing can be written there.
        ConfigurationError: No held-out harmful prompts, a prompt in two sets or too long, or a
            method or a limit that does not fit.
        NothingToAudit: The model refuses everything or nothing, or too few prompts of either kind:
            there is no behaviour to study.
        UnsupportedModel: No routed experts, routers that cannot be matched, or a method that can
            only be written into a graph larger than one file holds.
        OperationFailed: The disk failed, or the written model acts otherwise; nothing is left.
    """
    refuse_misuse(work)
    refuse_existing(out, "a repaired model")
    refuse_unwritable(out)
    model = CausalLM.open(folder, device)
    routed = find_routers(model.model, str(folder))
    require_writable(routed, work.method)
    refuse_unreadable(work, model)
    subject = Subject(model, routed, work, progress)
    known = learn(subject)
    proposal = propose_for(subject, known)
    evaluation = evaluate(subject, known, proposal)
    reasons, digest = evaluation.reasons, ""
    if evaluation.accepted:
        progress("writing the new model")
        digest, failed = _written(subject, proposal, evaluation, out)
        reasons = (*reasons, *failed)
    return FixResult(
        fix=FIX.name, subject=model.folder.digest, decision="accepted" if digest else "rejected",
        reasons=reasons, conditions=evaluation.conditions, parameters=describe(work, proposal),
        written=out.name if digest else "", written_digest=digest,
    )  # fmt: skip


def _written(
    subject: Subject, proposal: Proposal, evaluation: Evaluation, out: Path
) -> tuple[str, tuple[str, ...]]:
    """Digest of the new folder, or a reason why there is none: what was measured is kept."""
    try:
        return write_steered(
            subject.model, subject.routed, proposal.intervention, out, evaluation.telling
        ), ()
    except (ConfigurationError, UnsupportedModel) as error:
        return "", (f"missed: the new model cannot be written: {error}",)
