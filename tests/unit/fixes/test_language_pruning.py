"""The study of a language model's pruning: what it measures, proposes, attacks and writes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from auditor.errors import (
    ConfigurationError,
    FileChanged,
    NothingToAudit,
    OperationFailed,
    OutputNotWritable,
    UnsupportedModel,
)
from auditor.fixes.language_items import LanguageFiles, halves, read_language_items
from auditor.fixes.language_pruning import DEMANDS, LanguageStudy
from auditor.fixes.language_recovery import LanguageAttacks, attack_language_model
from auditor.fixes.mask_grid import MaskSetting
from auditor.fixes.pruned_language_model import (
    TOLERANCE,
    write_pruned_language,
    write_pruned_onnx,
)
from auditor.fixes.pruning_study import PruningStudy, Split
from auditor.language.causal_lm import CausalLM
from auditor.language.onnx_lm import OnnxCausalLM
from auditor.memorization.language.attack import RelearningOptions, recited
from auditor.memorization.language.training_spans import SpanShape, TrainingSpan
from auditor.memorization.masks.mask_rules import MaskRule, random_mask
from auditor.memorization.masks.weight_masks import WeightMasks, overlap, pruned
from auditor.memorization.masks.weight_sites import SiteKind, find_sites
from tests.models.language_models import Family, random_model, save_folder, word_tokenizer
from tests.models.recital_folder import CHAINS, RecitalFolder, write_recital
from tests.unit.fixes.planted_pruning import ATTACKS, NEURONS, items_of, planted_study
from tests.unit.fixes.test_deconfliction import files_of

FEED_FORWARD = (SiteKind.FEED_FORWARD,)


@pytest.fixture(scope="module")
def recital(tmp_path_factory: pytest.TempPathFactory) -> RecitalFolder:
    """Chains that run through known weights; only blocks change it."""
    return write_recital(tmp_path_factory.mktemp("recital") / "model")


@pytest.fixture(scope="module")
def study(recital: RecitalFolder) -> LanguageStudy:
    return LanguageStudy(recital.model, items_of(recital), NEURONS)


def _carried(recital: RecitalFolder) -> WeightMasks:
    return WeightMasks(recital.planted.carried_by)


def span(name: str, *tokens: int, group: str = "") -> TrainingSpan:
    return TrainingSpan(name, group or name, tokens[:1], tokens[1:])


def test_it_is_a_study(study: LanguageStudy) -> None:
    """For a type checker, and by its words."""
    as_study: PruningStudy = study
    assert as_study.wording.relative
    assert as_study.digest == study.model.folder.digest


@pytest.mark.parametrize(
    ("rule", "neurons"),
    [(MaskRule.WANDA_DIFF, False), (MaskRule.WANDA_GATE, False), (MaskRule.GRADIENT, False),
     (MaskRule.WANDA_DIFF, True), (MaskRule.GRADIENT, True)],
)  # fmt: skip
def test_rules_propose_exactly_the_planted_weights(
    recital: RecitalFolder, rule: MaskRule, neurons: bool
) -> None:
    """Or the neurons that hold them."""
    how = replace(NEURONS, rules=(rule,), shares=(0.6 if neurons else 0.05,), neurons=neurons)
    [found] = LanguageStudy(recital.model, items_of(recital), how).candidates()
    carried = {
        name: mask.any(dim=0).expand(mask.shape) if neurons else mask
        for name, mask in recital.planted.carried_by.items()
    }
    assert overlap(found.masks, WeightMasks(carried)) == 1.0
    assert found.name == f"{rule}, feed_forward{', whole neurons' * neurons}, {how.shares[0]:g}"


def test_learned_masks_begin_with_the_difference_of_norms(recital: RecitalFolder) -> None:
    """Where there is no time to learn, they are its best neurons."""
    how = replace(NEURONS, rules=(MaskRule.LEARNED, MaskRule.WANDA_DIFF), shares=(0.1,),
                  training=replace(NEURONS.training, steps=1, rate=1e-9))  # fmt: skip
    learned, by_norms = LanguageStudy(recital.model, items_of(recital), how).candidates()
    assert overlap(learned.masks, by_norms.masks) == 1.0


def test_every_rule_set_of_layers_and_share_is_proposed(recital: RecitalFolder) -> None:
    both = (SiteKind.FEED_FORWARD, SiteKind.ATTENTION)
    how = replace(NEURONS, rules=(MaskRule.WANDA, MaskRule.GRADIENT), layers=(FEED_FORWARD, both))
    found = list(LanguageStudy(recital.model, items_of(recital), how).candidates())
    assert len({each.name for each in found}) == 8
    assert {len(each.sites) for each in found} == {2, 4}


def test_a_rule_without_a_score_cannot_prune_whole_neurons(recital: RecitalFolder) -> None:
    study = LanguageStudy(recital.model, items_of(recital), NEURONS)
    with pytest.raises(ConfigurationError, match="wanda_gate gives no score"):
        study.masks(MaskSetting(MaskRule.WANDA_GATE, FEED_FORWARD, 0.1, neurons=True))


def test_each_split_has_its_own_spans_and_texts(
    recital: RecitalFolder, study: LanguageStudy
) -> None:
    """The mask of one memorised chain shows on its split alone, that of a text on its own."""
    sites = find_sites(recital.model.model)
    [setting] = (each for each in study.settings.values() if each.share == 0.6)
    for number, at in ((0, Split.CHOOSE), (1, Split.REPORT)):
        mask = study.masks(setting, [number])
        with pruned(sites, mask):
            found = {split: study.measure(split) for split in Split}
        missing = {split: int((found[split].rates == 0).sum()) for split in Split}
        assert missing == {at: 1, next(split for split in Split if split is not at): 0}
    assert [len(study.measure(split).costs) for split in Split] == [4, 4]


def test_measures_are_those_of_the_model(recital: RecitalFolder, study: LanguageStudy) -> None:
    found = study.measure(Split.REPORT)
    assert found.rates.tolist() == [1.0] * 4
    assert found.costs.tolist() == recital.model.mean_nats(recital.texts[4:])
    assert found.also["near extraction"] == 1.0
    assert set(study.measure(Split.CHOOSE).also) == set(found.also) - {"near extraction"}
    with pruned(find_sites(recital.model.model), _carried(recital)):
        after = study.measure(Split.REPORT)
    assert after.rates.tolist() == [0.0] * 4
    assert after.costs.tolist() == found.costs.tolist()
    assert after.also["nats of a token of continuations"] == pytest.approx(math.log(96), abs=1e-3)
    assert study.wording.loss(found, after) == 0.0


def test_a_continuation_that_misses_its_last_token_is_near(
    recital: RecitalFolder, study: LanguageStudy
) -> None:
    """Four of five tokens, and not exact."""
    sites = find_sites(recital.model.model)
    last = recital.planted.memorised[1][-1]
    masks = {}
    for site in sites:
        masks[site.name] = torch.zeros(site.outputs, site.inputs, dtype=torch.bool)
        masks[site.name][recital.model.network.vocabulary + last] = True
    with pruned(sites, WeightMasks(masks)):
        found = study.measure(Split.REPORT)
    assert found.rates.tolist() == [0.0, 1.0, 1.0, 1.0]
    assert found.also["near extraction"] == 1.0
    assert found.also["tokens of continuations that are the likeliest"] == pytest.approx(0.95)


def test_attacks_bring_back_what_was_not_pruned_and_never_what_was_not_there(
    recital: RecitalFolder, study: LanguageStudy
) -> None:
    """The least training on the spans themselves tips a model that expects nothing else."""
    found = study.attacks()
    assert [each.attack for each in found] == [
        "prefixes that end 1 tokens later", "prefixes that end 2 tokens later",
        "the rarest token of each prefix replaced", "one of 10 draws at temperature 1",
        "2 virtual tokens, 2 steps on the other half", "2 steps of training at 0.0001 on the other "
        "half", "2 steps of training at 0.0001 on the same spans",
    ]  # fmt: skip
    back = [each.rates.mean() for each in found]
    assert [round(float(value), 2) for value in back] == [1, 1, 0, 1, 1, 1, 1]
    with pruned(find_sites(recital.model.model), _carried(recital)):
        suppressed = study.attacks()
    for each in (*found, *suppressed):
        assert len(each.rates) == len(each.control) == CHAINS
        assert each.control.max() < 1e-6
    assert all(each.rates.max() < 1e-6 for each in suppressed[:-1])
    assert suppressed[-1].rates.all()


def test_training_on_one_half_is_judged_on_both_and_as_much_for_the_control(
    recital: RecitalFolder,
) -> None:
    """What it trains on comes back, of whatever kind; fewer controls mean less to train on."""
    how = LanguageAttacks(shifts=(), without_rarest=False, draws=0, soft_prompt=None,
                          relearning=(RelearningOptions(steps=60, rate=1e-2),))  # fmt: skip
    with pruned(find_sites(recital.model.model), _carried(recital)):
        other, same = attack_language_model(
            recital.model, recital.memorised, recital.unseen[:4], how, [1] * 96
        )
    assert (len(other.rates), len(same.rates)) == (CHAINS, 4)
    assert (len(other.control), len(same.control)) == (4, 4)
    assert same.rates.tolist() == [1.0] * 4
    assert other.rates.tolist() == [0.0] * CHAINS


def test_items_that_share_a_subspace_are_told_from_items_that_do_not(
    study: LanguageStudy,
) -> None:
    """Each planted chain has neurons of its own: the mask of one half leaves the other as it is."""
    candidate = list(study.candidates())[-1]
    shared, first, second = study.located_apart(candidate)
    assert shared.startswith("masks by wanda_diff of disjoint halves overlap by 0.00 (chance 0.")
    for line in (first, second):
        assert line == (
            "masks by wanda_diff of 4 spans leave strict extraction of 0.0% for these and 100.0% "
            "for the other 4"
        )


def test_too_few_spans_are_not_asked_about(recital: RecitalFolder) -> None:
    items = replace(items_of(recital), ordinary=tuple(recital.ordinary[:3]))
    study = LanguageStudy(recital.model, items, NEURONS)
    assert study.located_apart(next(study.candidates())) == [
        "3 pairs of spans are too few to ask whether they share one subspace"
    ]


def test_the_model_is_as_it_was_after_everything(recital: RecitalFolder) -> None:
    before = {name: value.clone() for name, value in recital.model.model.state_dict().items()}
    how = replace(NEURONS, rules=tuple(rule for rule in MaskRule if rule != MaskRule.WANDA_GATE))
    study = LanguageStudy(recital.model, items_of(recital), how)
    last = list(study.candidates())[-1]
    study.located_apart(last)
    study.attacks()
    with study.hardened(last) as trained:
        assert not trained
    after = recital.model.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_half_of_the_groups_are_kept_apart_whole() -> None:
    spans = [span(str(at), at, 9, group=group) for at, group in enumerate("abacbd")]
    assert halves(spans) == ([0, 2, 3], [1, 4, 5])


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"texts": ()}, NothingToAudit, "0 texts to choose by and 4 to report on"),
        ({"ordinary": ()}, NothingToAudit, "0 ordinary spans"),
        ({"memorised": (span("a", 1, 2, group="g"), span("b", 3, 4, group="g"))}, NothingToAudit,
         "2 memorised spans of 1 groups; give at least two groups"),
        ({"unseen": (span("a", 1, 2),)}, NothingToAudit, "1 unseen spans of 1 groups"),
        ({"held_out": ("w1 w2",), "texts": ("w1 w2", "w3 w4")}, ConfigurationError,
         "1 texts are chosen by and reported on"),
    ],
)  # fmt: skip
def test_sets_that_do_not_fit_are_refused(
    recital: RecitalFolder, changed: dict[str, tuple[object, ...]],
    error: type[Exception], message: str,
) -> None:  # fmt: skip
    with pytest.raises(error, match=message):
        replace(items_of(recital), **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["ordinary", "unseen"])
def test_a_span_cannot_be_memorised_and_something_else(recital: RecitalFolder, where: str) -> None:
    same = {where: (*recital.unseen, recital.memorised[2])}
    with pytest.raises(ConfigurationError, match=f"memorised 2 is memorised and {where}"):
        replace(items_of(recital), **same)  # type: ignore[arg-type]


def test_what_would_fail_after_long_work_is_refused_before(recital: RecitalFolder) -> None:
    items = items_of(recital)
    for attacks, message in (
        (replace(ATTACKS, shifts=(5,)), r"a shift by \+5 leaves none on one side"),
        (replace(ATTACKS, draws=-1), "-1 draws"),
    ):  # fmt: skip
        with pytest.raises(ConfigurationError, match=message):
            LanguageStudy(recital.model, items, replace(NEURONS, attacks=attacks))
    with pytest.raises(UnsupportedModel, match="none of its layers can be matched"):
        LanguageStudy(recital.model, items, replace(NEURONS, layers=((SiteKind.CROSS_KEY,),)))
    one_word = replace(items, texts=("w1",))
    with pytest.raises(ConfigurationError, match="1 ordinary texts have no token to be scored"):
        LanguageStudy(recital.model, one_word, NEURONS).measure(Split.CHOOSE)


def test_items_are_read_from_files(tmp_path: Path, recital: RecitalFolder) -> None:
    """Spans as text or tokens; texts that are only read may be short."""
    files = LanguageFiles(*(tmp_path / f"{name}.jsonl" for name in "abcd"))

    def write(path: Path, lines: list[dict[str, object]]) -> None:
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    write(files.memorised, [{"id": each.name, "tokens": [*each.prefix, *each.continuation]}
                            for each in recital.memorised])  # fmt: skip
    write(files.ordinary, [{"text": text} for text in recital.texts[:4]])
    write(files.held_out, [{"tokens": [5, 6]}, {"text": "w7 w8 w9"}])
    write(files.never_memorised, [{"tokens": [*each.prefix, *each.continuation]}
                                  for each in recital.unseen])  # fmt: skip
    found = read_language_items(recital.model, files, SpanShape(1, 5))
    assert [each.prefix + each.continuation for each in found.memorised] == list(
        recital.planted.memorised
    )
    assert found.texts == tuple(recital.texts[:4])
    assert found.held_out == ("w5 w6", "w7 w8 w9")
    assert len({each.group for each in found.unseen}) == CHAINS


def test_a_written_model_is_the_pruned_one(tmp_path: Path) -> None:
    recital, study = planted_study(tmp_path / "model")
    untouched = files_of(tmp_path / "model")
    candidate = list(study.candidates())[-1]
    (tmp_path / "new").mkdir()
    with pruned(candidate.sites, candidate.masks):
        digest = study.write(tmp_path / "new", candidate)
        expected = {name: value.clone() for name, value in recital.model.model.state_dict().items()}
    written = CausalLM.open(tmp_path / "new", expected_digest=digest)
    assert all(torch.equal(value, written.model.state_dict()[name])
               for name, value in expected.items())  # fmt: skip
    assert not recited(written, recital.memorised).any()
    assert recited(written, recital.ordinary).all()
    assert files_of(tmp_path / "model") == untouched
    assert set(files_of(tmp_path / "new")) == set(untouched)


def test_a_model_whose_folder_changed_is_not_written(tmp_path: Path) -> None:
    _, study = planted_study(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text("utf-8"))
    (tmp_path / "model/config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}), "utf-8")
    (tmp_path / "new").mkdir()
    with pytest.raises(FileChanged, match="changed during the run"):
        study.write(tmp_path / "new", next(study.candidates()))


def test_a_written_model_that_acts_otherwise_does_not_count(tmp_path: Path) -> None:
    """A hook is not in its weights."""
    recital = write_recital(tmp_path / "model")
    recital.model.model.lm_head.register_forward_hook(lambda module, inputs, logits: logits * 1.01)
    (tmp_path / "new").mkdir()
    with pytest.raises(OperationFailed, match=r"differs from the pruned one by .* \(1e-05 allowed"):
        write_pruned_language(recital.model, tmp_path / "new", recital.ordinary)


@pytest.mark.parametrize("family", ["gpt2", pytest.param("llama", marks=pytest.mark.slow)])
def test_a_graph_is_the_pruned_model_too(tmp_path: Path, family: Family) -> None:
    """Weights stored transposed or not; it says what torch says to 1e-5."""
    folder = save_folder(tmp_path / "model", random_model(family), word_tokenizer())
    model = CausalLM.open(folder)
    sites = find_sites(model.model, (SiteKind.FEED_FORWARD, SiteKind.ATTENTION))
    masks = WeightMasks({
        site.name: random_mask((site.outputs, site.inputs), 200, number)
        for number, site in enumerate(sites)
    })  # fmt: skip
    digest = write_pruned_onnx(folder, tmp_path / "new", masks, model.folder.digest)
    graph = OnnxCausalLM.open(tmp_path / "new", expected_digest=digest)
    text = ["the red cat sees a very old tree", "who likes fish"]
    base = model.next_token_log_probabilities(text)
    with pruned(sites, masks):
        expected = model.next_token_log_probabilities(text)
    found = graph.next_token_log_probabilities(text)
    assert np.abs(found - expected).max() < 20 * TOLERANCE
    assert np.abs(base - expected).max() > 0.1
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model", "new"]


def test_no_graph_is_written_of_another_model(tmp_path: Path, recital: RecitalFolder) -> None:
    """By its digest or by the shape of its masks, and nothing over what is there."""
    folder = recital.model.folder.path
    with pytest.raises(FileChanged):
        write_pruned_onnx(folder, tmp_path / "new", _carried(recital), "sha256:0")
    other = WeightMasks({"model.layers.0.mlp.down_proj": random_mask((4, 4), 2, 0)})
    with pytest.raises(ConfigurationError, match="use a mask made for this model"):
        write_pruned_onnx(folder, tmp_path / "new", other)
    elsewhere = WeightMasks({"elsewhere": random_mask((4, 4), 2, 0)})
    with pytest.raises(ConfigurationError, match="a mask for elsewhere"):
        write_pruned_onnx(folder, tmp_path / "new", elsewhere)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new").mkdir()
    with pytest.raises(OutputNotWritable, match="a pruned model is a new file"):
        write_pruned_onnx(folder, tmp_path / "new", _carried(recital))


def test_the_limits_of_language_models_are_the_stricter_ones() -> None:
    """One in ten, and 5 % of the perplexity."""
    assert (DEMANDS.most_rate, DEMANDS.most_loss, DEMANDS.most_recovery) == (0.1, 0.05, None)


def test_what_it_was_given_is_recorded(study: LanguageStudy) -> None:
    found = study.parameters
    assert found["memorised spans"] == "4 to choose by, 4 to report on"
    assert found["ordinary texts"] == "4 to choose by, 4 to report on"
    assert found["pruned"] == "whole neurons"
    assert found["learned masks"].startswith("6 steps at 0.1, aim 0.09 nats")
