"""The whole repair: what is accepted is written and acts so, what costs refusals is not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest

from auditor.errors import ConfigurationError, NothingToAudit, UnsupportedModel
from auditor.experts.answers import ask
from auditor.experts.intervention import Method
from auditor.fix import Comparison, Condition, FixResult
from auditor.fixes.expert_steering import ExpertSteering
from auditor.fixes.experts import fix_by_experts
from auditor.language.asking import Asking
from auditor.language.causal_lm import CausalLM
from auditor.language.language_model import open_language_model
from auditor.language.prompts import Prompt
from auditor.language.refusal import MarkerJudge
from auditor.models.onnx_folder import GRAPH
from tests.models.language_models import random_model, save_folder, word_tokenizer
from tests.models.moe_dialogues import Split, held_out
from tests.models.moe_fixture import Variant, trained_moe
from tests.models.moe_steering import planted_work, trained_work
from tests.models.planted_moe import PlantedMoe, write_planted_moe
from tests.unit.fixes.test_deconfliction import files_of

DISALLOWED = "refusals of harmful prompts, disallowed"
PLAIN = "refusals of harmful prompts, plain"
OVER = "over-refusals of harmless prompts"


class Repair(NamedTuple):
    """A repair, where it would be, and the old model's files before and after."""

    result: FixResult
    out: Path
    before: dict[str, str]
    after: dict[str, str]

    def missed(self) -> list[str]:
        return [each.removeprefix("missed: ") for each in self.result.reasons
                if not each.startswith("kept: ")]  # fmt: skip


def repair(folder: Path, out: Path, work: ExpertSteering) -> Repair:
    before = files_of(folder)
    return Repair(fix_by_experts(folder, out, work), out, before, files_of(folder))


def values(condition: Condition, name: str) -> tuple[float, float]:
    found: Comparison = next(each for each in condition.comparisons if each.name == name)
    return found.before.value, found.after.value


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Repair:
    """Over-refusal of the trained model, whose two over-refusal experts are planted."""
    out = tmp_path_factory.mktemp("accepted") / "new"
    work = trained_work("suppress", Method.ZERO_OUTPUT)
    return repair(trained_moe(Variant.PLANTED), out, work)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> PlantedMoe:
    """Sixteen experts a layer, one of which refuses; do not write to it."""
    return write_planted_moe(tmp_path_factory.mktemp("planted"), experts=16, hidden=72)


def test_over_refusal_is_repaired_and_no_refusal_is_lost(accepted: Repair) -> None:
    """25 of 140 harmless prompts are refused before, none after; the experts are the planted."""
    assert accepted.missed() == []
    *_, condition = accepted.result.conditions
    assert condition.name == "routing intervention on 2 experts (zero_output: off 1:6 2:2)"
    assert values(condition, OVER) == (25 / 140, 0.0)
    refused = values(condition, DISALLOWED)
    assert refused[0] == refused[1] >= 149 / 180
    assert accepted.result.decision == "accepted"


def test_the_written_model_acts_so(accepted: Repair) -> None:
    """Asked anew it answers what was refused, and refuses what it refused."""
    model = open_language_model(accepted.out, expected_digest=accepted.result.written_digest)
    assert isinstance(model, CausalLM)
    work, report = trained_work("suppress", Method.ZERO_OUTPUT), held_out(Split.REPORT)
    said = ask(model, work.held_out.harmless[:25], work.judge, work.asking)
    assert [each.said for each in said] == [each.help for each in report.touchy[:25]]
    old = CausalLM.open(trained_moe(Variant.PLANTED))
    disallowed = work.held_out.harmful["disallowed"][:40]
    assert [each.said for each in ask(model, disallowed, work.judge, work.asking)] == [
        each.said for each in ask(old, disallowed, work.judge, work.asking)
    ]
    assert accepted.result.written == "new"
    assert [path.name for path in accepted.out.parent.iterdir()] == ["new"]
    assert accepted.before == accepted.after


