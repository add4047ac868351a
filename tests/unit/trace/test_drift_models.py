"""Models are asked alike: prompts as they are or in the chat form, seeds the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import FileMissing
from auditor.language.causal_lm import CausalLM
from auditor.trace.drift_models import Asking, asker
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
        assert asker(folder, Asking(new_tokens=6, chat=chat))(["the cat"]) == [expected]


def test_samples_of_one_seed_are_the_same(folder: Path) -> None:
    """Also by a model that is opened anew; of another seed they differ."""
    sampling = Asking(new_tokens=12, seed=4, temperature=1.5)
    prompts = ["the cat", "a dog sees", "the cat"]
    first = asker(folder, sampling)(prompts)
    assert first == asker(folder, sampling)(prompts)
    assert first != asker(folder, Asking(new_tokens=12, seed=5, temperature=1.5))(prompts)


def test_a_missing_folder_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    """The model is opened at once."""
    with pytest.raises(FileMissing):
        asker(tmp_path / "none", Asking())
