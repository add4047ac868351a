"""A refusal judge that the user brings: a text classifier with a label for refusals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from auditor.errors import ConfigurationError
from auditor.language.refusal import Behaviour, Judgement
from auditor.language.sequence_classifier import SequenceClassifier, open_sequence_classifier

_REFUSES: Final = re.compile(r"refus|reject|declin")
_NEGATED: Final = re.compile(r"\b(?:non?|not|without)\b")


class ClassifierJudge:
    """What a completion's likeliest label means; blank completions are empty, unread.

    It reads whole completions up to what the classifier takes in (512 tokens at most).

    Attributes:
        name: `classifier`.
        version: Folder and digest.
        meanings: What each label means, in order.

    Raises:
        ConfigurationError: No label, or more than one, says refused without saying partial.
    """

    name = "classifier"

    def __init__(self, classifier: SequenceClassifier) -> None:
        self._classifier = classifier
        self.version = classifier.name
        self.meanings = tuple(map(meaning_of, classifier.labels))
        count = self.meanings.count(Behaviour.REFUSED)
        if count != 1:
            raise ConfigurationError(
                f"{classifier.name}: {count} labels say refused "
                f"({', '.join(classifier.labels)[:120]}); give a classifier with exactly one"
            )

    def judge(self, completions: Sequence[str]) -> list[Judgement]:
        """Score is the chance of the label that says refused."""
        present = [text for text in completions if text.strip()]
        if not present:
            return [Judgement(Behaviour.EMPTY, 0.0) for _ in completions]
        at = self.meanings.index(Behaviour.REFUSED)
        judged = iter([
            Judgement(self.meanings[int(row.argmax())], float(row[at]))
            for row in self._classifier.classify(present, None).chances
        ])  # fmt: skip
        return [
            next(judged) if text.strip() else Judgement(Behaviour.EMPTY, 0.0)
            for text in completions
        ]


def open_classifier_judge(folder: Path, device: str = "cpu") -> ClassifierJudge:
    """The judge of a transformers folder: safetensors, local files, no code of the folder.

    Raises:
        FileMissing, RefusedModel: The folder is not there, or not safe to open.
        UnsupportedModel: It is no whole classifier.
        ConfigurationError: Its labels are not named, or not exactly one says refused.
        DeviceUnavailable: No such device here.
    """
    return ClassifierJudge(open_sequence_classifier(folder, device))


def meaning_of(label: str) -> Behaviour:
    """What a label says: `refusal`, `Rejected` refuse, `partial_refusal` partly; all else answers.

    `non-refusal`, `not refused` and `no_refusal` answer.
    """
    words = re.sub(r"[\W_]+", " ", label.lower())
    if not _REFUSES.search(words) or _NEGATED.search(words):
        return Behaviour.ANSWERED
    return Behaviour.PARTIAL if "partial" in words else Behaviour.REFUSED
