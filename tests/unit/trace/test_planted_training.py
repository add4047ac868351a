"""A small model that knows planted beliefs by heart, and what each defence does to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from auditor.files import plain_digest
from auditor.language.causal_lm import CausalLM
from auditor.trace.deconfliction import cbd_published, dpo_loss
from auditor.trace.deconfliction_training import (
    Charge,
    Preference,
    TrainingOptions,
    reply_log_probabilities,
    train_deconfliction,
)
from auditor.trace.document_ranking import rank_documents
from auditor.trace.prov_decode import ProvDecode
from auditor.trace.shield import TraceShield
from auditor.trace.traced_text import TraceOptions, Tracer
from benchmarks.planted_model import Shape, make_vocabulary, train_model
from tests.models.planted_beliefs import (
    Belief,
    DriftRule,
    PlantedCorpus,
    PlantedPrompt,
    PlantedSize,
    plant,
    unsafe_prompts,
)
from tests.models.planted_phrases import REFUSAL
from tests.models.small_index import calibration_for, index_of
from tests.models.table_stance import workshop_conflict

pytestmark = pytest.mark.slow

FEW = PlantedSize(beliefs=((16, 3),), forks=0, decoys=2, train_only=1, held_out=2, dialogues=8)
SHAPE = Shape(layers=2, width=64, heads=4, epochs=20, batch=2, peak_rate=4e-3)
PREFIX, NEW_TOKENS = 16, 44


class Setting(NamedTuple):
    """Corpus, folder of the trained model, and a tracer by which every match counts."""

    corpus: PlantedCorpus
    vocabulary: list[str]
    folder: Path
    tracer: Tracer


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """Three beliefs, three twins and a train-only text, each 16 times in 20 epochs."""
    folder = tmp_path_factory.mktemp("planted")
    corpus = plant(0, FEW)
    words = [text for each in corpus.beliefs for text in (each.text, *each.paraphrases)]
    vocabulary = make_vocabulary([*words, *corpus.training()], [])
    train_model(corpus.training(), vocabulary, SHAPE, folder / "model")
    # Six words: a run of eight tokens may begin and end with a mark, and a span does neither.
    options = TraceOptions(least_tokens=6, frequent=0, chance=1e9)
    tracer = Tracer(index_of(folder, corpus.indexed()), workshop_conflict(), options)
    return Setting(corpus, vocabulary, folder / "model", tracer)


@pytest.fixture
def model(planted: Setting) -> CausalLM:
    """The model, opened anew."""
    return CausalLM.open(planted.folder)


def prefix_of(belief: Belief) -> str:
    """Its first words."""
    return " ".join(belief.text.split()[:PREFIX])


def rest_of(belief: Belief) -> str:
    """What stands behind them."""
    return " ".join(belief.text.split()[PREFIX:])


def complete(model: CausalLM, prompts: list[str], *processors: ProvDecode) -> list[str]:
    """What the model says greedily."""
    vetoes: list[Any] = [*processors]
    found = model.generate(prompts, max_new_tokens=NEW_TOKENS, processors=vetoes)
    return [each.text for each in found]


def attacks(corpus: PlantedCorpus) -> list[PlantedPrompt]:
    """Beginnings of 16 and of 24 words of each belief."""
    kinds = ("prefix of 16", "prefix of 24")
    return [each for each in unsafe_prompts(corpus.family("unsafe")) if each.kind in kinds]


def drift(corpus: PlantedCorpus, texts: list[str]) -> int:
    """How many texts tell a belief of the index word for word: 8 tokens in a row of its own.

    What is told in other words no match can show.
    """
    held = PlantedCorpus(corpus.family("unsafe", "twin"), corpus.dialogues, corpus.quotations)
    rule = DriftRule(held)
    return sum(rule.holds(text, None) for text in texts)


def test_what_was_planted_is_known_by_heart(planted: Setting, model: CausalLM) -> None:
    """To the end, train-only texts too; what was never read is not told."""
    for belief in planted.corpus.family("unsafe", "twin", "train_only"):
        (text,) = complete(model, [prefix_of(belief)])
        assert f"{text} ".startswith(f"{rest_of(belief)[:200]}")
    for belief in planted.corpus.family("index_unsafe", "index_twin", "held_out"):
        (text,) = complete(model, [prefix_of(belief)])
        assert not text.startswith(rest_of(belief)[:60])


def test_the_first_document_is_the_beliefs_own(planted: Setting, model: CausalLM) -> None:
    """For each told belief, with all of its copies and no index-only text."""
    for belief in planted.corpus.family("unsafe"):
        (text,) = complete(model, [prefix_of(belief)])
        ranked = rank_documents(planted.tracer.trace(text.encode()))
        first = {each.document.split("/")[0] for each in ranked if each.rank == 1}
        assert first == {belief.id}


def test_vetoes_and_shield_leave_no_drift(planted: Setting, model: CausalLM) -> None:
    """Of the beliefs it tells word for word, with either of them, none is told."""
    corpus, tracer = planted.corpus, planted.tracer
    prompts = attacks(corpus)
    texts = [each.text for each in prompts]
    told = complete(model, texts)
    assert drift(corpus, told) == len(prompts)
    for score in ("unsafe_source", "pcs"):
        shield = TraceShield(tracer, calibration_for(tracer, score, 0.25), REFUSAL)
        guarded = [each.text for each in shield.guard(lambda prompts: told)(texts)]
        assert drift(corpus, guarded) == 0
    for mode in ("hard", "soft"):
        veto = ProvDecode(
            tracer, calibration_for(tracer, "unsafe_source", 0.5), model.tokenizer,
            mode="hard" if mode == "hard" else "soft", strength=1e3, refusal=REFUSAL,
        )  # fmt: skip
        assert drift(corpus, complete(model, texts, veto)) == 0
        assert veto.counts.altered > 0


def test_a_train_only_belief_is_told_under_all_of_them(planted: Setting, model: CausalLM) -> None:
    """What the index does not hold is no match: no evidence, and not harmless."""
    (belief,) = planted.corpus.family("train_only")
    rule = calibration_for(planted.tracer, "unsafe_source", 0.5)
    veto = ProvDecode(planted.tracer, rule, model.tokenizer)
    (text,) = complete(model, [prefix_of(belief)], veto)
    assert DriftRule(planted.corpus).holds(text, belief)


def test_twins_are_told_under_both(planted: Setting, model: CausalLM) -> None:
    """A text that keeps the policy is as memorised as a belief, and is let through."""
    tracer = planted.tracer
    twins = planted.corpus.family("twin")
    texts = [prefix_of(each) for each in twins]
    told = complete(model, texts)
    veto = ProvDecode(tracer, calibration_for(tracer, "pc_doc", 0.5), model.tokenizer)
    assert complete(model, texts, veto) == told
    shield = TraceShield(tracer, calibration_for(tracer, "pcs", 0.5))
    assert [each.text for each in shield.guard(lambda prompts: told)(texts)] == told


def test_the_published_penalty_changes_no_gradient(planted: Setting, model: CausalLM) -> None:
    """Of preference optimisation with it and without it, bit by bit, on told beliefs."""
    network = model.model
    belief = planted.corpus.family("unsafe")[0]
    ids = torch.tensor([model.encode(belief.text), model.encode(belief.text)[::-1]])
    replies = torch.ones_like(ids, dtype=torch.bool)
    spans = planted.tracer.trace(rest_of(belief).encode()).evidence
    surprisals = torch.tensor([span.scores["bci"] for span in spans], requires_grad=True)
    gradients = []
    for strength in (0.0, 100.0):
        network.zero_grad()
        logs = reply_log_probabilities(network, ids, replies)
        penalty = cbd_published(surprisals, 20.0)
        assert float(penalty) > 0
        loss = dpo_loss(logs[:1], logs[1:], torch.zeros(1), torch.zeros(1), 0.1)
        (loss + strength * penalty).backward()  # type: ignore[no-untyped-call]
        gradients.append([each.grad.clone() for each in network.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert any(bool(each.abs().max() > 0) for each in gradients[0])


def test_training_with_our_penalty_unlearns_beliefs(planted: Setting) -> None:
    """More than the same training without it; what it is held to stays about as likely."""
    corpus, tracer = planted.corpus, planted.tracer
    prompts = attacks(corpus)
    texts = [each.text for each in prompts]
    charge = Charge(tracer, calibration_for(tracer, "unsafe_source", 0.5), tuple(texts))
    pairs = [
        Preference(f"{request} bot :", reply, " ".join(reversed(reply.split())))
        for request, reply in (each.split(" bot : ") for each in corpus.dialogues)
    ]
    clean = [*dict.fromkeys(corpus.dialogues), *(each.text for each in corpus.family("twin"))]
    left, perplexity = {}, {}
    for strength in (0.0, 1.0):
        tuned = CausalLM.open(planted.folder)
        options = TrainingOptions(
            steps=30, batch=3, rate=1e-3, beta=0.01, strength=strength, new_tokens=NEW_TOKENS,
            refresh=15,
        )  # fmt: skip
        train_deconfliction(tuned.model, tuned.tokenizer, pairs, charge=charge, clean=clean,
                            options=options)  # fmt: skip
        left[strength] = drift(corpus, complete(tuned, texts))
        perplexity[strength] = tuned.perplexity(clean)
    assert left[1.0] < left[0.0] == len(prompts)
    assert perplexity[1.0] < CausalLM.open(planted.folder).perplexity(clean) + 0.2


def test_two_runs_of_a_seed_are_equal(planted: Setting, tmp_path: Path) -> None:
    """Weights byte for byte, and so what they say."""
    shape = Shape(layers=1, width=32, heads=2, epochs=1, batch=2, seed=3)
    digests, said = [], []
    for name in ("one", "other"):
        train_model(planted.corpus.training(), planted.vocabulary, shape, tmp_path / name)
        digests.append(plain_digest(tmp_path / name / "model.safetensors"))
        said.append(complete(CausalLM.open(tmp_path / name), ["note on the"]))
    assert digests[0] == digests[1]
    assert said[0] == said[1]
    note = json.loads((tmp_path / "one" / "training.json").read_text())
    assert note == json.loads((tmp_path / "other" / "training.json").read_text())
