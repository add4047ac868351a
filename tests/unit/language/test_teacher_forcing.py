"""Continuations that are known, read in one pass: what generation would have said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.language import teacher_forcing
from auditor.language.causal_lm import CausalLM
from auditor.language.likelihood import score_tokens
from tests.models.language_models import (
    VOCABULARY,
    Family,
    random_model,
    save_folder,
    word_tokenizer,
)
from tests.unit.language.conftest import Twins

PROMPTS = (
    "the cat", "a small old fish finds the house and the river", "who", "the red dog sees a bird",
    "what is here now", "green stone", "the very old tree keeps",
)  # fmt: skip
LENGTH = 6


@pytest.fixture(scope="module", params=["gpt2", "llama", "mamba"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    family: Family = request.param
    folder = tmp_path_factory.mktemp(family)
    return CausalLM.open(save_folder(folder, random_model(family), word_tokenizer()))


def said(model: CausalLM) -> tuple[list[list[int]], list[tuple[int, ...]]]:
    """Prompts as tokens with their greedy completions, those that end by themselves left out."""
    prompts = [model.encode(each) for each in PROMPTS]
    completions = model.continue_tokens(prompts, max_new_tokens=LENGTH)
    kept = [
        (prompt, each.token_ids)
        for prompt, each in zip(prompts, completions, strict=True) if not each.ended
    ]  # fmt: skip
    return [prompt for prompt, _ in kept], [ids for _, ids in kept]


def test_what_is_generated_is_read_as_exact(model: CausalLM) -> None:
    """Greedy completions, in one batch and one by one: every token is the likeliest."""
    prompts, completions = said(model)
    assert len(prompts) > 3
    for batch_size in (1, 16):
        for reading in model.read_continuations(prompts, completions, batch_size=batch_size):
            assert (reading.exact, reading.agreed) == (True, LENGTH)
            assert reading.margin > 0


def test_another_token_is_found_where_it_stands(model: CausalLM) -> None:
    """What is likeliest there is what generation says, and the margin tells by how much."""
    prompts, completions = said(model)
    for at in range(LENGTH):
        changed = [
            (*ids[:at], (ids[at] + 1) % len(VOCABULARY), *ids[at + 1 :]) for ids in completions
        ]
        for ids, reading in zip(
            completions, model.read_continuations(prompts, changed), strict=True
        ):
            assert (reading.exact, reading.agreed) == (False, at)
            assert reading.likeliest[at] == ids[at]
            assert reading.margins[at] < 0 < reading.margin


def test_nats_are_those_of_scoring(model: CausalLM) -> None:
    """The sum over a continuation is its negative log-probability."""
    prompts, completions = said(model)
    texts = [[*a, *b] for a, b in zip(prompts, completions, strict=True)]
    scored = score_tokens(model.network, texts, window=64, stride=32, batch_size=4)
    for nats, reading in zip(scored, model.read_continuations(prompts, completions), strict=True):
        np.testing.assert_allclose(reading.nats, nats[-LENGTH:], atol=1e-4)
        assert reading.log_probability == pytest.approx(-nats[-LENGTH:].sum(), abs=1e-3)


def test_a_small_memory_makes_small_batches(
    model: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same readings where logits of one text alone fit, and progress for each."""
    prompts, completions = said(model)
    wanted = model.read_continuations(prompts, completions)
    monkeypatch.setattr(teacher_forcing, "LOGIT_BYTES", 1)
    told: list[tuple[int, int]] = []
    found = model.read_continuations(
        prompts, completions, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(number, len(prompts)) for number in range(1, len(prompts) + 1)]
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(one.nats, other.nats, atol=1e-5)


def test_token_prompts_are_continued_like_texts(model: CausalLM) -> None:
    """Greedy and sampled: a text and its own tokens give the same completion."""
    prompts = [model.encode(each) for each in PROMPTS]
    for temperature in (0.0, 1.0):
        by_text = model.generate(PROMPTS, max_new_tokens=8, temperature=temperature, seed=2)
        by_tokens = model.continue_tokens(
            prompts, max_new_tokens=8, temperature=temperature, seed=2
        )
        assert by_text == by_tokens


@pytest.mark.parametrize(
    ("prefix", "continuation", "problem"),
    [
        ([], [6], "text 1 has 0 tokens and 1 after them"),
        ([6], [], "text 1 has 1 tokens and 0 after them"),
        ([6] * 60, [7] * 5, "text 1 has 60 tokens and 5 after them, the model sees 64"),
    ],
)
def test_what_cannot_be_read_is_said(
    tmp_path: Path, prefix: list[int], continuation: list[int], problem: str
) -> None:
    """Nothing before, nothing behind, or more than the model sees."""
    model = CausalLM.open(save_folder(tmp_path, random_model("gpt2"), word_tokenizer()))
    with pytest.raises(ConfigurationError, match=problem):
        model.read_continuations([prefix], [continuation])


def test_an_empty_prompt_is_refused(tmp_path: Path) -> None:
    """Nothing is put before token prompts."""
    model = CausalLM.open(save_folder(tmp_path, random_model("gpt2"), word_tokenizer()))
    with pytest.raises(ConfigurationError, match="prompt 2 has no tokens"):
        model.continue_tokens([[6], []], max_new_tokens=1)


def test_logits_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    """They decide nothing."""
    broken = random_model("gpt2")
    with torch.no_grad():
        broken.transformer.h[0].mlp.c_fc.weight[0, 0] = float("nan")
    model = CausalLM.open(save_folder(tmp_path, broken, word_tokenizer()))
    with pytest.raises(UnsupportedModel, match="logits are not finite"):
        model.read_continuations([[6, 7]], [[8, 9]])


@pytest.mark.slow
def test_onnxruntime_reads_what_torch_reads(twins: Twins) -> None:
    """The exported twin of a model: the same tokens, and nats up to rounding."""
    prompts, completions = said(twins.torch)
    wanted = twins.torch.read_continuations(prompts, completions)
    for one, other in zip(wanted, twins.onnx.read_continuations(prompts, completions), strict=True):
        assert other.exact
        np.testing.assert_allclose(one.nats, other.nats, atol=1e-3)
