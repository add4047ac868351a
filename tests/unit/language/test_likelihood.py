"""Nats per token: teacher forcing, padding, windows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from auditor.errors import ConfigurationError
from auditor.language.causal_lm import CausalLM
from auditor.language.likelihood import LOGIT_BYTES, Window, _next_batch, plan_windows
from tests.models.language_models import Family, random_model, save_folder, word_tokenizer

TEXTS = (
    "the cat sees a bird",
    "who",
    "a small old fish finds the house and the river here",
    "",
)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    family: Family = request.param
    folder = tmp_path_factory.mktemp(family)
    tokenizer = word_tokenizer(start=family == "llama")
    return CausalLM.open(save_folder(folder, random_model(family), tokenizer))


def _by_hand(model: CausalLM, context: list[int], token: int) -> float:
    """Nats of a token after a context, by one run of the model over the context alone."""
    with torch.inference_mode():
        logits = model.model(torch.tensor([context])).logits[0, -1].double()
    return float(torch.logsumexp(logits, 0) - logits[token])


def test_each_token_is_scored_given_those_before_it(model: CausalLM) -> None:
    """One entry a token, the start token in front but not scored; NaN where nothing is before."""
    for text, nats in zip(TEXTS, model.token_nll(TEXTS), strict=True):
        ids = model.encode(text)
        start = 0 if model.start is None else 1
        assert len(nats) == len(ids) - start
        for place in range(start, len(ids)):
            if place == 0:
                assert np.isnan(nats[0])
            else:
                expected = _by_hand(model, ids[:place], ids[place])
                assert nats[place - start] == pytest.approx(expected, abs=1e-4)


def test_padding_changes_nothing(model: CausalLM) -> None:
    """Scores of a text alone and beside longer ones agree to rounding."""
    together = model.token_nll(TEXTS)
    for text, nats in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(model.token_nll([text])[0], nats, atol=1e-5)


def test_a_window_sees_what_its_stride_leaves(model: CausalLM) -> None:
    """A token past the first window is scored given exactly its window's tokens before it."""
    text = "the cat sees a bird and the dog finds a fish in the old river here now"
    ids = model.encode(text)
    nats = model.token_nll([text], window=6, stride=2)[0]
    start = 0 if model.start is None else 1
    for window in plan_windows([len(ids)], 6, 2):
        for place in range(window.scored, window.end):
            expected = _by_hand(model, ids[window.start : place], ids[place])
            assert nats[place - start] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("length", "window", "stride"), [(1, 4, 2), (4, 4, 2), (23, 6, 5), (9, 2, 1)]
)
def test_windows_score_each_token_once(length: int, window: int, stride: int) -> None:
    """All tokens but the first, in windows within the limit, with window - stride before them."""
    windows = list(plan_windows([length], window, stride))
    scored = [place for part in windows for place in range(part.scored, part.end)]
    assert scored == list(range(1, length))
    assert all(part.end - part.start <= window for part in windows)
    assert all(part.scored - part.start >= window - stride for part in windows[1:])


def test_a_batch_ends_where_its_logits_would_take_too_much() -> None:
    """Fewer windows for a large vocabulary, and never none."""
    windows = [Window(text, 0, 1, 1000) for text in range(8)]
    vocabulary = LOGIT_BYTES // (4 * 1000 * 3)
    assert len(_next_batch(windows, 8, vocabulary)) == 3
    assert len(_next_batch(windows, 2, vocabulary)) == 2
    assert len(_next_batch(windows, 8, 10**9)) == 1


def test_perplexity_is_the_exponential_of_the_mean(model: CausalLM) -> None:
    """Over all tokens of all texts that have another before them."""
    nats = np.concatenate(model.token_nll(TEXTS))
    assert model.perplexity(TEXTS) == pytest.approx(math.exp(np.nanmean(nats)))


def test_perplexity_of_nothing_is_an_error(model: CausalLM) -> None:
    """No token, no number."""
    with pytest.raises(ConfigurationError, match="perplexity of no tokens"):
        model.perplexity(["", ""])


@pytest.mark.parametrize(
    ("window", "stride", "message"),
    [(1, 1, "window of 1"), (65, 8, "window of 65"), (8, 8, "stride 8"), (8, 0, "stride 0")],
)
def test_windows_out_of_range_are_named(
    model: CausalLM, window: int, stride: int, message: str
) -> None:
    """The setting, its value and its range."""
    with pytest.raises(ConfigurationError, match=message):
        model.token_nll(TEXTS, window=window, stride=stride)


def test_an_almost_sure_model_has_almost_no_nats(tmp_path: Path) -> None:
    """A model whose bias puts everything on one token finds that token certain."""
    network = random_model("gpt2")
    with torch.no_grad():
        network.transformer.wte.weight.zero_()
        network.transformer.wte.weight[8] = 40.0
        network.transformer.ln_f.weight.zero_()
        network.transformer.ln_f.bias.fill_(1.0)
    model = CausalLM.open(save_folder(tmp_path, network, word_tokenizer()))
    certain = model.decode([8])
    nats = model.token_nll([f"the {certain} {certain}"])[0]
    assert nats[1:].max() < 1e-6
