"""A proposed routing intervention, measured on held-out prompts beside all its controls.

Experts are ranked and chosen before the held-out prompts are asked for the first time. What is
decided stands in the lines of the reasons; nothing here writes a model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.experts.answers import Asked
from auditor.experts.intervention import Intervention, Method
from auditor.experts.ranking import RankedExpert, Ranking
from auditor.experts.steering import Steering, steered
from auditor.fix import Condition
from auditor.fixes.expert_controls import (
    affected,
    effect_meter,
    measure_random,
    random_condition,
    reversal_note,
    unrelated_experts,
    wrong_direction,
)
from auditor.fixes.expert_distance import distances
from auditor.fixes.expert_proposal import Proposal
from auditor.fixes.expert_steering import ExpertSteering
from auditor.fixes.expert_study import Known, Subject, confounded_experts, contrasted_side
from auditor.fixes.expert_trial import (
    State,
    compared,
    measure_state,
    newly_answered,
    paired_refusals,
    quality_note,
    worth,
)
from auditor.fixes.refusal_gate import RefusalChange, judge_refusals
from auditor.language.asking import other_composition

MOST_NAMED: Final = 20
"""Lost prompts that a line names."""
TELLING: Final = 16
"""Prompts on which a written model has to act as the steered one."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What became of a proposal.

    Attributes:
        conditions: Its controls, and last itself.
        reasons: One line for each demand, kept or missed.
        telling: Prompts as the model is asked, first those whose answer changed sides.
    """

    conditions: tuple[Condition, ...]
    reasons: tuple[str, ...]
    telling: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Whether every demand is kept."""
        return all(reason.startswith("kept: ") for reason in self.reasons)


def evaluate(subject: Subject, known: Known, proposal: Proposal) -> Evaluation:
    """Effect, damage and controls on the held-out prompts, and a reason for each demand."""
    work, name = subject.work, proposal.intervention.described
    subject.progress("the model as it is")
    before = measure_state(subject.model, work.held_out, work.judge, work.asking)
    subject.progress(name)
    try:
        with steered(subject.routed, proposal.intervention) as seen:
            after = measure_state(subject.model, work.held_out, work.judge, work.asking)
    except ConfigurationError as error:
        return _not_switched(subject, proposal, before, error)
    texts = affected(work.direction, before)
    effect = effect_meter(subject.routed, work.direction, texts, known.meter)
    random = measure_random(
        proposal, work.direction, effect, len(texts), work.controls,
        confounded_experts(subject, known), work.seed, subject.progress,
    )  # fmt: skip
    gate = judge_refusals(
        {kind: paired_refusals(asked, after.harmful[kind])
         for kind, asked in before.harmful.items()},
        work.direction, paired_refusals(before.harmless, after.harmless), random.chance,
        work.margin,
    )  # fmt: skip
    far, spread = distances(
        subject.model, before.harmless, subject.routed, proposal.intervention
    )  # fmt: skip
    repair = Condition(
        name=name, comparisons=(*compared(before, after), *far),
        notes=(
            *_chosen_notes(subject, known, proposal), *_lost_notes(gate.strata), *spread,
            *_emptied_note(work.method, seen),
            *_carried_note(work, proposal, effect, random.repair),
            _unrelated_note(subject, known, proposal, effect),
            quality_note("newly answered harmless prompts",
                         newly_answered(before.harmless, after.harmless)),
            quality_note("harmless prompts answered before",
                         [each for each in before.harmless if not each.refused]),
            quality_note("harmless prompts answered now",
                         [each for each in after.harmless if not each.refused]),
        ),
    )  # fmt: skip
    conditions = (
        _noise_floor(subject, before, name), random_condition(random, name),
        _wrong(subject, proposal, before, name), repair,
    )  # fmt: skip
    reasons = (proposal.reason, *gate.reasons, *worth(before.harmless, after.harmless, work.margin))
    return Evaluation(conditions, reasons, _telling(before, after))


def _not_switched(
    subject: Subject, proposal: Proposal, before: State, error: ConfigurationError
) -> Evaluation:
    """Experts that the prompts to choose on left room for, and a held-out prompt does not."""
    name = proposal.intervention.described
    subject.progress(f"{name}: {error}")
    condition = Condition(name=name, comparisons=(), notes=(f"not measured: {error}",))
    reason = f"missed: a held-out prompt leaves these experts no room: {error}"
    return Evaluation(
        (_noise_floor(subject, before, name), condition), (proposal.reason, reason), ()
    )


def _noise_floor(subject: Subject, before: State, name: str) -> Condition:
    """Flips of the untouched model between two batch compositions."""
    subject.progress("the untouched model in other batches")
    work = subject.work
    again = measure_state(
        subject.model, work.held_out.answers_alone, work.judge, other_composition(work.asking)
    )
    return Condition(
        name="the untouched model again, in other batches", control_of=name,
        comparisons=compared(before.answers_alone, again),
        notes=("what flips here is the noise floor of every other count",),
    )  # fmt: skip


