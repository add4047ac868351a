"""Stance from a natural-language-inference cross-encoder that the user brings.

A text is the premise and a clause the hypothesis, never the other way round: a text breaks a
clause as far as it entails what a violation does, or contradicts what the clause states. Which
output means what is read from the model's own `id2label` and tried on three known pairs before
anything is judged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError, FileMissing, UnsupportedModel
from auditor.language.sequence_classifier import (
    Classified,
    Classify,
    SequenceClassifier,
    classified,
    in_batches,
    most_tokens,
    open_sequence_classifier,
    read_configuration,
    read_labels,
    refuse_long,
)
from auditor.library_faults import faults_told
from auditor.models.first_load import open_tried
from auditor.models.session import Session
from auditor.trace.content_policy import Clause

Float64 = NDArray[np.float64]

ENTAILMENT: Final = "entailment"
CONTRADICTION: Final = "contradiction"
MAX_TOKENIZER_BYTES: Final = 2**28
_TOKENS: Final = 2**32
CANNED: Final = (
    ("A man is sleeping in his bed.", "A person is asleep.", ENTAILMENT),
    ("A man is sleeping in his bed.", "Nobody is asleep.", CONTRADICTION),
    ("A black dog runs over the field.", "A woman is painting her kitchen.", "neutral"),
)
"""Premise, hypothesis and what holds between them."""


class NliScorer:
    """Stance by a cross-encoder.

    Args:
        classify: The model: premises and hypotheses to chances.
        labels: What each of its outputs means.
        name: For reports.

    Attributes:
        cut: Texts of which the model may not have read the end, since the scorer was made.

    Raises:
        ConfigurationError: The labels lack what is needed, or the model fails the known pairs.
    """

    def __init__(self, classify: Classify, labels: Sequence[str], name: str) -> None:
        self.classify, self.name, self.cut = classify, f"nli, {name}", 0
        plain = [_plain_label(label) for label in labels]
        if plain.count(CONTRADICTION) != 1 or plain.count(ENTAILMENT) > 1:
            raise ConfigurationError(
                f"{name}: its labels are {', '.join(labels)} and not exactly one is a "
                "contradiction; give a natural-language-inference model"
            )
        self._entails = plain.index(ENTAILMENT) if ENTAILMENT in plain else None
        self._contradicts = plain.index(CONTRADICTION)
        self._try_known_pairs(plain, name)

    def score(self, texts: Sequence[str], clauses: Sequence[Clause]) -> Float64:
        """How far each text breaks each clause, [texts, clauses], in [0, 1]."""
        pairs: list[tuple[str, str]] = []
        places: list[tuple[int, int, int]] = []
        for row, text in enumerate(texts):
            for column, clause in enumerate(clauses):
                pairs.append((text, clause.statement))
                places.append((row, column, self._contradicts))
                if self._entails is not None:
                    pairs.append((text, clause.violation))
                    places.append((row, column, self._entails))
        found = np.zeros((len(texts), len(clauses)))
        if not pairs:
            return found
        judged = self.classify([text for text, _ in pairs], [clause for _, clause in pairs])
        self.cut += len({
            row for (row, _, _), cut in zip(places, judged.cut.tolist(), strict=True) if cut
        })  # fmt: skip
        for (row, column, label), values in zip(places, judged.chances, strict=True):
            found[row, column] = max(found[row, column], values[label])
        return found

    def _try_known_pairs(self, labels: list[str], name: str) -> None:
        chances = self.classify([each[0] for each in CANNED], [each[1] for each in CANNED]).chances
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
    """`entailment`, `contradiction`, `neutral` or the label itself, however it is spelt."""
    words = re.findall("[a-z]+", label.lower())
    if not {"not", "no", "non"} & set(words):
        for known in (ENTAILMENT, CONTRADICTION, "neutral"):
            if known in words:
                return known
    return label.lower()


def open_nli(path: Path, device: str = "cpu") -> NliScorer:
    """A cross-encoder from a transformers folder, or an ONNX file with its tokenizer beside it.

    Args:
        path: Folder with safetensors weights, or `model.onnx` whose folder holds `config.json`
            and `tokenizer.json`.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        FileMissing: Something is not there.
        RefusedModel: The files are not safe to open.
        UnsupportedModel: They are no whole classifier.
        ConfigurationError: It is no natural-language-inference model.
    """
    if not path.is_dir() and path.suffix != ".onnx":
        raise FileMissing(path, "NLI model (a folder, or an .onnx file)")
    found = open_sequence_classifier(path, device) if path.is_dir() else _open_onnx(path, device)
    return NliScorer(found.classify, found.labels, found.name)


def _open_onnx(path: Path, device: str) -> SequenceClassifier:
    model = open_tried(path)
    config = read_configuration(path.parent)
    labels = read_labels(path.parent, config)
    session = Session.create(model, device)
    wanted = [each.name for each in session.inputs]
    fixed = [each.shape[1] for each in session.inputs if len(each.shape) == 2 and each.shape[1]]
    most = min([most_tokens(config), *(axis for axis in fixed if axis)])
    pad = config.get("pad_token_id")
    tokenizer = _open_tokenizer(path.parent / "tokenizer.json")
    counter = _open_tokenizer(path.parent / "tokenizer.json")
    tokenizer.enable_truncation(most, strategy="only_first")
    tokenizer.enable_padding(
        length=most if fixed else None,
        pad_id=pad if isinstance(pad, int) and 0 <= pad < _TOKENS else 0,
    )

    def classify(texts: Sequence[str], hypotheses: Sequence[str] | None = None) -> Classified:
        others = [""] * len(texts) if hypotheses is None else hypotheses
        refuse_long(path, others, lambda text: len(_ids_of(counter, text)), most)
        encoded = tokenizer.encode_batch(list(zip(texts, others, strict=True)))
        arrays = {
            "input_ids": np.array([each.ids for each in encoded], dtype=np.int64),
            "attention_mask": np.array([each.attention_mask for each in encoded], dtype=np.int64),
            "token_type_ids": np.array([each.type_ids for each in encoded], dtype=np.int64),
        }
        outputs = session.run({name: arrays[name] for name in wanted if name in arrays})
        logits = np.asarray(next(iter(outputs.values())), dtype=np.float64)
        return classified(path, logits, arrays["attention_mask"].sum(axis=1) >= most, len(labels))

    return SequenceClassifier(f"{path.name} {model.digest}", labels, in_batches(classify))


def _ids_of(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text alone, without signs of its beginning and end."""
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def _open_tokenizer(file: Path) -> Any:
    from tokenizers import Tokenizer

    if not file.is_file():
        raise FileMissing(file, "tokenizer of the NLI model")
    if file.stat().st_size > MAX_TOKENIZER_BYTES:
        raise ConfigurationError(f"{file} has more than {MAX_TOKENIZER_BYTES} bytes")
    with faults_told(lambda problem: UnsupportedModel(
        f"no tokenizer: {problem}", place=str(file), way_out="save it again"
    )):  # fmt: skip
        found: Any = Tokenizer.from_str(file.read_text("utf-8"))
    found.no_truncation()
    found.no_padding()
    return found
