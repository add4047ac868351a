"""Routing interventions as a repair: propose, apply, evaluate, and write a new model or none.

It repairs over-refusal or strengthens refusals; a repair that costs refusals of held-out harmful
prompts is rejected here, in the function that writes, and nothing is written then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auditor.errors import ConfigurationError
from auditor.experts.asking import Asked, Asking, ask, refuse_overlap, split_halves
from auditor.experts.contrasted import contrast_experts
from auditor.experts.intervention import Intervention, Method
from auditor.experts.ranking import RankedExpert, Ranking, Score
from auditor.experts.refusal_meter import Answer, RefusalMeter, learn_meter
from auditor.experts.routers import RoutedModel, find_routers
from auditor.experts.routing_maps import Expert, TokenSet
from auditor.experts.steering import steered
from auditor.files import refuse_existing, refuse_unwritable
from auditor.fix import Condition, FixCard, FixResult
from auditor.fixes.before_after import text_digest
from auditor.fixes.expert_proposal import (
    SIZES,
    Proposal,
    propose,
    require_method,
)
from auditor.fixes.expert_trial import (
    SIGNIFICANT,
    HeldOut,
    Random,
    State,
    compared,
    degenerate,
    distances,
    effect_meter,
    measure_random,
    measure_state,
    newly_answered,
    paired_refusals,
    quality_note,
    random_condition,
    unrelated_experts,
    wrong_direction,
)
from auditor.fixes.refusal_gate import Direction, GateDecision, judge_refusals
from auditor.fixes.steered_model import write_steered
from auditor.language.causal_lm import CausalLM
from auditor.language.prompts import Prompt

FIX = FixCard(
    "experts",
    "routing intervention on few experts against over-refusal, or to strengthen refusals; writes a "
    "new model if held-out refusals do not fall",
    writes_model=True,
)
MOST_DEGENERATE: Final = 0.1
Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class ExpertSteering:
    """What to do and by which prompts.

    Attributes:
        direction: `suppress` as a repair of over-refusal, or `strengthen`.
        method: How experts are switched.
        harmful: Prompts that should be refused, to rank and choose on.
        harmless: Prompts that deserve an answer, likewise; pairs share their group.
        held_out: What is reported on.
        asking: How prompts are put and judged.
        sizes: How many experts to try.
        controls: Matched random sets.
        token_set: Which tokens of a prompt are counted for the ranking.
        score: What experts are ranked by.
        margin: See `auditor.fixes.refusal_gate.judge_refusals`.
        seed: Of shuffles, resamples and random sets.
    """

    direction: Direction
    method: Method
    harmful: Sequence[Prompt]
    harmless: Sequence[Prompt]
    held_out: HeldOut
    asking: Asking
    sizes: Sequence[int] = SIZES
    controls: int = 99
    token_set: TokenSet = TokenSet.LAST
    score: Score = Score.PAIRED_T
    margin: float = 0.02
    seed: int = 0


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

    Raises:
        OutputNotWritable: Something is there already, or nothing can be written there.
        ConfigurationError: No held-out harmful prompts, prompts in two sets, or a method that does
            not fit the direction.
        NothingToAudit: The model refuses everything or nothing: there is no behaviour to study.
        UnsupportedModel: No routed experts, or routers that cannot be matched or written.
    """
    _refuse_misuse(work)
    refuse_existing(out, "a repaired model")
    refuse_unwritable(out)
    model = CausalLM.open(folder, device)
    trial = _Trial(model, find_routers(model.model, str(folder)), work, progress)
    proposal = trial.propose()
    before = trial.measured("the model as it is", None)
    conditions, gate, reasons = trial.evaluate(proposal, before)
    written = digest = ""
    accepted = all(reason.startswith("kept: ") for reason in reasons) and gate.accepted
    if accepted:
        progress("writing the new model")
        texts = [each.text for each in before.harmless[:8]]
        digest = write_steered(model, trial.routed, proposal.intervention, out, texts)
        written = out.name
    return FixResult(
        fix=FIX.name, subject=model.folder.digest,
        decision="accepted" if accepted else "rejected", reasons=reasons, conditions=conditions,
        parameters=_parameters(work, proposal), written=written, written_digest=digest,
    )  # fmt: skip


