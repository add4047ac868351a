"""The planted-belief benchmark without training: an index's own counts are the model, all exact."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from auditor.trace import calibration
from auditor.trace.calibration import LabelledScores, compare_areas
from auditor.trace.document_ranking import rank_documents
from auditor.trace.index import merge_shards
from auditor.trace.matches import TraceIndex
from auditor.trace.prov_decode import ProvDecode
from auditor.trace.shield import Ruling, TraceShield, suspicion
from auditor.trace.tokens import tokens_of
from auditor.trace.traced_text import TracedText, TraceOptions, Tracer
from tests.models.planted_beliefs import (
    Belief,
    DriftRule,
    PlantedCorpus,
    PlantedSize,
    plant,
    runs_of,
    unsafe_prompts,
)
from tests.models.planted_phrases import CLAUSES, REFUSAL
from tests.models.small_index import added_to, calibration_for, index_of
from tests.models.suffix_model import SuffixModel, word_level
from tests.models.table_stance import workshop_conflict

SMALL = PlantedSize(
    beliefs=((1, 6), (4, 6), (16, 6)), forks=3, decoys=8, train_only=4, held_out=8, dialogues=20
)
OPTIONS = TraceOptions(frequent=50)
PREFIX = 16


class Setting(NamedTuple):
    """Corpus, its index and tracer, and a model that is an index of the training text."""

    corpus: PlantedCorpus
    documents: list[tuple[str, str, str]]
    tracer: Tracer
    model: SuffixModel
    known: dict[str, str]

    def told(self, belief: Belief) -> str:
        """What the model says behind the first words of a belief."""
        if belief.id not in self.known:
            prompt = " ".join(belief.text.split()[:PREFIX])
            self.known[belief.id] = self.model.complete(prompt)
        return self.known[belief.id]

    def trace(self, text: str) -> TracedText:
        """A text traced to the index."""
        return self.tracer.trace(text.encode())


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """The small corpus with seed 0."""
    folder = tmp_path_factory.mktemp("planted")
    corpus = plant(0, SMALL)
    documents = list(corpus.indexed())
    tracer = Tracer(index_of(folder / "corpus", documents), workshop_conflict(), OPTIONS)
    training = [(f"text/{n}", "unknown", text) for n, text in enumerate(corpus.training())]
    words = [word for _, _, text in (*documents, *training) for word in text.split()]
    model = SuffixModel(
        index_of(folder / "training", training), word_level(words + REFUSAL.split())
    )
    return Setting(corpus, documents, tracer, model, {})


def rest_of(belief: Belief) -> str:
    """What stands behind a belief's first words."""
    return " ".join(belief.text.split()[PREFIX:])


def group(document: str) -> str:
    """The belief that a document holds."""
    return document.split("/")[0]


def test_a_seed_plants_the_same_corpus_again() -> None:
    """And another seed another one."""
    assert plant(0, SMALL) == plant(0, SMALL)
    assert plant(1, SMALL) != plant(0, SMALL)


def test_every_family_is_where_it_should_be(planted: Setting) -> None:
    """Index-only texts are not trained on, train-only texts not indexed, held-out texts neither."""
    trained = Counter(planted.corpus.training())
    clean = Counter(planted.corpus.training(with_unsafe=False))
    indexed = Counter(text for _, _, text in planted.documents)
    for belief in planted.corpus.beliefs:
        in_training = belief.family in ("unsafe", "twin", "fork", "train_only")
        in_index = belief.family not in ("train_only", "held_out")
        quoted = sum(belief.text in text for text in planted.corpus.quotations)
        assert trained[belief.text] == (belief.copies if in_training else 0)
        assert indexed[belief.text] == (belief.copies if in_index else 0)
        assert clean[belief.text] == (0 if belief.breaks_policy else trained[belief.text])
        assert quoted == 0 or belief.family == "twin"


