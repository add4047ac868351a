"""Models are asked alike: prompts as they are or in the chat form, seeds the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import ConfigurationError
from auditor.language.asking import Asking, complete, completer, put_in_words, require_room
from auditor.language.causal_lm import CausalLM
from tests.models.language_models import random_model, save_folder, word_tokenizer

TEMPLATE = "<user> {{ messages[0]['content'] }} <assistant>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a chat template."""
    return save_folder(
        tmp_path_factory.mktemp("model"), random_model(), word_tokenizer(template=TEMPLATE)
    )


def test_the_chat_form_is_used_where_there_is_one(folder: Path) -> None:
    """Unless it is switched off."""
    model = CausalLM.open(folder)
    for chat, text in ((True, "<user> the cat <assistant>"), (False, "the cat")):
        expected = model.generate([text], max_new_tokens=6)[0].text
        assert completer(model, Asking(new_tokens=6, chat=chat))(["the cat"]) == [expected]


def test_samples_of_one_seed_are_the_same(folder: Path) -> None:
    """Also by a model that is opened anew; of another seed they differ."""
    sampling = Asking(new_tokens=12, seed=4, temperature=1.5)
    prompts = ["the cat", "a dog sees", "the cat"]
    first = completer(CausalLM.open(folder), sampling)(prompts)
    assert first == completer(CausalLM.open(folder), sampling)(prompts)
    other = Asking(new_tokens=12, seed=5, temperature=1.5)
    assert first != completer(CausalLM.open(folder), other)(prompts)


def test_progress_counts_all_that_is_asked(folder: Path) -> None:
    """Batch by batch, over slices, too; a run that is stopped keeps whole slices."""
    model, seen = CausalLM.open(folder), list[tuple[int, int]]()
    asking = Asking(new_tokens=2, batch_size=40)
    found = complete(
        model, ["the cat"] * 90, asking, stop=lambda: len(seen) > 1,
        progress=lambda *counts: seen.append(counts),
    )  # fmt: skip
    assert (len(found), seen) == (80, [(40, 90), (80, 90)])
    assert len(complete(model, ["the cat"] * 90, asking)) == 90
    assert complete(model, [], asking) == []


def test_a_text_without_room_is_named_by_its_place(folder: Path) -> None:
    model = CausalLM.open(folder)
    require_room(model, "cat " * 60, Asking(4), "line 3")
    with pytest.raises(ConfigurationError, match="line 3 has 61 tokens and 4 are to follow"):
        require_room(model, "cat " * 61, Asking(4), "line 3")
    with pytest.raises(ConfigurationError, match="line 4 has no tokens"):
        require_room(model, "", Asking(4), "line 4")


def test_how_prompts_are_put_is_said() -> None:
    assert [put_in_words(*each) for each in ((True, True), (False, True), (False, False))] == [
        "the tokenizer's chat template", "as they are: the tokenizer has no chat template",
        "as they are: no chat template wanted",
    ]  # fmt: skip
