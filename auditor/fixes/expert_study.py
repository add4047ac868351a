"""What is found out before held-out prompts are asked: answers, a ranking, and a choice of experts.

The prompts that are given to rank and to choose on are split in halves by their group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from auditor.experts.answers import Asked, ask, split_halves
from auditor.experts.contrasted import contrast_experts
from auditor.experts.ranking import Score
from auditor.experts.refusal_meter import Answer, RefusalMeter, learn_meter
from auditor.experts.routers import RoutedModel
from auditor.experts.routing_maps import Expert
from auditor.fixes.expert_distance import distance_meter
from auditor.fixes.expert_proposal import Proposal, propose
from auditor.fixes.expert_steering import ExpertSteering
from auditor.language.causal_lm import CausalLM
from auditor.language.prompts import Prompt


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and what is to become of it."""

    model: CausalLM
    routed: RoutedModel
    work: ExpertSteering
    progress: Callable[[str], None]

    def ask(self, part: str, prompts: list[Prompt]) -> list[Asked]:
        """Answers of the untouched model."""
        self.progress(f"{len(prompts)} {part} prompts to the untouched model")
        return ask(self.model, prompts, self.work.judge, self.work.asking)


@dataclass(frozen=True, eq=False)
class Known:
    """Answers of the untouched model to prompts that are not reported on.

    Attributes:
        ranking: To rank on, harmful and harmless ones.
        choice: To choose on, likewise.
        meter: First tokens of refusals, by all of these answers.
    """

    ranking: tuple[list[Asked], list[Asked]]
    choice: tuple[list[Asked], list[Asked]]
    meter: RefusalMeter


def learn(subject: Subject) -> Known:
    """Ask what is not held out, in halves.

    Raises:
        NothingToAudit: The model refuses everything or nothing: there is no behaviour to study.
    """
    work = subject.work
    harmful, harmless = split_halves(work.harmful), split_halves(work.harmless)
    ranking = subject.ask("harmful", harmful[0]), subject.ask("harmless", harmless[0])
    choice = subject.ask("harmful", harmful[1]), subject.ask("harmless", harmless[1])
    answers = [Answer(each.answer, each.refused)
               for side in (*ranking, *choice) for each in side]  # fmt: skip
    return Known(ranking, choice, learn_meter(subject.model, answers, work.asking.batch_size))


def propose_for(subject: Subject, known: Known) -> Proposal:
    """Rank on one half, choose on the other.

    Raises:
        NothingToAudit: Fewer than two prompts to rank on are refused, or answered.
    """
    work = subject.work
    subject.progress("ranking experts")
    contrasted = contrast_experts(
        subject.model, subject.routed, contrasted_side(subject, known), work.token_set,
        score=work.score, seed=work.seed,
    )  # fmt: skip
    harmful, harmless = known.choice
    return propose(
        subject.routed, contrasted, work.direction, work.method,
        [each.text for each in harmful], [each.text for each in harmless], known.meter,
        distance_meter(subject.model, harmless, subject.routed), sizes=work.sizes,
        margin=work.margin, progress=subject.progress,
    )  # fmt: skip


def contrasted_side(subject: Subject, known: Known) -> list[Asked]:
    """Answers that experts were ranked on: the side whose refusals are to change."""
    return known.ranking[1 if subject.work.direction == "suppress" else 0]


def confounded_experts(subject: Subject, known: Known) -> frozenset[Expert]:
    """Experts that tell what is refused from what is answered, harmful or not: no controls."""
    # Groups pair prompts of one set; the same name in the other set pairs nothing.
    mixed = [
        each._replace(prompt=replace(each.prompt, group=""))
        for side in known.ranking for each in side
    ]  # fmt: skip
    ranking = contrast_experts(
        subject.model, subject.routed, mixed, subject.work.token_set, score=Score.MOTE_SHARES,
        seed=subject.work.seed,
    ).ranking  # fmt: skip
    return ranking.significant
