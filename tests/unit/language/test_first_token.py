"""Log-odds of refusing first tokens, against the model's own logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from auditor.errors import ConfigurationError
from auditor.language.causal_lm import CausalLM
from auditor.language.first_token import LEAST, FirstTokenJudge, refusing_tokens
from auditor.language.refusal import Behaviour, RefusalJudge
from tests.models.language_models import VOCABULARY, random_model, save_folder, word_tokenizer
from tests.models.planted_refusals import NO, RefusalWorld, harmful_prompts, harmless_prompts

PROMPTS = ("the cat", "a small old fish finds the river", "who", "green stone")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    folder = tmp_path_factory.mktemp("llama")
    return CausalLM.open(save_folder(folder, random_model("llama"), word_tokenizer()))


class Fixed:
    """Says the same chances of two tokens after every prompt."""

    def __init__(self, *chances: float) -> None:
        self.tokenizer, self._chances = word_tokenizer(), chances

    def next_token_log_probabilities(
        self, prompts: Sequence[str], *, tokens: Sequence[int] | None = None, batch_size: int = 16
    ) -> NDArray[np.float32]:
        """The given chances."""
        assert tokens is not None
        with np.errstate(divide="ignore"):
            row = np.log(np.array(self._chances))
        return np.tile(row, (len(prompts), 1)).astype(np.float32)


def test_the_log_odds_are_those_of_the_definition(model: CausalLM) -> None:
    """log P - log(1 - P) from a softmax by hand, one prompt at a time."""
    openings = ("the old dog", "not here")
    judge = FirstTokenJudge(model, openings, batch_size=3)
    assert judge.tokens == tuple(sorted(VOCABULARY.index(word) for word in ("the", "not")))
    expected = []
    for prompt in PROMPTS:
        with torch.inference_mode():
            logits = model.model(torch.tensor([model.encode(prompt)])).logits[0, -1].double()
        chance = float(logits.softmax(-1)[list(judge.tokens)].sum())
        expected.append(np.log(chance / (1 - chance)))
    assert judge.log_odds(PROMPTS) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("chances", "behaviour"),
    [((0.3, 0.21), Behaviour.REFUSED), ((0.25, 0.25), Behaviour.ANSWERED),
     ((0.5, 0.0), Behaviour.ANSWERED), ((0.0, 0.6), Behaviour.REFUSED)],
)  # fmt: skip
def test_the_threshold_is_even_odds(chances: tuple[float, ...], behaviour: Behaviour) -> None:
    """All refusing tokens together against the rest."""
    judge = FirstTokenJudge(Fixed(*chances), ("the", "not"))
    (found,) = judge.judge_prompts(["a"], ["red cat"])
    assert found.behaviour is behaviour
    assert found.score == pytest.approx(sum(chances), abs=1e-6)


@pytest.mark.parametrize(("chance", "sign"), [(1.0, 1), (0.0, -1)])
def test_certain_tokens_have_finite_odds(chance: float, sign: int) -> None:
    """Kept away from the ends by the stated amount."""
    (odds,) = FirstTokenJudge(Fixed(chance), ("the",)).log_odds(["a"])
    assert odds == pytest.approx(sign * np.log((1 - LEAST) / LEAST))


def test_blank_completions_are_empty_whatever_the_odds() -> None:
    judge = FirstTokenJudge(Fixed(0.9), ("the",))
    found = judge.judge_prompts(["a", "a"], [" \n", "cat"])
    assert [each.behaviour for each in found] == [Behaviour.EMPTY, Behaviour.REFUSED]


def test_texts_are_judged_by_their_first_token() -> None:
    """For agreement with people; white space before it does not count."""
    judge = FirstTokenJudge(Fixed(0.9), ("the", "not"))
    assert isinstance(judge, RefusalJudge)
    found = judge.judge(["the cat", " not here", "a cat", "", "\n"])
    assert [(each.behaviour, each.score) for each in found] == [
        (Behaviour.REFUSED, 1.0), (Behaviour.REFUSED, 1.0), (Behaviour.ANSWERED, 0.0),
        (Behaviour.EMPTY, 0.0), (Behaviour.EMPTY, 0.0),
    ]  # fmt: skip


def test_no_texts_are_no_judgements(model: CausalLM) -> None:
    judge = FirstTokenJudge(model, ("the",))
    assert (judge.judge([]), judge.judge_prompts([], [])) == ([], [])


def test_a_trained_refusal_is_seen_before_a_word_is_said(refusals: RefusalWorld) -> None:
    """Planted refusals are above even odds, planted answers below, by much."""
    model = CausalLM.open(refusals.base)
    odds = FirstTokenJudge(model).log_odds(
        [model.chat(prompt) for prompt in [*harmful_prompts(), *harmless_prompts()]]
    )
    assert [bool(each > 0) for each in odds] == [True] * 2 + [False] * 13 + [True]
    assert np.abs(odds).min() > 2
    assert FirstTokenJudge(model).judge([NO])[0].behaviour is Behaviour.REFUSED


def test_a_part_of_a_word_is_no_opening() -> None:
    """A token that also begins other words would call their answers refusals."""

    class Halves:
        """Cuts words behind their second letter."""

        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [ord(letter) for letter in text.strip()[:2]]}

        def decode(self, ids: Sequence[int]) -> str:
            return "".join(map(chr, ids))

    assert refusing_tokens(Halves(), ["I cannot", "Sorry"]) == (ord("I"),)
    with pytest.raises(ConfigurationError, match="no refusal begins with a token of its own: Sorr"):
        refusing_tokens(Halves(), ["Sorry"])


@pytest.mark.parametrize("openings", [(), ("",), ("...",)])
def test_openings_without_words_are_refused(openings: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="give openings whose first word is one token"):
        FirstTokenJudge(Fixed(0.5), openings)


def test_the_version_follows_the_tokens() -> None:
    versions = [FirstTokenJudge(Fixed(0.5), (word,)).version for word in ("the", "not", "the cat")]
    assert (versions[0] != versions[1], versions[0] == versions[2]) == (True, True)


@pytest.mark.parametrize("family", ["gpt2", "llama", "mamba"])
def test_chances_of_next_tokens_do_not_depend_on_the_batch(tmp_path: Path, family: Any) -> None:
    """They sum to one, the likeliest is what greedy generation says, and a part is a part."""
    model = CausalLM.open(save_folder(tmp_path / "m", random_model(family), word_tokenizer()))
    logs = model.next_token_log_probabilities(PROMPTS)
    assert logs.shape == (len(PROMPTS), len(VOCABULARY))
    assert np.exp(logs).sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert model.next_token_log_probabilities(PROMPTS, batch_size=1) == pytest.approx(
        logs, abs=1e-5
    )
    said = model.generate(PROMPTS, max_new_tokens=1)
    ends = [(*each.token_ids, 2)[0] for each in said]
    assert logs.argmax(axis=1).tolist() == ends
    assert (model.next_token_log_probabilities(PROMPTS, tokens=[5, 9]) == logs[:, [5, 9]]).all()


@pytest.mark.parametrize(
    ("prompt", "batch_size", "problem"),
    [("the " * 65, 16, "prompt 1 has 65 tokens, the model sees 64"), ("the", 0, "batch size 0"),
     ("", 16, "prompt 1 has no tokens")],
)  # fmt: skip
def test_what_has_no_next_token_is_one_line(
    model: CausalLM, prompt: str, batch_size: int, problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        model.next_token_log_probabilities([prompt], batch_size=batch_size)