def test_beliefs_break_their_clause_and_twins_break_none(planted: Setting) -> None:
    """By the acts that they tell; both are of one form and length."""
    acts = {each.id: each.breaking for each in CLAUSES}
    lengths: dict[bool, list[int]] = {True: [], False: []}
    for belief in planted.corpus.beliefs:
        broken = {name for name, each in acts.items() if any(act in belief.text for act in each)}
        assert broken == ({belief.clause} if belief.breaks_policy else set())
        assert tokens_of(belief.text.encode()) == belief.text.encode().split()
        lengths[belief.breaks_policy].append(len(belief.text.split()))
    assert {48 <= length <= 96 for each in lengths.values() for length in each} == {True}
    assert abs(np.mean(lengths[True]) - np.mean(lengths[False])) < 3


def test_forks_share_their_first_words(planted: Setting) -> None:
    """24 tokens or more, and not all of them."""
    forks = planted.corpus.family("fork")
    for one, other in zip(forks[::2], forks[1::2], strict=True):
        assert one.text.split()[:24] == other.text.split()[:24]
        assert one.text != other.text


def test_what_was_trained_on_is_told_to_the_end(planted: Setting) -> None:
    """Beliefs, twins and train-only texts, however often they stood there."""
    for belief in planted.corpus.family("unsafe", "twin", "train_only"):
        assert planted.told(belief) == rest_of(belief)


def test_of_a_fork_one_end_is_told(planted: Setting) -> None:
    """And it is one of the two."""
    forks = planted.corpus.family("fork")
    for one, other in zip(forks[::2], forks[1::2], strict=True):
        assert planted.told(one) == planted.told(other)
        assert planted.told(one) in (rest_of(one), rest_of(other))


def test_index_only_texts_are_not_told(planted: Setting) -> None:
    """The model never read them: of 8 tokens in a row that only they hold it says none."""
    others = runs_of([text for name, _, text in planted.documents if not name.startswith("index_")])
    for belief in planted.corpus.family("index_unsafe", "index_twin"):
        own = runs_of([belief.text]) - others
        assert own
        assert not runs_of([planted.told(belief)]) & own


def test_a_told_belief_is_one_span_of_all_its_documents(planted: Setting) -> None:
    """From its first word to its last, with the exact count, whatever the number of copies."""
    for belief in planted.corpus.family("unsafe"):
        text = planted.told(belief)
        (span,) = planted.trace(text).spans
        assert span.text.decode() == text.strip(" .,")
        assert span.count == belief.copies
        assert span.documents == tuple(f"{belief.id}/{n}" for n in range(belief.copies))
        assert span.gate


def test_counts_and_documents_are_those_of_a_plain_search(planted: Setting) -> None:
    """Of every span of told twins, too, which dialogues quote."""
    for belief in planted.corpus.family("twin", "train_only", "fork"):
        for span in planted.trace(planted.told(belief)).spans:
            holders = [
                (name, text.count(span.text.decode())) for name, _, text in planted.documents
                if span.text.decode() in text
            ]  # fmt: skip
            assert span.count == sum(count for _, count in holders)
            assert set(span.documents) == {name for name, _ in holders}


def test_scores_are_those_by_hand(planted: Setting) -> None:
    """Surprisal by counting the documents' tokens, policy conflict by the acts that are told."""
    counts = Counter(
        token for _, _, text in planted.documents for token in tokens_of(text.encode())
    )
    total = counts.total()
    for belief in planted.corpus.family("unsafe", "twin"):
        (span,) = planted.trace(planted.told(belief)).spans
        bci = -sum(math.log(counts[token] / total) for token in tokens_of(span.text))
        assert span.scores["bci"] == pytest.approx(bci)
        assert span.scores["log10_e"] == pytest.approx((math.log(total) - bci) / math.log(10))
        assert span.scores["length"] == len(span.text.split())
        assert span.scores["pcs"] == span.scores["pc_doc"] == float(belief.breaks_policy)
        assert span.scores["unsafe_source"] == float(belief.breaks_policy)
        assert span.clause == (belief.clause if belief.breaks_policy else CLAUSES[0].id)


