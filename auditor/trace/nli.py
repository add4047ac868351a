"""Stance from a natural-language-inference cross-encoder that the user brings.

A text is the premise and a clause the hypothesis, never the other way round: a text breaks a
clause as far as it entails what a violation does, or contradicts what the clause states. Which
output means what is read from the model's own `id2label` and tried on three known pairs before
anything is judged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError, FileMissing, RefusedModel
from auditor.models.onnx_model import OnnxModel
from auditor.models.session import Session
from auditor.models.transformers_folder import read_folder
from auditor.trace.content_policy import Clause

Float64 = NDArray[np.float64]
Classify = Callable[[Sequence[tuple[str, str]]], Float64]
"""Premises and hypotheses to probabilities, [pairs, labels]."""

ENTAILMENT: Final = "entailment"
CONTRADICTION: Final = "contradiction"
MAX_TOKENS: Final = 512
BATCH: Final = 16
CANNED: Final = (
    ("A man is sleeping in his bed.", "A person is asleep.", ENTAILMENT),
    ("A man is sleeping in his bed.", "Nobody is asleep.", CONTRADICTION),
    ("A black dog runs over the field.", "A woman is painting her kitchen.", "neutral"),
)
"""Premise, hypothesis and what holds between them."""


class NliScorer:
    """Stance by a cross-encoder.

    Args:
        classify: The model.
        labels: What each of its outputs means.
        name: For reports.

    Raises:
        ConfigurationError: The labels lack what is needed, or the model fails the known pairs.
    """

    def __init__(self, classify: Classify, labels: Sequence[str], name: str) -> None:
        self.classify, self.name = classify, f"nli, {name}"
        plain = [_plain_label(label) for label in labels]
        if CONTRADICTION not in plain:
            raise ConfigurationError(
                f"{name}: its labels are {', '.join(labels)} and none is a contradiction; give a "
                "natural-language-inference model"
            )
        self._entails = plain.index(ENTAILMENT) if ENTAILMENT in plain else None
        self._contradicts = plain.index(CONTRADICTION)
        self._try_known_pairs(plain, name)

    def score(self, texts: Sequence[str], clauses: Sequence[Clause]) -> Float64:
        """How far each text breaks each clause, [texts, clauses], in [0, 1]."""
        pairs, places = [], []
        for row, text in enumerate(texts):
            for column, clause in enumerate(clauses):
                pairs.append((text, clause.statement))
                places.append((row, column, self._contradicts))
                if self._entails is not None:
                    pairs.append((text, clause.violation))
                    places.append((row, column, self._entails))
        found = np.zeros((len(texts), len(clauses)))
        for begin in range(0, len(pairs), BATCH):
            chances = self.classify(pairs[begin : begin + BATCH])
            for (row, column, label), values in zip(
                places[begin : begin + BATCH], chances, strict=True
            ):
                found[row, column] = max(found[row, column], values[label])
        return found

    def _try_known_pairs(self, labels: list[str], name: str) -> None:
        chances = self.classify([(premise, hypothesis) for premise, hypothesis, _ in CANNED])
        for (premise, hypothesis, wanted), values in zip(CANNED, chances, strict=True):
            given = labels[int(np.argmax(values))]
            right = given == wanted if wanted in labels else given != CONTRADICTION
            if not right:
                raise ConfigurationError(
                    f"{name} calls '{hypothesis}' after '{premise}' {given} and it is {wanted}; "
                    "its labels are in another order than its id2label says, or it is no "
                    "natural-language-inference model"
                )


def _plain_label(label: str) -> str:
    """`entailment`, `contradiction` or the label itself, however it is spelt."""
    lower = label.lower()
    for known in (ENTAILMENT, CONTRADICTION):
        if known in lower and "not" not in lower:
            return known
    return "neutral" if "neutral" in lower else lower


def open_nli(path: Path, device: str = "cpu") -> NliScorer:
    """A cross-encoder from a transformers folder, or an ONNX file with its tokenizer beside it.

    Args:
        path: Folder with safetensors weights, or `model.onnx` whose folder holds `config.json`
            and `tokenizer.json`.
        device: `cpu` or `cuda`.

    Raises:
        FileMissing: Something is not there.
        RefusedModel: The files are not safe to open.
        ConfigurationError: It is no natural-language-inference model.
    """
    if path.is_dir():
        folder = read_folder(path)
        labels = _labels(path)
        return NliScorer(_torch_classifier(path, device), labels, f"{path.name} {folder.digest}")
    if path.suffix != ".onnx":
        raise FileMissing(path, "NLI model (a folder, or an .onnx file)")
    model = OnnxModel.open(path)
    name = f"{path.name} {model.digest}"
    return NliScorer(_onnx_classifier(model, path, device), _labels(path.parent), name)


def _labels(folder: Path) -> list[str]:
    """The meaning of each output, from the configuration."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileMissing(path, "configuration of the NLI model")
    try:
        table: Any = json.loads(path.read_bytes())["id2label"]
        return [str(table[str(number)]) for number in range(len(table))]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} has no id2label that names every output ({error!r}); give a model with one"
        ) from None


def _softmax(logits: Float64) -> Float64:
    away = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances: Float64 = away / away.sum(axis=1, keepdims=True)
    return chances


def _torch_classifier(folder: Path, device: str) -> Classify:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise RefusedModel(
            folder, "unreadable", str(error).splitlines()[0][:200],
            way_out="save the model again with save_pretrained",
        ) from error  # fmt: skip
    model.to(device).eval()

    def classify(pairs: Sequence[tuple[str, str]]) -> Float64:
        encoded = tokenizer(
            [premise for premise, _ in pairs], [hypothesis for _, hypothesis in pairs],
            padding=True, truncation="only_first", max_length=MAX_TOKENS, return_tensors="pt",
        ).to(device)  # fmt: skip
        with torch.no_grad():
            logits = model(**encoded).logits
        return _softmax(logits.double().cpu().numpy())

    return classify


def _onnx_classifier(model: OnnxModel, path: Path, device: str) -> Classify:
    from tokenizers import Tokenizer

    file = path.parent / "tokenizer.json"
    if not file.is_file():
        raise FileMissing(file, "tokenizer of the NLI model")
    tokenizer: Any = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(MAX_TOKENS, strategy="only_first")
    tokenizer.enable_padding()
    session = Session.create(model, device)
    wanted = [each.name for each in session.inputs]

    def classify(pairs: Sequence[tuple[str, str]]) -> Float64:
        encoded = tokenizer.encode_batch(list(pairs))
        arrays = {
            "input_ids": np.array([each.ids for each in encoded], dtype=np.int64),
            "attention_mask": np.array([each.attention_mask for each in encoded], dtype=np.int64),
            "token_type_ids": np.array([each.type_ids for each in encoded], dtype=np.int64),
        }
        outputs = session.run({name: arrays[name] for name in wanted if name in arrays})
        return _softmax(np.asarray(next(iter(outputs.values())), dtype=np.float64))

    return classify
