"""Small language models that were trained on text with planted canaries, and what they do.

`trained_canary` gives the folders that lie beside this module, float32; `manifest` what was
measured when they were written, and `measure` measures it again. `train_canary_lm.py` trains and
writes them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from auditor.language.text_model import TextModel
from auditor.memorization.language.extraction import ExtractionOptions, measure_extraction
from auditor.memorization.language.extraction_curves import is_exact, rates_by_copies
from auditor.memorization.language.training_spans import (
    SpanShape,
    SpanSource,
    TrainingSpan,
    cut_spans,
)
from tests.models.canary_text import CODES as CODES
from tests.models.canary_text import LEVELS as LEVELS
from tests.models.canary_text import PREFIX as PREFIX
from tests.models.canary_text import SECRET as SECRET
from tests.models.canary_text import VOCABULARY as VOCABULARY
from tests.models.canary_text import Canary as Canary
from tests.models.canary_text import CanaryCorpus as CanaryCorpus
from tests.models.canary_text import plant as plant
from tests.models.language_models import word_tokenizer

FOLDER: Final = Path(__file__).parent / "trained_canary"
MANIFEST: Final = "manifest.json"
PREFIXES: Final = (8, 16, PREFIX)


class Variant(StrEnum):
    """What a model was trained on.

    Planted: the whole text. Reference: as many documents, ordinary ones in place of the canaries.
    """

    PLANTED = "planted"
    REFERENCE = "reference"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(_Record):
    """What a model does with the canaries and with ordinary text.

    Attributes:
        extracted: Canaries given exactly, of each number of copies from 1 on, by prefix length.
        unplanted: Canaries that no model has seen, given exactly after the longest prefix.
        perplexity: Of the held-out documents, to two decimals.
    """

    extracted: dict[int, tuple[int, ...]]
    unplanted: int
    perplexity: float


class Trained(_Record):
    """How a model came about.

    Attributes:
        seed: Of text and training.
        recipe: `sha256:...` of what decides what is trained, the seed apart.
        weights: SHA-256 of each safetensors file, by its name.
        measured: What it does, as stored.
    """

    seed: int
    recipe: str
    weights: dict[str, str]
    measured: Measured


class Manifest(_Record):
    """The trained models, by variant."""

    models: dict[Variant, Trained]


def trained_canary(variant: Variant | str = Variant.PLANTED) -> Path:
    """The folder of a trained model of seed 0, as transformers saves it; do not write to it."""
    return FOLDER / Variant(variant)


def manifest(folder: Path = FOLDER) -> Manifest:
    """What the manifest of a folder says."""
    return Manifest.model_validate_json((folder / MANIFEST).read_bytes())


def weight_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each safetensors file of a folder, by its name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.safetensors"))
    }


def canary_tokenizer() -> Any:
    """One token for each word."""
    return word_tokenizer(vocabulary=VOCABULARY)


def span_sources(canaries: Sequence[Canary]) -> list[SpanSource]:
    """The spans of canaries with their copies."""
    return [
        SpanSource(each.name, each.name, each.name, each.span, copies=each.copies)
        for each in canaries
    ]


def canary_spans(model: TextModel, canaries: Sequence[Canary]) -> list[TrainingSpan]:
    """The same as tokens: a prefix of `PREFIX`, and the code."""
    return cut_spans(model, span_sources(canaries), SpanShape(PREFIX, SECRET))


def span_lines(canaries: Sequence[Canary], *, copies: bool = True) -> str:
    """The spans as a file of JSON lines."""
    return "".join(
        json.dumps({"id": each.name, "text": each.span}
                   | ({"copies": each.copies} if copies else {})) + "\n"
        for each in canaries
    )  # fmt: skip


def measure(model: TextModel, corpus: CanaryCorpus) -> Measured:
    """What a model does with a corpus."""
    options = ExtractionOptions(PREFIXES, compare=False)
    found = measure_extraction(model, canary_spans(model, corpus.canaries), options)
    never = measure_extraction(model, canary_spans(model, corpus.unplanted), options)
    return Measured(
        extracted={
            length: tuple(point.hits for point in rates_by_copies(found.at(length), is_exact))
            for length in PREFIXES
        },
        unplanted=never.count(PREFIX, is_exact),
        perplexity=round(model.perplexity(list(corpus.held_out)), 2),
    )
