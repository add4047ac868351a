"""What a held-out prompt leaves no room for is rejected with its reason, and ends no run."""

from __future__ import annotations

from pathlib import Path

from auditor.experts.intervention import Intervention, Method
from auditor.experts.refusal_meter import RefusalMeter
from auditor.experts.routers import find_routers
from auditor.experts.routing_maps import Expert
from auditor.fixes.expert_evaluation import evaluate
from auditor.fixes.expert_proposal import Proposal
from auditor.fixes.expert_sets import Tried
from auditor.fixes.expert_steering import ExpertSteering
from auditor.fixes.expert_study import Known, Subject
from auditor.fixes.expert_trial import HeldOut
from auditor.intervals import Share
from auditor.language.asking import Asking
from auditor.language.causal_lm import CausalLM
from auditor.language.prompts import Prompt
from auditor.language.refusal import MarkerJudge
from tests.models.hand_rankings import hand_contrasted, hand_ranking
from tests.models.language_models import save_folder, word_tokenizer
from tests.models.moe_families import GROUPED, VOCABULARY, small_moe


def test_experts_that_a_held_out_prompt_leaves_no_room_for_are_rejected(tmp_path: Path) -> None:
    """Two of a group of four are masked, and some token needs three of that group.

    The prompts to choose on, of which there are none here, did not show it.
    """
    words = tuple(f"w{number}" for number in range(VOCABULARY - 4))
    tokenizer = word_tokenizer(vocabulary=("<pad>", "<s>", "</s>", "<unk>", *words))
    save_folder(tmp_path / "lm", small_moe("deepseek_v3", **GROUPED), tokenizer)
    model = CausalLM.open(tmp_path / "lm")
    held_out = HeldOut(
        {"plain": [Prompt(f"{word} w1 w2") for word in words]}, [Prompt("w3 w4"), Prompt("w5")]
    )
    work = ExpertSteering(
        "suppress", Method.MASK_LOGIT, [], [], held_out, MarkerJudge(("^w1",)), Asking(2)
    )
    off = frozenset({Expert(1, 0), Expert(1, 1)})
    proposal = Proposal(
        Intervention(Method.MASK_LOGIT, off), hand_contrasted(hand_ranking(sorted(off), 3, 8)),
        Tried(off, 5, 0, -5), (Tried(off, 5, 0, -5),), convincing=True,
    )  # fmt: skip
    known = Known(([], []), ([], []), RefusalMeter(model, (1,), Share(0, 0)))
    subject = Subject(model, find_routers(model.model), work, lambda text: None)
    found = evaluate(subject, known, proposal)
    noise, condition = found.conditions
    assert (noise.control_of, len(noise.comparisons)) == (condition.name, 2)
    assert (condition.name, condition.comparisons) == (proposal.intervention.described, ())
    choice, missed = found.reasons
    assert choice == proposal.reason
    assert missed.startswith("missed: a held-out prompt leaves these experts no room: so many ")
    assert missed.endswith("switch fewer off")
    assert condition.notes == (f"not measured: {missed.split('no room: ')[1]}",)
    assert not found.accepted
