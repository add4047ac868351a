"""Opening the refusal judge that somebody names, for the model that is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from auditor.errors import ConfigurationError, FileMissing, UnsupportedModel
from auditor.language.classifier_judge import open_classifier_judge
from auditor.language.embedding_judge import load_judge
from auditor.language.first_token import OPENINGS, FirstTokenJudge
from auditor.language.language_model import LanguageModel, NextTokenModel
from auditor.language.refusal import MarkerJudge, RefusalJudge
from auditor.language.sentence_embedding import SentenceEmbedder

JudgeName = Literal["markers", "embedding", "classifier", "first-token"]
JUDGES: Final[tuple[str, ...]] = get_args(JudgeName)


@dataclass(frozen=True)
class JudgeChoice:
    """Which judge, and what it needs.

    Attributes:
        name: `markers`, `embedding` (trained, of a file), `classifier` (of a folder) or
            `first-token` (of the judged model itself).
        file: For `embedding`.
        folder: For `classifier`.
        embedder: Folder of another sentence embedder, for `embedding`.
        openings: For `first-token`: how refusals begin.
    """

    name: JudgeName = "markers"
    file: Path | None = None
    folder: Path | None = None
    embedder: Path | None = None
    openings: Sequence[str] = OPENINGS

    def require_fit(self) -> None:
        """Refuse a judge without what it needs, and what no judge asked for; opens nothing.

        Raises:
            ConfigurationError: A file or folder is missing, or not of this judge.
            FileMissing: What is named is not there.
        """
        for kind, given, wants in (
            ("file", self.file, "embedding"), ("folder", self.folder, "classifier"),
        ):  # fmt: skip
            if self.name == wants and given is None:
                raise ConfigurationError(f"judge {wants} without its {kind}; give judge_{kind}")
            if self.name != wants and given is not None:
                raise ConfigurationError(
                    f"judge_{kind} {given} is for the judge {wants}, and the judge is "
                    f"{self.name}; leave one out"
                )
        if self.file is not None and not self.file.is_file():
            raise FileMissing(self.file, "refusal judge")
        if self.folder is not None and not self.folder.is_dir():
            raise FileMissing(self.folder, "folder of the refusal judge")


def open_refusal_judge(
    choice: JudgeChoice, model: LanguageModel, device: str = "cpu"
) -> RefusalJudge:
    """The judge for what a model says.

    Args:
        choice: Which one.
        model: The model; only `first-token` asks it anything.
        device: Where a classifier or an embedder runs.

    Raises:
        ConfigurationError: See `JudgeChoice.require_fit`; an unfit file, classifier or tokenizer.
        FileMissing, RefusedModel, UnsupportedModel: The judge's file or folder cannot be opened;
            or a model that gives no chances of tokens, for `first-token`.
    """
    choice.require_fit()
    if choice.name == "first-token":
        if not isinstance(model, NextTokenModel):
            raise UnsupportedModel(
                "the judge first-token needs chances of tokens, which this model does not give",
                way_out="judge by markers, embedding or classifier",
            )
        return FirstTokenJudge(model, choice.openings)
    if choice.file is not None:
        return load_judge(choice.file, SentenceEmbedder.open(choice.embedder, device=device))
    if choice.folder is not None:
        return open_classifier_judge(choice.folder, device)
    return MarkerJudge()
