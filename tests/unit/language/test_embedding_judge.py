"""The trained judge: its solver, its file, its judgements."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from auditor.errors import ConfigurationError, FileMissing, InvalidText, NothingToAudit
from auditor.language.embedding_judge import (
    MAX_FILE_BYTES,
    EmbeddingJudge,
    fit_logistic,
    load_judge,
    train_judge,
)
from auditor.language.refusal import Behaviour, LabelledSet, RefusalJudge

WORDS = ("nay", "yes", "wool", "river")


class _CountingEmbedder:
    """How often each of four words occurs, scaled to length 1."""

    def __init__(self, digit: str = "a") -> None:
        self.digest = "sha256:" + digit * 64

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.array([[text.split().count(word) for word in WORDS] for text in texts], float)
        lengths = np.maximum(1.0, np.linalg.norm(counts, axis=1, keepdims=True))
        return np.asarray(counts / lengths, np.float32)


LABELLED = LabelledSet(
    ("nay wool", "nay river", "nay nay", "yes wool", "yes river", " "),
    (True, True, True, False, False, False),
)


@pytest.fixture
def judge() -> EmbeddingJudge:
    return train_judge(LABELLED, _CountingEmbedder())


def test_the_solver_finds_what_scikit_learn_finds() -> None:
    """Weights and bias of the balanced, ridge-penalised fit agree."""
    generator = np.random.default_rng(3)
    features = generator.normal(size=(120, 7))
    truth = features @ generator.normal(size=7) + generator.normal(size=120) > 0.8
    for ridge in (0.1, 1.0, 20.0):
        ours = fit_logistic(features, truth, ridge)
        theirs = LogisticRegression(C=1 / ridge, class_weight="balanced", tol=1e-10, max_iter=5000)
        theirs.fit(features, truth)
        np.testing.assert_allclose(ours.weights, theirs.coef_[0], atol=1e-5)
        assert ours.bias == pytest.approx(theirs.intercept_[0], abs=1e-5)


def test_classes_that_a_plane_separates_have_finite_weights() -> None:
    """The penalty keeps the minimum where a likelihood alone has none."""
    features = np.array([[-30.0], [-20.0], [20.0], [30.0]])
    fit = fit_logistic(features, np.array([False, False, True, True]), 1e-3)
    assert np.isfinite(fit.weights).all()
    assert fit.weights[0] > 0


def test_what_was_planted_is_learned(judge: EmbeddingJudge) -> None:
    """The word of the refusals decides; blanks are empty and keep their place."""
    judged = judge.judge(["yes yes", "", "nay wool river"])
    assert [one.behaviour for one in judged] == [
        Behaviour.ANSWERED, Behaviour.EMPTY, Behaviour.REFUSED,
    ]  # fmt: skip
    assert judged[0].score < 0.5 <= judged[2].score < 1


def test_the_judge_is_one_of_the_protocol(judge: EmbeddingJudge) -> None:
    """It can stand wherever a judge is asked for."""
    assert isinstance(judge, RefusalJudge)


def test_the_cut_decides() -> None:
    """The same score is a refusal below a low cut and an answer below a high one."""
    low = train_judge(LABELLED, _CountingEmbedder(), cut=0.01).judge(["wool"])[0]
    high = train_judge(LABELLED, _CountingEmbedder(), cut=0.99).judge(["wool"])[0]
    assert low.score == high.score
    assert (low.behaviour, high.behaviour) == (Behaviour.REFUSED, Behaviour.ANSWERED)


def test_a_stored_judge_judges_alike(judge: EmbeddingJudge, tmp_path: Path) -> None:
    """What is read back has the same version and the same scores to the last bit."""
    judge.save(tmp_path / "judge.json")
    again = load_judge(tmp_path / "judge.json", _CountingEmbedder())
    assert again.file == judge.file
    assert again.version == judge.version
    texts = ["nay", "yes wool", "river wool nay yes"]
    assert again.judge(texts) == judge.judge(texts)


def test_the_file_says_what_it_was_trained_on(judge: EmbeddingJudge) -> None:
    """Counts without blanks, and a digest that order does not change but a label does."""
    assert (judge.file.refused, judge.file.answered) == (3, 2)
    turned = LabelledSet(LABELLED.completions[::-1], LABELLED.refused[::-1])
    assert train_judge(turned, _CountingEmbedder()).file.data == judge.file.data
    other = LabelledSet(LABELLED.completions, (True, True, False, False, False, False))
    assert train_judge(other, _CountingEmbedder()).file.data != judge.file.data


def test_another_embedder_is_noticed(judge: EmbeddingJudge, tmp_path: Path) -> None:
    """Weights of one embedder say nothing of another's vectors."""
    judge.save(tmp_path / "judge.json")
    with pytest.raises(ConfigurationError, match="trained with the embedder"):
        load_judge(tmp_path / "judge.json", _CountingEmbedder("b"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format"),
        ({"weights": []}, "weights"),
        ({"weights": ["nan"]}, "weights"),
        ({"weights": [1e999]}, "weights"),
        ({"bias": "Infinity"}, "bias"),
        ({"cut": 1.0}, "cut"),
        ({"embedder": "sha256:x"}, "embedder"),
        ({"more": 1}, "more"),
    ],
)
def test_a_file_that_was_tampered_with_is_refused(
    judge: EmbeddingJudge, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """One line that names the entry."""
    path = tmp_path / "judge.json"
    judge.save(path)
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | change), "utf-8")
    with pytest.raises(InvalidText, match=message) as caught:
        load_judge(path, _CountingEmbedder())
    assert "\n" not in str(caught.value)


def test_weights_of_another_width_are_refused(judge: EmbeddingJudge, tmp_path: Path) -> None:
    """Fewer weights than the embedder's vectors have numbers cannot judge."""
    path = tmp_path / "judge.json"
    judge.save(path)
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"weights": [1.0]}), "utf-8")
    with pytest.raises(ConfigurationError, match="1 weights"):
        load_judge(path, _CountingEmbedder()).judge(["nay"])


def test_files_that_are_no_judge_are_refused(tmp_path: Path) -> None:
    """Missing, no JSON, or too large: said in one line."""
    path = tmp_path / "judge.json"
    with pytest.raises(FileMissing):
        load_judge(path, _CountingEmbedder())
    path.write_bytes(b"\xff{")
    with pytest.raises(InvalidText, match="no stored refusal judge"):
        load_judge(path, _CountingEmbedder())
    path.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(InvalidText, match="larger than"):
        load_judge(path, _CountingEmbedder())


def test_training_needs_both_kinds() -> None:
    """Refusals alone teach nothing."""
    with pytest.raises(NothingToAudit, match="refusals and answers"):
        train_judge(LabelledSet(("nay", ""), (True, False)), _CountingEmbedder())


@pytest.mark.parametrize("settings", [{"ridge": 0.0}, {"cut": 0.0}, {"ridge": float("nan")}])
def test_settings_out_of_range_are_named(settings: dict[str, float]) -> None:
    """Both values stand in the message."""
    with pytest.raises(ConfigurationError, match="ridge"):
        train_judge(LABELLED, _CountingEmbedder(), **settings)