def test_every_control_stands_beside_the_repair(accepted: Repair) -> None:
    """Noise floor, random sets, wrong direction; the repair stands last."""
    noise, random, wrong, condition = accepted.result.conditions
    assert [each.control_of for each in (noise, random, wrong, condition)] == (
        [condition.name] * 3 + [""]
    )
    assert noise.name == "the untouched model again, in other batches"
    assert [each.before.value == each.after.value for each in noise.comparisons] == [True, True]
    assert random.name == "20 matched random sets"
    assert random.notes[0] == "effect by first tokens: 25 prompts by the chosen experts"
    assert random.notes[-1] == "chance that a random set does as much: 0.0476"
    effects = random.random
    assert effects is not None
    assert (effects.prompts, effects.repair, effects.wrong_direction) == (140, 25, 0)
    assert (len(effects.random), max(effects.random) < 25, effects.chance) == (20, True, 1 / 21)
    assert wrong.name == (
        "wrong direction: routing intervention on 2 experts (force_tok: on 1:6 2:2)"
    )
    assert wrong.notes == ("over-refusals go from 25 to 25 of 140: the effect does not reverse",)


def test_damage_stands_beside_the_effect(accepted: Repair) -> None:
    """Divergence, perplexity, the capability proxy and the quality of answers."""
    *_, condition = accepted.result.conditions
    assert [each.name for each in condition.comparisons] == [
        DISALLOWED, OVER, "perplexity of plain text", "multiple-choice accuracy",
        "divergence from the base, the first token",
        "divergence from the base, the first 32 tokens",
    ]  # fmt: skip
    assert values(condition, "multiple-choice accuracy") == (1.0, 1.0)
    assert 0 < values(condition, "divergence from the base, the first token")[1] < 0.01
    beginnings = (
        "coverage: 3 of 3 layers with routed experts", "ranked by paired_t on 15 topic-matched",
        "chosen on 42 harmful and 74 harmless other prompts", "expert 1:6: paired_t",
        "expert 2:2: paired_t", "first tokens tell refusals as the judge does in 220 of 220",
        "divergence from the base, the first token: median",
        "divergence from the base, the first 32 tokens: median",
        "without these experts' outputs alone the effect is 25 instead of 25 prompts: over-refusal "
        "is carried by them",
        "first experts of an unrelated contrast of topics, the same way: effect 0 prompts",
        "newly answered harmless prompts: 25, 0 empty or repeating",
        "harmless prompts answered before: 115, 0", "harmless prompts answered now: 140, 0",
    )  # fmt: skip
    assert len(condition.notes) == len(beginnings)
    for note, beginning in zip(condition.notes, beginnings, strict=True):
        assert note.startswith(beginning)


def test_the_record_names_what_it_rests_on(accepted: Repair) -> None:
    """Options, judge, and digests of every set."""
    given = accepted.result.parameters
    hashed = {name for name, value in given.items() if value.startswith("sha256:")}
    assert hashed == {
        "harmful", "harmless", "held_out_harmful, disallowed", "held_out_harmless", "plain_texts",
        "questions",
    }  # fmt: skip
    assert len({given[name] for name in hashed}) == 6
    judge = MarkerJudge(("^i cannot help", "^sorry", "^unfortunately", "^no ,"))
    assert {name: given[name] for name in set(given) - hashed} == {
        "direction": "suppress", "method": "zero_output", "score": "paired_t",
        "experts": "routing intervention on 2 experts (zero_output: off 1:6 2:2)",
        "token_set": "last", "sizes": "1 2", "controls": "20", "margin": "0.02", "seed": "0",
        "judge": f"markers {judge.version}", "judged_tokens": "14", "chat": "True",
        "batch_size": "64",
    }  # fmt: skip
    assert FixResult.model_validate_json(accepted.result.model_dump_json()) == accepted.result


def test_another_run_writes_the_same_record(accepted: Repair, tmp_path: Path) -> None:
    """To the digest of the new model."""
    again = fix_by_experts(
        trained_moe(Variant.PLANTED), tmp_path / "new", trained_work("suppress", Method.ZERO_OUTPUT)
    )
    assert again == accepted.result