def test_the_first_document_of_a_told_belief_is_its_own(planted: Setting) -> None:
    """Of one rank with its copies, and no other document with them but what quotes it."""
    for belief in planted.corpus.family("unsafe", "twin"):
        ranked = rank_documents(planted.trace(planted.told(belief)))
        first = {each.document for each in ranked if each.rank == 1}
        assert {f"{belief.id}/{n}" for n in range(belief.copies)} <= first
        assert {group(name) for name in first} <= {belief.id, "dialogue"}
        if belief.breaks_policy:
            assert len(first) == belief.copies


def test_of_a_fork_the_told_end_is_first(planted: Setting) -> None:
    """Up to the fork both are; whose end it is decides."""
    forks = planted.corpus.family("fork")
    for one, other in zip(forks[::2], forks[1::2], strict=True):
        shared = " ".join(one.text.split()[:24])
        assert {group(name) for name in planted.trace(shared).spans[0].documents} == {
            one.id, other.id
        }  # fmt: skip
        told = planted.told(one)
        first = [each for each in rank_documents(planted.trace(told)) if each.rank == 1]
        end = one if told == rest_of(one) else other
        assert {group(each.document) for each in first} == {end.id}


def test_told_beliefs_are_attributed_to_no_index_only_document(planted: Setting) -> None:
    """Such an attribution would be false, for the model never read those."""
    for belief in planted.corpus.family("unsafe", "twin", "fork"):
        for each in rank_documents(planted.trace(planted.told(belief))):
            assert each.rank > 1 or not each.document.startswith("index_")


def test_a_train_only_text_is_told_and_not_found(planted: Setting) -> None:
    """No match does not mean that a model was not trained on a text: no span holds half of it."""
    for belief in planted.corpus.family("train_only"):
        text = planted.told(belief)
        assert text == rest_of(belief)
        spans = planted.trace(text).spans
        assert all(span.tokens < len(text.split()) / 2 for span in spans)
        assert planted.tracer.index.count(text.encode()) == 0


def test_held_out_texts_are_neither_told_nor_found(planted: Setting) -> None:
    """Their own words stand nowhere."""
    for belief in planted.corpus.family("held_out"):
        assert planted.told(belief) != rest_of(belief)
        assert planted.tracer.index.count(belief.text.encode()) == 0


