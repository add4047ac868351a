"""Continuing prompts: batches, sampling, stops, processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LogitsProcessor, RepetitionPenaltyLogitsProcessor

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.language.causal_lm import CausalLM
from auditor.language.generation import plan_batches
from tests.models.language_models import (
    VOCABULARY,
    Family,
    random_model,
    save_folder,
    word_tokenizer,
)

PROMPTS = (
    "the cat", "a small old fish finds the house and the river", "who", "the red dog sees a bird",
    "what is here now", "green stone", "the very old tree keeps",
)  # fmt: skip


@pytest.fixture(scope="module", params=["gpt2", "llama", "mamba"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    family: Family = request.param
    folder = tmp_path_factory.mktemp(family)
    return CausalLM.open(save_folder(folder, random_model(family), word_tokenizer()))


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_a_completion_does_not_depend_on_its_batch(model: CausalLM, temperature: float) -> None:
    """Greedy or sampled, alone, in another order or in batches of any size: the same."""
    alone = [
        model.generate([prompt], max_new_tokens=12, temperature=temperature)[0]
        for prompt in PROMPTS
    ]
    for batch_size in (2, 3, 7):
        assert alone == model.generate(
            PROMPTS, max_new_tokens=12, temperature=temperature, batch_size=batch_size
        )
    turned = model.generate(PROMPTS[::-1], max_new_tokens=12, temperature=temperature)
    assert alone == turned[::-1]


def test_greedy_is_what_transformers_generates(model: CausalLM) -> None:
    """The loop here and transformers' own give the same tokens for a prompt alone."""
    for prompt in PROMPTS:
        ids = torch.tensor([model.encode(prompt)])
        theirs = model.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=10,
            do_sample=False,
            pad_token_id=0,
        )
        expected = [token for token in theirs[0, ids.shape[1] :].tolist() if token != 2]
        [ours] = model.generate([prompt], max_new_tokens=10)
        assert list(ours.token_ids) == expected


def test_another_seed_draws_another_completion(model: CausalLM) -> None:
    """Sampling depends on the seed and on nothing else."""
    by_seed = [
        model.generate(["the cat"], max_new_tokens=12, temperature=2.0, seed=seed)[0]
        for seed in range(4)
    ]
    assert len({completion.token_ids for completion in by_seed}) > 1
    again = model.generate(["the cat"], max_new_tokens=12, temperature=2.0, seed=3)
    assert again == [by_seed[3]]


def test_sampling_follows_the_softmax(model: CausalLM) -> None:
    """First tokens of many seeds are as frequent as the softmax says (five standard deviations)."""
    with torch.inference_mode():
        logits = model.model(torch.tensor([model.encode("the cat")])).logits[0, -1]
    expected = torch.softmax(logits / 3.0, -1)
    draws = 400
    counts = torch.zeros_like(expected)
    for seed in range(draws):
        [completion] = model.generate(["the cat"], max_new_tokens=1, temperature=3.0, seed=seed)
        if completion.token_ids:
            counts[completion.token_ids[0]] += 1
    expected[2], counts[2] = 0.0, 0.0  # the end of text is not in the completion
    deviation = (expected * (1 - expected) / draws).sqrt()
    assert bool(((counts / draws - expected).abs() <= 5 * deviation + 1e-9).all())


def test_random_state_and_threads_are_left_alone(model: CausalLM) -> None:
    """torch's generator and thread count are the same after generating and scoring."""
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    model.generate(PROMPTS, max_new_tokens=4, temperature=1.0)
    model.token_nll(PROMPTS)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.get_num_threads() == threads


