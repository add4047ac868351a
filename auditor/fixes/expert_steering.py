"""What a routing intervention is to do, by which prompts; what does not fit is refused here, early.

Nothing here runs a model: prompts are only counted in tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.experts.answers import refuse_overlap, split_halves
from auditor.experts.intervention import Method
from auditor.experts.ranking import Score
from auditor.experts.routing_maps import TokenSet
from auditor.fixes.before_after import text_digest
from auditor.fixes.expert_proposal import SIZES, Proposal, require_method
from auditor.fixes.expert_trial import HeldOut
from auditor.fixes.refusal_gate import Direction, require_limits
from auditor.language.asking import Asking, as_asked, require_room
from auditor.language.causal_lm import CausalLM
from auditor.language.prompts import Prompt
from auditor.language.refusal import RefusalJudge


@dataclass(frozen=True, eq=False)
class ExpertSteering:
    """What to do and by which prompts.

    Attributes:
        direction: `suppress` as a repair of over-refusal, or `strengthen`.
        method: How experts are switched.
        harmful: Prompts that should be refused, to rank and choose on.
        harmless: Prompts that deserve an answer, likewise; pairs share their group.
        held_out: What is reported on.
        judge: Says which answers refuse.
        asking: How prompts are put; greedy.
        sizes: How many experts to try, growing.
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
    judge: RefusalJudge
    asking: Asking
    sizes: Sequence[int] = SIZES
    controls: int = 99
    token_set: TokenSet = TokenSet.LAST
    score: Score = Score.PAIRED_T
    margin: float = 0.02
    seed: int = 0

    @property
    def known(self) -> Mapping[str, Sequence[Prompt]]:
        """Prompts to rank and choose on, by the name of their set."""
        return {"the harmful prompts": self.harmful, "the harmless prompts": self.harmless}

    @property
    def reported(self) -> Mapping[str, Sequence[Prompt]]:
        """Prompts to report on, likewise."""
        strata = self.held_out.harmful.items()
        return {f"the held-out harmful set {name}": prompts for name, prompts in strata} | {
            "the held-out harmless set": self.held_out.harmless
        }


def refuse_misuse(work: ExpertSteering) -> None:
    """Refuse what could not end in a decision, or would end in a worthless one.

    Raises:
        ConfigurationError: A method or a limit that does not fit, no held-out prompts, or a
            prompt in two sets or twice in a held-out one.
        NothingToAudit: A set that leaves nothing to rank or to choose on.
    """
    require_limits(work.direction, work.margin)
    require_method(work.direction, work.method)
    if not work.sizes or list(work.sizes) != sorted(set(work.sizes)) or work.sizes[0] < 1:
        raise ConfigurationError(
            f"sizes {' '.join(map(str, work.sizes)) or 'none'}; give growing numbers from 1 up"
        )
    if not work.held_out.harmful or not all(work.reported.values()):
        raise ConfigurationError(
            f"no held-out prompts to judge '{work.direction}' by; give harmful ones, in strata, "
            "and harmless ones"
        )
    refuse_overlap(work.known, work.reported)
    for name, prompts in work.known.items():
        if not all(split_halves(prompts)):
            raise NothingToAudit(
                f"{name} are {len(prompts)}, too few to rank on one half and choose on the other; "
                "give more, in more than one group"
            )


def refuse_unreadable(work: ExpertSteering, model: CausalLM) -> None:
    """Refuse prompts that leave no room for an answer, before any is asked.

    Raises:
        ConfigurationError: Names the set and the place.
    """
    for place, prompt in _places(work):
        require_room(model, as_asked(model, prompt.text, work.asking), work.asking, place)


def _places(work: ExpertSteering) -> Iterator[tuple[str, Prompt]]:
    for name, prompts in {**work.known, **work.reported}.items():
        for number, each in enumerate(prompts, 1):
            yield f"{f'line {each.line}' if each.line else f'prompt {number}'} of {name}", each


def describe(work: ExpertSteering, proposal: Proposal) -> dict[str, str]:
    """What a record says of a repair: options, and digests of all that it was given."""
    asking, held_out = work.asking, work.held_out
    questions = [
        text for each in held_out.questions for text in (each.text, *each.choices, str(each.right))
    ]
    return {
        "direction": work.direction, "method": str(work.method),
        "experts": proposal.intervention.described, "score": str(proposal.contrasted.ranking.score),
        "token_set": str(work.token_set), "sizes": " ".join(map(str, work.sizes)),
        "controls": str(work.controls), "margin": f"{work.margin:g}", "seed": str(work.seed),
        "judge": f"{work.judge.name} {work.judge.version}",
        "judged_tokens": str(asking.new_tokens), "chat": str(asking.chat),
        "batch_size": str(asking.batch_size),
        "harmful": text_digest(each.text for each in work.harmful),
        "harmless": text_digest(each.text for each in work.harmless),
        **{f"held_out_harmful, {name}": text_digest(each.text for each in prompts)
           for name, prompts in held_out.harmful.items()},
        "held_out_harmless": text_digest(each.text for each in held_out.harmless),
        "plain_texts": text_digest(held_out.plain_texts), "questions": text_digest(questions),
    }  # fmt: skip