def _wrong(subject: Subject, proposal: Proposal, before: State, name: str) -> Condition:
    """The same experts the other way; left out, and said so, where it cannot be applied."""
    work = subject.work
    wrong = wrong_direction(proposal, work.direction)
    called = f"wrong direction: {wrong.described}"
    subject.progress(called)
    try:
        with steered(subject.routed, wrong):
            after = measure_state(
                subject.model, work.held_out.answers_alone, work.judge, work.asking
            )
    except (ConfigurationError, UnsupportedModel) as error:
        return Condition(
            name=called, control_of=name, comparisons=(), notes=(f"not measured: {error}",)
        )
    return Condition(
        name=called, control_of=name, comparisons=compared(before.answers_alone, after),
        notes=(reversal_note(work.direction, before, after),),
    )  # fmt: skip


def _chosen_notes(subject: Subject, known: Known, proposal: Proposal) -> tuple[str, ...]:
    """What was ranked and chosen, on what, and how far first tokens can be trusted."""
    ranking, agreement = proposal.contrasted.ranking, known.meter.agreement
    experts = proposal.intervention.off | proposal.intervention.on
    tried = "; ".join(map(str, proposal.tried))
    left_out = ", ".join(map(str, proposal.left_out))
    return (
        f"coverage: {subject.routed.coverage}",
        f"ranked by {ranking.score} on {proposal.contrasted.basis}",
        f"chosen on {len(known.choice[0])} harmful and {len(known.choice[1])} harmless other "
        f"prompts, by first tokens; so many experts: {tried}",
        *((f"left out, because {subject.work.method} cannot switch them together: the first "
           f"{left_out} experts",) if left_out else ()),
        *(_rank_note(each, ranking)
          for each in ranking.first(ranking.scores.size) if each.expert in experts),
        f"first tokens tell refusals as the judge does in {agreement.hits} of {agreement.total} "
        "answers",
    )  # fmt: skip


def _rank_note(each: RankedExpert, ranking: Ranking) -> str:
    return (
        f"expert {each.expert}: {ranking.score} {each.score:.3g}, in the top {ranking.top} of "
        f"{each.stability:.0%} of resamples, family-wise chance {each.p_fwe:.2g}, usage "
        f"{each.usage:.1%}"
    )


def _lost_notes(strata: tuple[RefusalChange, ...]) -> tuple[str, ...]:
    """Which refusals were lost, by their place in the file."""
    found = []
    for each in strata:
        more = len(each.lost_prompts) - MOST_NAMED
        listed = ", ".join(each.lost_prompts[:MOST_NAMED]) + (f" and {more} more" * (more > 0))
        found += [f"refusals lost, {each.name}: {listed}"] if each.lost_prompts else []
    return tuple(found)


def _emptied_note(method: Method, seen: Steering) -> tuple[str, ...]:
    if method is not Method.ZERO_WEIGHT:
        return ()
    return (f"of {seen.rows} rows in touched layers {seen.emptied} lost every expert they chose",)


def _carried_note(
    work: ExpertSteering, proposal: Proposal, effect: Callable[[Intervention], int], observed: int
) -> tuple[str, ...]:
    """Whether over-refusal goes with the experts' outputs, too, and not with rerouting alone."""
    if work.direction != "suppress" or observed <= 0:
        return ()
    try:
        outputs = effect(Intervention(Method.ZERO_OUTPUT, proposal.intervention.off))
    except UnsupportedModel as error:
        return (f"the effect without these experts' outputs alone was not measured: {error}",)
    agrees = outputs >= 0.5 * observed
    return (
        f"without these experts' outputs alone the effect is {outputs} instead of {observed} "
        f"prompts: over-refusal {'is' if agrees else 'is moved and not'} carried by them",
    )


def _unrelated_note(
    subject: Subject, known: Known, proposal: Proposal, effect: Callable[[Intervention], int]
) -> str:
    """What as many experts of a contrast of two topics do."""
    what = "first experts of an unrelated contrast of topics"
    other = proposal.intervention
    chosen = other.off | other.on
    try:
        unrelated = unrelated_experts(
            proposal.contrasted, contrasted_side(subject, known), len(chosen), chosen,
            subject.work.seed,
        )  # fmt: skip
        if unrelated is None:
            return f"{what}: not measured, prompts name no two categories"
        way = replace(
            other, off=unrelated if other.off else frozenset(),
            on=unrelated if other.on else frozenset(),
        )  # fmt: skip
        return f"{what}, the same way: effect {effect(way)} prompts"
    except ConfigurationError as error:
        return f"{what}: not measured, {error}"


def _telling(before: State, after: State) -> tuple[str, ...]:
    """Prompts whose refusal changed, then some of every kind."""
    pairs = list(zip(before.asked, after.asked, strict=True))
    changed = [was.text for was, now in pairs if was.refused != now.refused]
    kinds: Mapping[str, list[Asked]] = {**before.harmful, "": before.harmless}
    others = [each.text for asked in kinds.values() for each in asked[:TELLING]]
    return tuple(dict.fromkeys((*changed[:TELLING], *others)))[: 2 * TELLING]
