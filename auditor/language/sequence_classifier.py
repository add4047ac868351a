"""A text classifier of a transformers folder: vetted, whole, and with labels that say what is what.

Used for stance and for safety. A head without weights would be filled with random numbers and a
configuration can ask for more memory than its weights hold, so both are refused before anything
is judged; so are outputs that are no numbers, which would compare as harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError, FileMissing, UnsupportedModel
from auditor.language.opening import (
    choose_device,
    load_whole,
    open_tokenizer,
    quiet_transformers,
)
from auditor.models.folder_config import read_config
from auditor.models.limits import FolderLimits
from auditor.models.transformers_folder import read_folder

Float64 = NDArray[np.float64]
MAX_TOKENS: Final = 512
BATCH: Final = 16


class Classified(NamedTuple):
    """What a classifier makes of texts.

    Attributes:
        chances: Of each label, [texts, labels], float64; rows sum to 1.
        cut: Texts that fill all the model reads, so that their end may be cut off, [texts], bool.
    """

    chances: Float64
    cut: NDArray[np.bool_]


Classify = Callable[[Sequence[str], Sequence[str] | None], Classified]
"""Texts and, for pairs, as many hypotheses; only texts are cut."""


@dataclass(frozen=True)
class SequenceClassifier:
    """An opened classifier.

    Attributes:
        name: Folder or file, with its digest.
        labels: What each output means.
        classify: The model, `BATCH` texts at once.
    """

    name: str
    labels: tuple[str, ...]
    classify: Classify


def open_sequence_classifier(folder: Path, device: str = "cpu") -> SequenceClassifier:
    """The classifier of a folder: safetensors, local files, no code of the folder.

    Args:
        folder: As transformers saves it.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        FileMissing, RefusedModel: The folder is not there, or not safe to open.
        ConfigurationError: Its configuration does not name every label.
        UnsupportedModel: transformers cannot open it, or weights are missing.
        DeviceUnavailable: No such device here.
    """
    device = choose_device(device)
    read = read_folder(folder)
    config = read_configuration(folder)
    labels = read_labels(folder, config)
    with quiet_transformers():
        model = load_whole("AutoModelForSequenceClassification", read).to(device)
        tokenizer = open_tokenizer(folder)
    most = most_tokens(config, tokenizer.model_max_length)

    def classify(texts: Sequence[str], hypotheses: Sequence[str] | None = None) -> Classified:
        import torch

        sides = [list(texts)] if hypotheses is None else [list(texts), list(hypotheses)]
        if hypotheses is not None:
            refuse_long(folder, hypotheses, lambda text: len(tokenizer.tokenize(text)), most)
        encoded = tokenizer(
            *sides, padding=True, truncation=True if hypotheses is None else "only_first",
            max_length=most, return_tensors="pt",
        ).to(device)  # fmt: skip
        with torch.inference_mode():
            logits = model(**encoded).logits
        filled = encoded["attention_mask"].sum(dim=1).cpu().numpy()
        return classified(folder, logits.double().cpu().numpy(), filled >= most, len(labels))

    return SequenceClassifier(f"{folder.name} {read.digest}", labels, in_batches(classify))


def read_configuration(folder: Path) -> dict[str, Any]:
    """The `config.json` of a folder, checked.

    Raises:
        FileMissing, RefusedModel: There is none, or it is not safe to follow.
    """
    path, limits = folder / "config.json", FolderLimits()
    if not path.is_file():
        raise FileMissing(path, "configuration of the classifier")
    with path.open("rb") as file:
        content = file.read(limits.config_bytes + 1)
    if len(content) > limits.config_bytes:
        raise ConfigurationError(f"{path} has more than {limits.config_bytes} bytes; save it again")
    return read_config(folder, path.name, content, limits)


def read_labels(folder: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """The meaning of each output.

    Raises:
        ConfigurationError: The configuration does not name at least two, numbered from 0.
    """
    table = config.get("id2label")
    names = [str(number) for number in range(len(table))] if isinstance(table, dict) else []
    if len(names) < 2 or not isinstance(table, dict) or set(table) != set(names):
        raise ConfigurationError(
            f"{folder / 'config.json'} has no id2label that names two outputs or more, numbered "
            "from 0; give a model with one"
        )
    return tuple(str(table[name]) for name in names)


def most_tokens(config: Mapping[str, Any], limit: int = MAX_TOKENS) -> int:
    """Tokens that a model reads at once.

    Args:
        config: Its configuration.
        limit: What its tokenizer says.
    """
    # Models of the RoBERTa family count positions from 2 on and say nothing of it.
    positions = config.get("max_position_embeddings")
    seen = positions - 2 if isinstance(positions, int) and positions > 2 else MAX_TOKENS
    return min(MAX_TOKENS, limit, seen)


def refuse_long(
    place: Path, hypotheses: Sequence[str], count: Callable[[str], int], most: int
) -> None:
    """Refuse hypotheses that leave less than half of what a model reads to the texts.

    Raises:
        ConfigurationError: The first that is too long.
    """
    for each in dict.fromkeys(hypotheses):
        tokens = count(each)
        if tokens > most // 2:
            raise ConfigurationError(
                f"{place.name} reads {most} tokens at once and '{each[:60]}' has {tokens}; "
                "shorten that sentence, or give a model that reads more"
            )


def classified(place: Path, logits: Float64, cut: NDArray[np.bool_], labels: int) -> Classified:
    """Logits [texts, labels] as chances.

    Raises:
        UnsupportedModel: They are not one finite number for each label.
    """
    if logits.ndim != 2 or logits.shape[1] != labels:
        raise UnsupportedModel(
            f"outputs of shape {list(logits.shape)} for {labels} labels", place=str(place),
            way_out="save the model with an id2label that names each output",
        )  # fmt: skip
    if not np.isfinite(logits).all():
        raise UnsupportedModel(
            "its outputs are not finite", place=str(place), way_out="give a model in float32"
        )
    away = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Classified(away / away.sum(axis=1, keepdims=True), cut)


def in_batches(classify: Classify) -> Classify:
    """The same for any number of texts, `BATCH` at once."""

    def classify_all(texts: Sequence[str], hypotheses: Sequence[str] | None = None) -> Classified:
        found = [
            classify(
                texts[at : at + BATCH], None if hypotheses is None else hypotheses[at : at + BATCH]
            )
            for at in range(0, len(texts), BATCH)
        ]
        return Classified(
            np.concatenate([each.chances for each in found]),
            np.concatenate([each.cut for each in found]),
        )

    return classify_all