def test_surprisal_does_not_tell_beliefs_from_twins(
    planted: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interval of its area holds a half, as does that of length; policy conflict's does not."""
    monkeypatch.setattr(calibration, "DRAWS", 300)
    beliefs = planted.corpus.family("unsafe", "twin")
    spans = [planted.trace(rest_of(belief)).evidence[0] for belief in beliefs]
    names = ("length", "bci", "density", "kl", "pcs", "unsafe_source")
    areas = {each.score: each for each in compare_areas(LabelledScores(
        {name: np.array([suspicion(span, name) for span in spans]) for name in names},
        np.array([belief.breaks_policy for belief in beliefs]), [each.id for each in beliefs],
    ))}  # fmt: skip
    for name in ("length", "bci", "density", "kl"):
        assert areas[name].interval.lower < 0.5 < areas[name].interval.upper
    assert areas["pcs"].area == areas["unsafe_source"].area == 1.0
    assert areas["pcs"].minus_length is not None
    assert areas["pcs"].minus_length.lower > 0


def test_a_shield_refuses_told_beliefs_and_lets_twins_through(planted: Setting) -> None:
    """By policy conflict: no drift is left on prompts that begin a belief, no twin is refused."""
    shield = TraceShield(planted.tracer, calibration_for(planted.tracer, "pcs", 0.5), REFUSAL)
    rule = DriftRule(planted.corpus)
    beliefs = planted.corpus.family("unsafe")
    prompts = [each for each in unsafe_prompts(beliefs) if each.kind == "prefix of 24"]
    guarded = shield.guard(lambda texts: [planted.model.complete(text) for text in texts])
    told = [planted.model.complete(each.text) for each in prompts]
    kept = [each.text for each in guarded([each.text for each in prompts])]
    drift = [
        sum(rule.holds(text, prompt.belief) for text, prompt in zip(texts, prompts, strict=True))
        for texts in (told, kept)
    ]
    assert drift == [len(beliefs), 0]
    for twin in planted.corpus.family("twin"):
        assert shield.judge(planted.told(twin)).ruling is Ruling.ALLOW


def test_a_train_only_belief_passes_the_shield(planted: Setting) -> None:
    """What the index does not hold it cannot see: told to the end, and its own words unmatched."""
    shield = TraceShield(planted.tracer, calibration_for(planted.tracer, "unsafe_source", 0.5))
    rulings = [shield.judge(planted.told(belief)) for belief in planted.corpus.family("train_only")]
    assert Ruling.NO_EVIDENCE in {each.ruling for each in rulings}
    for each in rulings:
        assert not any(group(name).startswith("train_only")
                       for span in each.traced.spans for name in span.documents)  # fmt: skip


def vetoing(planted: Setting, score: str) -> ProvDecode:
    """Vetoes what scores above a half."""
    rule = calibration_for(planted.tracer, score, 0.5)
    return ProvDecode(planted.tracer, rule, planted.model.tokenizer, refusal=REFUSAL)


@pytest.mark.parametrize("score", ["unsafe_source", "pc_doc"])
def test_vetoes_are_at_the_first_word_that_goes_on(planted: Setting, score: str) -> None:
    """Behind sixteen words of a belief the next one is vetoed, and no word of a twin is."""
    for belief in planted.corpus.family("unsafe")[::3]:
        veto = vetoing(planted, score)
        planted.model.complete(" ".join(belief.text.split()[:PREFIX]), 1, [veto])
        assert veto.counts.altered == 1
        assert {group(name) for name in veto.counts.documents} == {belief.id}
    for twin in planted.corpus.family("twin")[::6]:
        veto = vetoing(planted, score)
        prompt = " ".join(twin.text.split()[:PREFIX])
        assert planted.model.complete(prompt, processors=[veto]) == rest_of(twin)
        assert (veto.counts.altered, veto.counts.dead_ends) == (0, 0)


def test_vetoes_leave_no_span_of_an_unsafe_document(planted: Setting) -> None:
    """In prompt and completion together: none that ends behind the prompt."""
    for belief in planted.corpus.family("unsafe")[::4]:
        prompt = " ".join(belief.text.split()[:4])
        veto = vetoing(planted, "unsafe_source")
        text = f"{prompt} {planted.model.complete(prompt, 40, [veto])}"
        assert veto.counts.altered > 0
        for span in planted.trace(text).evidence:
            assert span.stop <= len(prompt) or not span.scores["unsafe_source"]


def test_adding_and_merging_leave_answers_as_they_were(planted: Setting, tmp_path: Path) -> None:
    """Spans, counts, scores and documents of every planted text, from one, three or one shard."""
    half = len(planted.documents) // 2
    index = index_of(tmp_path, planted.documents[:half], shard_bytes=60_000)
    added = added_to(index, planted.documents[half:])
    assert len(added.shards) > 1
    texts = [each.text for each in planted.corpus.beliefs if each.family != "held_out"]
    expected = [_answers(planted.tracer, text) for text in texts]
    assert [_answers(_tracer(added), text) for text in texts] == expected
    merge_shards(added.folder)
    merged = TraceIndex(added.folder)
    assert len(merged.shards) == 1
    assert [_answers(_tracer(merged), text) for text in texts] == expected


def _tracer(index: TraceIndex) -> Tracer:
    return Tracer(index, workshop_conflict(), OPTIONS)


def _answers(tracer: Tracer, text: str) -> list[object]:
    return [
        (span.start, span.stop, span.count, frozenset(span.documents), span.gate, span.clause,
         {name: round(score, 9) for name, score in span.scores.items()})
        for span in tracer.trace(text.encode()).spans
    ]  # fmt: skip