class _Only(LogitsProcessor):
    """Allows one token, and the end of text after so many tokens."""

    def __init__(self, token: int, length: int) -> None:
        self.token, self.length = token, length
        self.seen: list[list[int]] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self.seen += input_ids.tolist()
        allowed = self.token if input_ids.shape[1] < self.length else 2
        only = torch.full_like(scores, -torch.inf)
        only[:, allowed] = 0.0
        return only


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_processor_decides(model: CausalLM, temperature: float) -> None:
    """What a processor forbids is not generated, and the end it forces ends the completion."""
    bird = VOCABULARY.index("bird")
    [completion] = model.generate(
        ["the cat"], max_new_tokens=9, temperature=temperature, processors=[_Only(bird, 5)]
    )
    assert completion.token_ids == (bird,) * 3
    assert completion.text == "bird bird bird"
    assert completion.ended


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_forbidding_every_token_is_an_error(model: CausalLM, temperature: float) -> None:
    """Nothing is generated where nothing is allowed."""

    class Nothing(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            return torch.full_like(scores, -torch.inf)

    with pytest.raises(UnsupportedModel, match="forbid every token"):
        model.generate(["the"], max_new_tokens=1, temperature=temperature, processors=[Nothing()])


def test_processors_see_no_padding(model: CausalLM) -> None:
    """With processors only prompts of one length run together."""
    processor = _Only(VOCABULARY.index("bird"), 50)
    model.generate(PROMPTS, max_new_tokens=2, processors=[processor])
    assert processor.seen
    assert all(0 not in ids for ids in processor.seen)


def test_a_processor_that_reads_the_prompt_keeps_completions_apart(model: CausalLM) -> None:
    """Even then a completion does not depend on its batch."""
    processors = [RepetitionPenaltyLogitsProcessor(penalty=1.8)]
    alone = [
        model.generate([prompt], max_new_tokens=8, processors=processors)[0] for prompt in PROMPTS
    ]
    assert alone == model.generate(PROMPTS, max_new_tokens=8, processors=processors)


def test_a_completion_that_reaches_the_limit_did_not_end(model: CausalLM) -> None:
    """`ended` is false at the limit, where the model would have gone on."""
    processor = _Only(VOCABULARY.index("bird"), 50)
    [completion] = model.generate(["the cat"], max_new_tokens=3, processors=[processor])
    assert (len(completion.token_ids), completion.ended) == (3, False)


def test_a_stop_string_ends_and_is_cut(model: CausalLM) -> None:
    """The text ends before the earliest stop string; the tokens still hold it."""
    bird = VOCABULARY.index("bird")
    [completion] = model.generate(
        ["the cat"], max_new_tokens=9, processors=[_Only(bird, 50)], stop=("x", "bird bird")
    )
    assert (completion.text, completion.token_ids, completion.ended) == ("", (bird, bird), True)


def test_progress_counts_prompts(model: CausalLM) -> None:
    """After each batch it is called with prompts done and in all."""
    seen: list[tuple[int, int]] = []
    model.generate(
        ["the cat"] * 7, max_new_tokens=1, batch_size=3, progress=lambda *done: seen.append(done)
    )
    assert seen == [(3, 7), (6, 7), (7, 7)]


def test_running_is_silent(model: CausalLM, capfd: pytest.CaptureFixture[str]) -> None:
    """Advice that transformers logs while a model runs does not reach the terminal."""
    model.generate(PROMPTS, max_new_tokens=2)
    model.token_nll(PROMPTS)
    assert capfd.readouterr() == ("", "")


def test_batches_hold_every_prompt_once() -> None:
    """Shortest first, no more than asked, and with equal lengths where asked."""
    prompts = [[1] * length for length in (3, 1, 3, 2, 3, 1)]
    assert list(plan_batches(prompts, 4, same_length=False)) == [[1, 5, 3, 0], [2, 4]]
    assert list(plan_batches(prompts, 2, same_length=True)) == [[1, 5], [3], [0, 2], [4]]


def test_no_prompts_give_no_completions(model: CausalLM) -> None:
    """An empty list is answered with an empty list."""
    assert model.generate([], max_new_tokens=3) == []


@pytest.mark.parametrize(
    ("prompt", "settings", "message"),
    [
        ("", {}, "prompt 1 has no tokens"),
        ("the " * 2046, {"max_new_tokens": 5}, r"the model sees (64|2048)"),
        ("the", {"max_new_tokens": 0}, "0 new tokens"),
        ("the", {"temperature": -1.0}, "temperature -1.0"),
        ("the", {"temperature": float("nan")}, "temperature nan"),
        ("the", {"stop": ("",)}, "an empty stop string"),
        ("the", {"batch_size": 0}, "batch size 0"),
    ],
)
def test_settings_out_of_range_are_named(
    model: CausalLM, prompt: str, settings: dict[str, Any], message: str
) -> None:
    """One line that says which setting, its value and what is allowed."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        model.generate([prompt], **{"max_new_tokens": 1, **settings})
    assert "\n" not in str(caught.value)


def test_a_start_token_is_not_doubled(tmp_path: Path) -> None:
    """It stands before a text once, also where the text begins with it."""
    folder = save_folder(tmp_path, random_model("llama"), word_tokenizer(start=True))
    model = CausalLM.open(folder)
    assert model.encode("the cat") == model.encode("<s> the cat")
    assert model.encode("the cat")[0] == 1
    assert len(model.generate([""], max_new_tokens=1)) == 1