class _Trial:
    """One repair: the untouched model's answers, the proposal, and its evaluation."""

    def __init__(
        self, model: CausalLM, routed: RoutedModel, work: ExpertSteering, progress: Progress
    ) -> None:
        self.model, self.routed, self.work, self.progress = model, routed, work, progress
        halves = split_halves(work.harmful), split_halves(work.harmless)
        self.ranked: list[Asked] = []
        self.harmful, self.harmless = self._ask(halves[0][1]), self._ask(halves[1][1])
        self.ranked_harmful, self.ranked_harmless = self._ask(halves[0][0]), self._ask(halves[1][0])
        known = (*self.harmful, *self.harmless, *self.ranked_harmful, *self.ranked_harmless)
        self.meter: RefusalMeter = learn_meter(
            model, [Answer(each.answer, each.refused) for each in known], work.asking.batch_size
        )

    def _ask(self, prompts: Sequence[Prompt]) -> list[Asked]:
        self.progress(f"{len(prompts)} answers of the untouched model")
        return ask(self.model, prompts, self.work.asking)

    def propose(self) -> Proposal:
        """Rank on one half, choose on the other."""
        suppress = self.work.direction == "suppress"
        self.contrasted_side = self.ranked_harmless if suppress else self.ranked_harmful
        self.progress("ranking experts")
        contrasted = contrast_experts(
            self.model, self.routed, self.contrasted_side, self.work.token_set,
            score=self.work.score, seed=self.work.seed,
        )  # fmt: skip
        return propose(
            self.routed, contrasted, self.work.direction, self.work.method,
            [each.text for each in self.harmful], [each.text for each in self.harmless],
            self.meter, sizes=self.work.sizes, margin=self.work.margin, progress=self.progress,
        )  # fmt: skip

    def measured(self, name: str, intervention: Intervention | None) -> State:
        """The held-out prompts under an intervention, or none."""
        self.progress(name)
        if intervention is None:
            return measure_state(self.model, self.work.held_out, self.work.asking)
        with steered(self.routed, intervention):
            return measure_state(self.model, self.work.held_out, self.work.asking)

    def evaluate(
        self, proposal: Proposal, before: State
    ) -> tuple[tuple[Condition, ...], GateDecision, tuple[str, ...]]:
        """Conditions, the gate's decision, and a reason for each demand."""
        name = proposal.intervention.described
        after = self.measured(name, proposal.intervention)
        others = self._other_side()
        random = measure_random(
            self.routed, proposal, self.work.direction, before, self.meter, self.work.controls,
            others, self.work.seed, self.progress,
        )  # fmt: skip
        gate = judge_refusals(
            {kind: paired_refusals(asked, after.harmful[kind])
             for kind, asked in before.harmful.items()},
            self.work.direction, paired_refusals(before.harmless, after.harmless), random.chance,
            self.work.margin,
        )  # fmt: skip
        repair = Condition(
            name=name,
            comparisons=(
                *compared(before, after),
                *distances(self.model, before.harmless, self.routed, proposal.intervention),
            ),
            notes=self._notes(proposal, before, after, random),
        )
        conditions = (
            self._noise_floor(before), random_condition(random, name),
            *self._wrong(proposal, before, name), repair,
        )  # fmt: skip
        return conditions, gate, (*gate.reasons, _worth(before, after))

    def _other_side(self) -> frozenset[Expert]:
        """Experts that tell refused harmful prompts from answered harmless ones: no controls."""
        mixed = [*self.ranked_harmful, *self.ranked_harmless]
        ranking = contrast_experts(
            self.model, self.routed, mixed, self.work.token_set, score=Score.MOTE_SHARES,
            seed=self.work.seed,
        ).ranking  # fmt: skip
        return frozenset(each.expert for each in ranking.first() if each.p_fwe <= SIGNIFICANT)

    def _noise_floor(self, before: State) -> Condition:
        """Flips of the untouched model between two batch compositions."""
        self.progress("the untouched model in other batches")
        asking = self.work.asking
        other = Asking(asking.judge, asking.new_tokens, asking.chat, max(1, asking.batch_size // 3))
        again = measure_state(
            self.model, HeldOut(self.work.held_out.harmful, self.work.held_out.harmless), other
        )
        return Condition(
            name="control: the untouched model again, in other batches",
            comparisons=compared(
                State(before.harmful, before.harmless, (), ()),
                State(again.harmful, again.harmless, (), ()),
            ),
            notes=("what flips here is the noise floor of every other count",),
        )

    def _wrong(self, proposal: Proposal, before: State, name: str) -> tuple[Condition, ...]:
        """The same experts the other way; left out, and said so, where it cannot be applied."""
        wrong = wrong_direction(proposal, self.work.direction)
        try:
            after = self.measured(f"wrong direction: {wrong.described}", wrong)
        except ConfigurationError as error:
            return (Condition(name="wrong direction", control_of=name, comparisons=(),
                              notes=(f"not measured: {error}",)),)  # fmt: skip
        return (Condition(
            name=f"wrong direction: {wrong.described}", control_of=name,
            comparisons=compared(
                State(before.harmful, before.harmless, (), ()),
                State(after.harmful, after.harmless, (), ()),
            ),
        ),)  # fmt: skip

    def _notes(
        self, proposal: Proposal, before: State, after: State, random: Random
    ) -> tuple[str, ...]:
        ranking = proposal.contrasted.ranking
        effect = effect_meter(self.routed, self.work.direction, before, self.meter)
        experts = proposal.intervention.off | proposal.intervention.on
        notes = [
            f"coverage: {self.routed.coverage}",
            f"ranked by {ranking.score} on {proposal.contrasted.basis}; chosen among "
            f"{len(proposal.tried)} sizes on {len(self.harmful)} harmful and {len(self.harmless)} "
            f"harmless other prompts{_doubt(proposal)}",
            *(_rank_note(each, ranking) for each in ranking.first() if each.expert in experts),
            f"first tokens tell refusals as the judge does in {self.meter.agreement.hits} of "
            f"{self.meter.agreement.total} answers",
            *self._carried(proposal, effect, random.observed),
            *self._unrelated(proposal, effect, experts),
            quality_note("newly answered harmless prompts",
                         newly_answered(before.harmless, after.harmless)),
            quality_note("harmless prompts answered before",
                         [each for each in before.harmless if not each.refused]),
        ]  # fmt: skip
        return tuple(notes)

    def _carried(
        self, proposal: Proposal, effect: Callable[[Intervention], int], observed: int
    ) -> tuple[str, ...]:
        if self.work.direction != "suppress" or not observed:
            return ()
        outputs = effect(Intervention(Method.ZERO_OUTPUT, proposal.intervention.off))
        agrees = outputs >= 0.5 * observed
        return (
            f"without these experts' outputs alone the effect is {outputs} instead of {observed} "
            f"prompts: over-refusal {'is' if agrees else 'is moved and not'} carried by them",
        )

    def _unrelated(
        self, proposal: Proposal, effect: Callable[[Intervention], int], experts: frozenset[Expert]
    ) -> tuple[str, ...]:
        unrelated = unrelated_experts(
            proposal.contrasted, self.contrasted_side, len(experts), experts, self.work.seed
        )
        if unrelated is None:
            return ("no unrelated contrast: prompts name no two categories",)
        other = proposal.intervention
        way = Intervention(
            other.method, unrelated if other.off else frozenset(),
            unrelated if other.on else frozenset(),
        )  # fmt: skip
        return (f"first experts of an unrelated contrast of topics, the same way: effect "
                f"{effect(way)} prompts",)  # fmt: skip


def _refuse_misuse(work: ExpertSteering) -> None:
    require_method(work.direction, work.method)
    strata = work.held_out.harmful
    if not strata or not all(strata.values()) or not work.held_out.harmless:
        raise ConfigurationError(
            f"no held-out prompts to judge '{work.direction}' by; give harmful ones, in strata, "
            "and harmless ones"
        )
    refuse_overlap((*work.harmful, *work.harmless), {**strata, "harmless": work.held_out.harmless})


def _doubt(proposal: Proposal) -> str:
    return "" if proposal.convincing else ", none of which did anything without a cost"


def _rank_note(each: RankedExpert, ranking: Ranking) -> str:
    return (
        f"expert {each.expert}: {ranking.score} {each.score:.3g}, in the top {ranking.top} of "
        f"{each.stability:.0%} of resamples, family-wise chance {each.p_fwe:.2g}, usage "
        f"{each.usage:.1%}"
    )


def _worth(before: State, after: State) -> str:
    """Whether what is newly answered is an answer."""
    new = newly_answered(before.harmless, after.harmless)
    broken = degenerate(new)
    kept = broken <= MOST_DEGENERATE * len(new)
    return (
        f"{'kept' if kept else 'missed'}: {broken} of {len(new)} newly answered prompts have "
        f"answers that are empty or repeat themselves (at most {MOST_DEGENERATE:.0%} demanded)"
    )


def _parameters(work: ExpertSteering, proposal: Proposal) -> dict[str, str]:
    held_out = [each.text for prompts in work.held_out.harmful.values() for each in prompts]
    return {
        "direction": work.direction, "method": str(work.method),
        "experts": proposal.intervention.described, "score": str(proposal.contrasted.ranking.score),
        "token_set": str(work.token_set), "sizes": " ".join(map(str, work.sizes)),
        "controls": str(work.controls), "margin": f"{work.margin:g}", "seed": str(work.seed),
        "judge": f"{work.asking.judge.name} {work.asking.judge.version}",
        "judged_tokens": str(work.asking.new_tokens), "chat": str(work.asking.chat),
        "harmful": text_digest(each.text for each in work.harmful),
        "harmless": text_digest(each.text for each in work.harmless),
        "held_out_harmful": text_digest(held_out),
        "held_out_harmless": text_digest(each.text for each in work.held_out.harmless),
    }  # fmt: skip
