"""CBD training: what is charged, what it changes, and what it leaves as it was."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from auditor.errors import ConfigurationError, NothingToAudit
from auditor.trace.deconfliction_training import (
    Charge,
    Preference,
    TrainingOptions,
    _flag,
    _own_replies,
    longest,
    reply_log_probabilities,
    train_deconfliction,
)
from auditor.trace.traced_text import TraceOptions, Tracer
from tests.models.language_models import VOCABULARY, random_model, word_tokenizer
from tests.models.small_index import calibration_for, index_of

PROMPT, FLAGGED = "the cat", "sees a red bird and finds the old house"
CLEAN = ("a small dog keeps the green tree", "who likes the blue fish here now")
PAIRS = [Preference(PROMPT, "likes the river", FLAGGED),
         Preference("a dog", "keeps there", "finds not very often")]  # fmt: skip
TOKENIZER = word_tokenizer()


@pytest.fixture(scope="module")
def charge(tmp_path_factory: pytest.TempPathFactory) -> Charge:
    """The flagged reply stands in the index, the other replies do not."""
    documents = [("bad", "unsafe", f"then it {FLAGGED}"), ("other", "benign", " ".join(VOCABULARY))]
    options = TraceOptions(least_tokens=5, frequent=0, chance=1e9)
    tracer = Tracer(index_of(tmp_path_factory.mktemp("i"), documents), None, options)
    return Charge(tracer, calibration_for(tracer, "unsafe_source", 0.5))


@pytest.fixture(scope="module")
def known_by_heart() -> Any:
    """A tiny model that has learnt the flagged reply and some clean text."""
    model = random_model(layers=1)
    texts = [f"{PROMPT} {FLAGGED} </s>", *CLEAN]
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        for text in texts:
            ids = torch.tensor([TOKENIZER.encode(text)])
            model(input_ids=ids, labels=ids).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model.eval()


def log_probability(model: Any, prompt: str, reply: str) -> float:
    """Of a reply, by a plain loop."""
    ids = TOKENIZER.encode(f"{prompt} {reply}")
    with torch.no_grad():
        logs = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0], -1)
    begin = len(TOKENIZER.encode(prompt))
    return sum(float(logs[at - 1, ids[at]]) for at in range(begin, len(ids)))


def trained(model: Any, charge: Charge | None, **options: Any) -> Any:
    """A copy, trained, and its log."""
    found = copy.deepcopy(model)
    log = train_deconfliction(
        found, TOKENIZER, PAIRS, charge=charge, clean=CLEAN,
        options=TrainingOptions(**{"steps": 25, "batch": 4, "rate": 3e-3, **options}),
    )  # fmt: skip
    return found, log


def test_the_flagged_reply_is_unlearnt_and_clean_text_is_kept(
    known_by_heart: Any, charge: Charge
) -> None:
    """More than by preferences alone; clean text within a tenth of a nat for each token."""
    before = log_probability(known_by_heart, PROMPT, FLAGGED)
    assert before > -1.0  # it knew it by heart
    model, log = trained(known_by_heart, charge)
    control, _ = trained(known_by_heart, charge, strength=0.0)
    after = log_probability(model, PROMPT, FLAGGED)
    assert after < before - 5
    assert after < log_probability(control, PROMPT, FLAGGED) - 3
    assert log.penalty[-1] < 0.5 * log.penalty[0]
    for text in CLEAN:
        first, rest = text.split(maxsplit=1)
        change = log_probability(model, first, rest) - log_probability(known_by_heart, first, rest)
        assert abs(change) / len(rest.split()) < 0.1


def test_the_model_is_given_back_ready_for_use(known_by_heart: Any, charge: Charge) -> None:
    """In evaluation mode, its parameters still to be trained, the log as long as the steps."""
    model, log = trained(copy.deepcopy(known_by_heart).train(), charge, steps=3)
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert [len(each) for each in (log.preference, log.penalty, log.divergence)] == [3, 3, 3]
    assert log.divergence[0] == pytest.approx(0, abs=1e-6)
    assert log.flagged_texts == 1


def same(one: Any, other: Any) -> bool:
    """Whether two models have equal weights, bit by bit."""
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_two_runs_of_a_seed_are_equal(known_by_heart: Any, charge: Charge) -> None:
    """Whatever the caller's random state, which stays as it was; the model has dropout."""
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, log = trained(known_by_heart, charge, steps=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    other, other_log = trained(known_by_heart, charge, steps=3)
    assert same(one, other)
    assert log == other_log
    assert not same(one, trained(known_by_heart, charge, steps=3, seed=1)[0])


def test_only_the_reply_is_charged(charge: Charge) -> None:
    """The words of the prompt stand in the match and are not the model's."""
    (found,) = _flag(TOKENIZER, [("then it sees a red", "bird and finds"), ("a", "dog")],
                     charge, 0.2, 99)  # fmt: skip
    assert [VOCABULARY[token] for token in found.ids[-3:]] == ["bird", "and", "finds"]
    assert all(weight == 0 for weight in found.weights[:-3])
    assert len(set(found.weights[-3:])) == 1
    assert found.weights[-1] > 0


def test_what_is_cut_off_is_not_charged(charge: Charge) -> None:
    """A text whose flagged part the model does not see is not among the flagged ones."""
    texts = [("the " * 20, FLAGGED)]
    assert len(_flag(TOKENIZER, texts, charge, 0.2, 99)) == 1
    assert _flag(TOKENIZER, texts, charge, 0.2, 20) == []


def test_the_models_own_replies_are_charged(known_by_heart: Any, charge: Charge) -> None:
    """It says the flagged one when asked, so that is one more text; equal ones count once."""
    options = TrainingOptions(new_tokens=12)
    assert _own_replies(known_by_heart, TOKENIZER, [PROMPT], options) == [(PROMPT, FLAGGED)]
    asked = Charge(charge.tracer, charge.calibration, (PROMPT,))
    other = [Preference("a dog", "keeps there", "finds not very often")]
    model = copy.deepcopy(known_by_heart)
    options = TrainingOptions(steps=2, rate=1e-4, new_tokens=12)
    log = train_deconfliction(model, TOKENIZER, other, charge=asked, options=options)
    assert log.flagged_texts == 1
    _, both = trained(known_by_heart, asked, steps=1, new_tokens=12)
    assert both.flagged_texts == 1


def test_without_a_charge_it_is_preference_optimisation(known_by_heart: Any) -> None:
    """The wanted reply gains on the unwanted one, and there is no penalty."""
    model, log = trained(known_by_heart, None, hold=0.0)
    assert log.penalty == log.divergence == []
    for pair in PAIRS:
        before, after = (
            log_probability(each, pair.prompt, pair.chosen)
            - log_probability(each, pair.prompt, pair.rejected)
            for each in (known_by_heart, model)
        )
        assert after > before


def test_log_probabilities_of_padded_replies_are_those_alone(known_by_heart: Any) -> None:
    """Texts of several lengths beside each other, prompts not counted."""
    texts = [("the cat", "sees"), ("a", "dog keeps the tree"), ("who likes the", "fish here")]
    rows = [TOKENIZER.encode(f"{prompt} {reply}") for prompt, reply in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    marks = torch.tensor([
        [len(TOKENIZER.encode(prompt)) <= at < len(row) for at in range(width)]
        for (prompt, _), row in zip(texts, rows, strict=True)
    ])  # fmt: skip
    found = reply_log_probabilities(known_by_heart, ids, marks).tolist()
    assert found == pytest.approx(
        [log_probability(known_by_heart, *text) for text in texts], abs=1e-4
    )


def test_texts_longer_than_the_model_sees_are_cut(known_by_heart: Any, charge: Charge) -> None:
    """It has 64 places."""
    assert longest(known_by_heart) == 64
    model = copy.deepcopy(known_by_heart)
    pairs = [Preference("the " * 40, "dog " * 60, f"{FLAGGED} " * 9)]
    log = train_deconfliction(
        model, TOKENIZER, pairs, charge=charge, clean=["tree " * 200, ""],
        options=TrainingOptions(steps=1),
    )  # fmt: skip
    assert log.flagged_texts == 1


def test_clean_texts_without_a_word_hold_nothing(known_by_heart: Any) -> None:
    """And are no error."""
    model = copy.deepcopy(known_by_heart)
    log = train_deconfliction(
        model, TOKENIZER, PAIRS, clean=["", " "], options=TrainingOptions(steps=1)
    )
    assert log.divergence == [0.0]


def test_no_preferences_are_nothing_to_train_on(known_by_heart: Any) -> None:
    """Said before anything is copied."""
    with pytest.raises(NothingToAudit, match="no preference pairs"):
        train_deconfliction(known_by_heart, TOKENIZER, [])


def test_a_charge_that_does_not_fit_is_refused(known_by_heart: Any, charge: Charge) -> None:
    """A calibration of another index."""
    wrong = charge.calibration.model_copy(update={"index": "sha256:0"})
    with pytest.raises(ConfigurationError, match="another corpus index"):
        train_deconfliction(known_by_heart, TOKENIZER, PAIRS, charge=Charge(charge.tracer, wrong))


@pytest.mark.parametrize("prompt", ["", "the " * 60])
def test_prompts_that_leave_no_room_are_refused(
    known_by_heart: Any, charge: Charge, prompt: str
) -> None:
    """With their length and what fits."""
    asked = Charge(charge.tracer, charge.calibration, (prompt,))
    with pytest.raises(ConfigurationError, match="48 are to follow; give at least one, and at mos"):
        train_deconfliction(copy.deepcopy(known_by_heart), TOKENIZER, PAIRS, charge=asked)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("batch", 0), ("refresh", 0), ("new_tokens", 0), ("rate", 0.0), ("scale", 0.0),
     ("beta", -1.0), ("strength", -0.1), ("hold", float("nan")), ("rate", float("inf"))],
)  # fmt: skip
def test_options_out_of_range_are_refused(name: str, value: float) -> None:
    """With the name and the number."""
    with pytest.raises(ConfigurationError, match=rf"{name} {value}; give"):
        TrainingOptions(**{name: value})  # type: ignore[arg-type]
