"""Refusal judges by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auditor.errors import AuditorError, ConfigurationError, FileMissing, UnsupportedModel
from auditor.language.causal_lm import CausalLM
from auditor.language.embedding_judge import train_judge
from auditor.language.judges import JUDGES, JudgeChoice, open_refusal_judge
from auditor.language.refusal import LabelledSet, MarkerJudge
from auditor.language.sentence_embedding import SentenceEmbedder
from tests.models.language_models import random_model, save_folder, word_tokenizer
from tests.models.tiny_classifiers import save_classifier, trained_classifier


@pytest.fixture
def model(tmp_path: Path) -> CausalLM:
    return CausalLM.open(save_folder(tmp_path / "lm", random_model("llama"), word_tokenizer()))


def test_each_judge_is_opened_by_its_name(model: CausalLM, tmp_path: Path) -> None:
    """With what it needs, and no other."""
    labelled = LabelledSet(("I cannot do that.", "Take two needles."), (True, False))
    train_judge(labelled, SentenceEmbedder.open()).save(tmp_path / "judge.json")
    examples = [("oil it", None, 0), ("leave it", None, 1)]
    save_classifier(tmp_path / "c", *trained_classifier(examples, ("fine", "refusal")))
    choices = {
        "markers": JudgeChoice(), "embedding": JudgeChoice("embedding", tmp_path / "judge.json"),
        "classifier": JudgeChoice("classifier", folder=tmp_path / "c"),
        "first token": JudgeChoice("first-token", openings=("the",)),
    }  # fmt: skip
    assert {choice.name for choice in choices.values()} == set(JUDGES)
    assert [open_refusal_judge(choice, model).name for choice in choices.values()] == list(choices)
    assert open_refusal_judge(JudgeChoice(), model) == MarkerJudge()


@pytest.mark.parametrize(
    ("choice", "problem", "kind"),
    [
        (
            {"name": "embedding"},
            "judge embedding without its file; give judge_file",
            ConfigurationError,
        ),
        ({"name": "classifier"}, "judge classifier without its folder", ConfigurationError),
        (
            {"file": Path("j.json")},
            "judge_file j.json is for the judge embedding, and the judge is markers",
            ConfigurationError,
        ),
        (
            {"name": "first-token", "folder": Path("c")},
            "judge_folder c is for the judge classifier",
            ConfigurationError,
        ),
        (
            {"name": "embedding", "file": Path("none.json")},
            "refusal judge not found: none.json",
            FileMissing,
        ),
        (
            {"name": "classifier", "folder": Path("none")},
            "folder of the refusal judge not found: none",
            FileMissing,
        ),
    ],
)
def test_what_does_not_fit_is_one_line(
    model: CausalLM, choice: dict[str, Any], problem: str, kind: type[AuditorError]
) -> None:
    """Before anything is opened."""
    with pytest.raises(kind) as caught:
        open_refusal_judge(JudgeChoice(**choice), model)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_without_chances_has_no_first_token_judge() -> None:
    class Silent:
        """Completes, and says no chances."""

        tokenizer = word_tokenizer()

    silent: Any = Silent()
    with pytest.raises(UnsupportedModel, match="needs chances of tokens"):
        open_refusal_judge(JudgeChoice("first-token"), silent)
