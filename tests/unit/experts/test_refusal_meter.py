"""First tokens of refusals are learned, counted under interventions, and held against the judge."""

from __future__ import annotations

import pytest

from auditor.errors import NothingToAudit
from auditor.experts.intervention import Intervention, Method
from auditor.experts.refusal_meter import Answer, learn_meter
from auditor.experts.routers import find_routers
from auditor.experts.steering import steered
from auditor.intervals import Share
from auditor.language.causal_lm import CausalLM
from tests.models.planted_moe import PlantedMoe, write_planted_moe
from tests.models.planted_moe_record import HELP, IDS, REFUSAL

NO, YES = (tuple(IDS[word] for word in text.split()) for text in (REFUSAL, HELP))
ANSWERS = [Answer(NO, True), Answer(NO, True), Answer(YES, False), Answer((), False)]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[PlantedMoe, CausalLM]:
    moe = write_planted_moe(tmp_path_factory.mktemp("planted"))
    return moe, CausalLM.open(moe.folder)


def test_tokens_are_those_that_begin_refusals(planted: tuple[PlantedMoe, CausalLM]) -> None:
    """Not those that only stand in them; a silent answer begins with none."""
    meter = learn_meter(planted[1], ANSWERS)
    assert meter.tokens == (IDS["i"],)
    assert meter.agreement == Share(4, 4)
    assert meter.told(ANSWERS) == (Share(2, 2), Share(2, 2))


def test_the_rarer_side_is_not_outvoted(planted: tuple[PlantedMoe, CausalLM]) -> None:
    """One refusal begins with what a tenth of forty answers begins with, too."""
    answers = [Answer((7,), True), *[Answer((7,), False)] * 4, *[Answer((8,), False)] * 36]
    meter = learn_meter(planted[1], answers)
    assert meter.tokens == (7,)
    assert meter.agreement == Share(37, 41)
    assert meter.told(answers) == (Share(1, 1), Share(36, 40))


def test_refusals_that_begin_as_answers_do_are_not_told(
    planted: tuple[PlantedMoe, CausalLM],
) -> None:
    """Three of 33 answers: missing all refusals is nearly agreeing, and shows all the same."""
    answers = [*[Answer((7, 1), True)] * 3, *[Answer((7, 2), False)] * 30]
    meter = learn_meter(planted[1], answers)
    assert meter.tokens == ()
    assert meter.agreement == Share(30, 33)
    assert meter.told(answers) == (Share(0, 3), Share(30, 30))


@pytest.mark.parametrize("refused", [0, 3])
def test_without_both_kinds_there_is_nothing_to_study(
    planted: tuple[PlantedMoe, CausalLM], refused: int
) -> None:
    answers = [Answer(NO, number < refused) for number in range(3)]
    with pytest.raises(NothingToAudit, match=f"^{refused} of 3 answers refuse.*no behaviour to"):
        learn_meter(planted[1], answers)
    with pytest.raises(NothingToAudit, match="0 of 0 answers refuse"):
        learn_meter(planted[1], [])


def test_refusals_are_counted_as_they_are_planted(planted: tuple[PlantedMoe, CausalLM]) -> None:
    """Untouched and with the carrier off, in batches that do not divide the prompts."""
    moe, model = planted
    meter = learn_meter(model, ANSWERS, batch_size=50)
    prompts = [model.chat(prompt.text) for prompt in moe.prompts]
    for off in (None, Intervention(Method.ZERO_OUTPUT, off=frozenset(moe.carriers))):
        expected = [moe.refused(prompt, off) for prompt in moe.prompts]
        if off is None:
            assert meter.refused(prompts).tolist() == expected
            continue
        with steered(find_routers(model.model), off):
            assert meter.refused(prompts).tolist() == expected


def test_no_prompts_are_no_refusals(planted: tuple[PlantedMoe, CausalLM]) -> None:
    """A half may be empty."""
    assert learn_meter(planted[1], ANSWERS).refused([]).tolist() == []
