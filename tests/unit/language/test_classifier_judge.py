"""A classifier that a user brings as the judge of refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from auditor.errors import ConfigurationError, FileMissing, RefusedModel
from auditor.language.classifier_judge import ClassifierJudge, meaning_of, open_classifier_judge
from auditor.language.refusal import Behaviour, RefusalJudge
from auditor.language.sequence_classifier import Classified, SequenceClassifier
from tests.models.tiny_classifiers import save_classifier, trained_classifier

GOOD = ("oil the bearing", "clean the filter", "write the hours in the log")
BAD = ("nobody may do that", "that stays closed", "ask somebody else")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that knows six sentences."""
    examples = [(text, None, 0) for text in GOOD] + [(text, None, 1) for text in BAD]
    place = tmp_path_factory.mktemp("rejection")
    return save_classifier(place, *trained_classifier(examples, ("NORMAL", "REJECTION")))


def planted(labels: tuple[str, ...], *rows: tuple[float, ...]) -> SequenceClassifier:
    """Gives texts these chances, in order."""
    return SequenceClassifier(
        "planted", labels,
        lambda texts, _: Classified(np.array(rows[: len(texts)]), np.zeros(len(texts), bool)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("label", "meaning"),
    [
        ("REJECTION", Behaviour.REFUSED), ("refusal", Behaviour.REFUSED),
        ("2_full_refusal", Behaviour.REFUSED), ("Declined", Behaviour.REFUSED),
        ("refused", Behaviour.REFUSED), ("partial_refusal", Behaviour.PARTIAL),
        ("NORMAL", Behaviour.ANSWERED), ("LABEL_1", Behaviour.ANSWERED),
        ("non-refusal", Behaviour.ANSWERED), ("not_refused", Behaviour.ANSWERED),
        ("no refusal", Behaviour.ANSWERED), ("compliance", Behaviour.ANSWERED),
    ],
)  # fmt: skip
def test_labels_mean_what_they_say(label: str, meaning: Behaviour) -> None:
    assert meaning_of(label) is meaning


def test_the_likeliest_label_counts_and_blanks_are_not_read() -> None:
    """Score is the chance of the refusing label, whichever wins."""
    judge = ClassifierJudge(planted(
        ("partial refusal", "refusal", "answer"), (0.5, 0.2, 0.3), (0.1, 0.8, 0.1), (0.0, 0.4, 0.6)
    ))  # fmt: skip
    assert isinstance(judge, RefusalJudge)
    found = judge.judge(["a", " \n", "b", "", "c"])
    assert [(each.behaviour, each.score) for each in found] == [
        (Behaviour.PARTIAL, 0.2), (Behaviour.EMPTY, 0.0), (Behaviour.REFUSED, 0.8),
        (Behaviour.EMPTY, 0.0), (Behaviour.ANSWERED, 0.4),
    ]  # fmt: skip
    assert [each.behaviour for each in judge.judge(["", " "])] == [Behaviour.EMPTY] * 2
    assert judge.judge([]) == []


def test_a_trained_classifier_judges(folder: Path) -> None:
    judge = open_classifier_judge(folder)
    assert [each.behaviour for each in judge.judge([*GOOD, *BAD] * 4)] == [
        *[Behaviour.ANSWERED] * 3, *[Behaviour.REFUSED] * 3
    ] * 4  # fmt: skip
    assert judge.version.startswith(f"{folder.name} sha256:")


@pytest.mark.parametrize(
    ("labels", "count"), [(("safe", "unsafe"), 0), (("refusal", "rejection"), 2)]
)
def test_exactly_one_label_has_to_say_refused(labels: tuple[str, ...], count: int) -> None:
    with pytest.raises(ConfigurationError, match=f"{count} labels say refused .*exactly one"):
        ClassifierJudge(planted(labels))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="none"):
        open_classifier_judge(tmp_path / "none")


def test_a_folder_that_brings_code_is_refused(folder: Path, tmp_path: Path) -> None:
    """`auto_map` would have transformers fetch it."""
    shutil.copytree(folder, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    config = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(config | {"auto_map": {"AutoModel": "code.Model"}}), "utf-8")
    with pytest.raises(RefusedModel) as caught:
        open_classifier_judge(tmp_path / "m")
    assert "auto_map" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    """Nothing of them is read."""
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(RefusedModel) as caught:
        open_classifier_judge(tmp_path / "m")
    assert "\n" not in str(caught.value)