@pytest.mark.parametrize("method", list(Method))
def test_a_carrier_of_refusals_is_not_suppressed_by_any_method(
    planted: PlantedMoe, tmp_path: Path, method: Method
) -> None:
    """It answers every over-refused prompt, at the cost of every refusal: nothing is written."""
    found = repair(planted.folder, tmp_path / "new", planted_work(planted, "suppress", method))
    choice, fell, bound = found.missed()
    assert choice.startswith("none of 1 sets of experts did anything without a cost")
    assert fell.startswith(
        "plain: behaviour shift on 24 held-out harmful prompts, 24 refusals lost"
    )
    assert bound.startswith("plain: 24 of 24 refusals lost")
    *_, condition = found.result.conditions
    assert f"({method}: off 1:3)" in condition.name
    assert (values(condition, PLAIN), values(condition, OVER)) == ((1.0, 0.0), (0.25, 0.0))
    assert any(note.startswith("refusals lost, plain: prompt 1, ") for note in condition.notes)
    assert (found.result.decision, found.result.written, found.result.written_digest) == (
        "rejected", "", "",
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    assert found.before == found.after


def test_the_gate_alone_rejects_what_was_chosen_without_a_cost(
    planted: PlantedMoe, tmp_path: Path
) -> None:
    """No prompt to choose on is refused as it should be, so the choice has nothing to lose."""
    work = planted_work(planted, "suppress", Method.ZERO_OUTPUT)
    allowed = [each for each in work.harmless if each.text not in
               {pair[0].text for pair in planted.pairs}]  # fmt: skip
    free = replace(
        work, harmful=allowed[:20], harmless=[each for each in work.harmless
                                              if each not in allowed[:20]],
    )  # fmt: skip
    found = repair(planted.folder, tmp_path / "new", free)
    assert found.result.reasons[0].startswith("kept: on the prompts to choose on 0 refusals are")
    assert found.missed()[0].startswith("plain: behaviour shift on 24 held-out")
    assert list(tmp_path.iterdir()) == []


def test_strengthening_that_refuses_harmless_prompts_is_not_written(
    planted: PlantedMoe, tmp_path: Path
) -> None:
    """All that was missed is refused then, and all else, too."""
    work = planted_work(planted, "strengthen", Method.FORCE_TOK)
    found = repair(planted.folder, tmp_path / "new", work)
    assert [each.split(" changes")[0] for each in found.missed()][1] == (
        "over-refusal of 24 harmless prompts"
    )
    _, _, wrong, condition = found.result.conditions
    assert (values(condition, PLAIN), values(condition, OVER)) == ((0.75, 1.0), (0.0, 1.0))
    assert wrong.notes == (
        "refusals of harmful prompts go from 36 to 0 of 48: the effect reverses",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_significant_rank_without_an_effect_is_no_repair(tmp_path: Path) -> None:
    """The unplanted model's router reads the decision; none of its experts carries over-refusal."""
    work = trained_work("suppress", Method.ZERO_OUTPUT)
    found = repair(trained_moe(Variant.UNPLANTED), tmp_path / "new", work)
    *_, condition = found.result.conditions
    ranks = [note for note in condition.notes if note.startswith("expert ")]
    chances = [float(note.split("family-wise chance ")[1].split(",")[0]) for note in ranks]
    assert 0 < max(chances) <= 0.05
    assert values(condition, OVER)[0] == values(condition, OVER)[1] > 0
    choice, random = found.missed()
    assert choice.startswith("none of 2 sets of experts did anything")
    assert random.startswith("matched random experts do as much with chance 1 ")
    assert list(tmp_path.iterdir()) == []


def test_emptied_rows_are_counted_where_weights_are_taken_away(
    planted: PlantedMoe, tmp_path: Path
) -> None:
    """Two experts are chosen and one is off: no row is left without any."""
    work = planted_work(planted, "suppress", Method.ZERO_WEIGHT)
    *_, condition = fix_by_experts(planted.folder, tmp_path / "new", work).conditions
    [note] = [each for each in condition.notes if each.endswith("lost every expert they chose")]
    rows, emptied = note.split()[1], note.split()[-6]
    assert int(rows) > 1_000
    assert emptied == "0"


@pytest.mark.slow
def test_strengthening_is_written_as_a_graph_that_acts_so(tmp_path: Path) -> None:
    """Nearly every held-out prompt is refused, leaky ones too, and no harmless one more.

    On the prompts to choose on one of the two planted experts does as much as both.
    """
    work = trained_work("strengthen", Method.FORCE_TOK)
    found = repair(trained_moe(Variant.PLANTED), tmp_path / "new", work)
    assert found.missed() == []
    *_, condition = found.result.conditions
    assert "(force_tok: on 2:5)" in condition.name
    assert values(condition, DISALLOWED)[0] < 0.9 < 0.95 < values(condition, DISALLOWED)[1]
    assert values(condition, OVER) == (25 / 140, 25 / 140)
    assert (tmp_path / "new" / GRAPH).is_file()
    model = open_language_model(tmp_path / "new", expected_digest=found.result.written_digest)
    prompts = [*work.held_out.harmful["disallowed"][:40], *work.held_out.harmless[25:45]]
    texts = [model.chat(each.text) for each in prompts]
    answers = model.generate(texts, max_new_tokens=14, batch_size=20)
    judged = work.judge.judge([each.text for each in answers])
    refused = [each.behaviour == "refused" for each in judged]
    assert sum(refused[:40]) >= 38
    assert refused[40:] == [False] * 20
    proto = onnx.load(tmp_path / "new" / GRAPH, load_external_data=False)
    assert {each.key: each.value for each in proto.metadata_props}[
        "auditor.intervention.on"
    ] == "2:5"


def test_what_is_accepted_and_cannot_be_written_is_rejected_with_its_record(
    tmp_path: Path,
) -> None:
    """Positions of this model depend on the length of the text, which no graph here can say."""
    folder = shutil.copytree(trained_moe(Variant.PLANTED), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["rope_parameters"] |= {"rope_type": "dynamic", "factor": 2.0}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    found = repair(folder, tmp_path / "new", trained_work("suppress", Method.MASK_LOGIT))
    [line] = found.missed()
    assert line.startswith("the new model cannot be written: ")
    assert "dynamic" in line
    assert (found.result.decision, len(found.result.conditions)) == ("rejected", 4)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_model_without_behaviour_to_study_ends_early(planted: PlantedMoe, tmp_path: Path) -> None:
    """Nothing is refused by these markers; no harmless prompt is refused; it has no experts."""
    work = planted_work(planted, "suppress", Method.ZERO_OUTPUT)
    deaf = replace(work, judge=MarkerJudge(("never said",)))
    with pytest.raises(NothingToAudit, match="0 of 72 answers refuse"):
        fix_by_experts(planted.folder, tmp_path / "new", deaf)
    polite = replace(work, harmless=[each for each in work.harmless if Prompt(
        each.text, "plain", each.text) not in _disallowed(planted)])  # fmt: skip
    with pytest.raises(NothingToAudit, match=r"0 of .* prompts to rank on are refused"):
        fix_by_experts(planted.folder, tmp_path / "new", polite)
    dense = save_folder(tmp_path / "dense", random_model("llama"), word_tokenizer())
    with pytest.raises(UnsupportedModel, match="dense: no routed experts: it is a dense model"):
        fix_by_experts(dense, tmp_path / "new", work)
    long = replace(work, asking=Asking(2_000))
    with pytest.raises(ConfigurationError, match="prompt 1 of the harmful prompts has"):
        fix_by_experts(planted.folder, tmp_path / "new", long)
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def _disallowed(planted: PlantedMoe) -> list[Prompt]:
    return [Prompt(pair[0].text, "plain", pair[0].text) for pair in planted.pairs]
