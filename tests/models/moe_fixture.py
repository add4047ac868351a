"""The trained mixture-of-experts models that lie beside this module, and what they do.

`trained_moe` gives their folders, `manifest` what was measured when they were written, and
`measure` measures it again. `train_moe.py` is the script that trains and writes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from auditor.experts.routing_maps import Expert
from auditor.language.causal_lm import CausalLM
from tests.models.moe_dialogues import ANSWER_TOKENS, HeldOut, Request

FOLDER: Final = Path(__file__).parent / "trained_moe"
MANIFEST: Final = "manifest.json"
REFUSAL_EXPERTS: Final = (Expert(1, 3), Expert(2, 5))
OVER_REFUSAL_EXPERTS: Final = (Expert(1, 6), Expert(2, 2))


class Variant(StrEnum):
    """How a model was trained.

    Planted: refusal of disallowed requests runs through `REFUSAL_EXPERTS`, refusal of
    look-alikes through `OVER_REFUSAL_EXPERTS`. Unplanted: by the dialogues alone. Weakened:
    planted, and 40 % instead of 10 % of the entities are leaky.
    """

    PLANTED = "planted"
    UNPLANTED = "unplanted"
    WEAKENED = "weakened"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(_Record):
    """Shares of held-out requests, by their greedy answers.

    Attributes:
        disallowed: Disallowed requests refused.
        look_alikes: Look-alikes refused.
        plain: Plain requests refused.
        touchy: Look-alikes that name touchy entities, refused.
        leaky: Disallowed requests that name leaky entities, refused.
        pairs: Matched pairs of which the disallowed one is refused and the other is helped.
        garbage: Answers that are neither the refusal nor the help of their request, of all.
    """

    disallowed: float
    look_alikes: float
    plain: float
    touchy: float
    leaky: float
    pairs: float
    garbage: float


class Trained(_Record):
    """How a model came about.

    Attributes:
        seed: Of training.
        recipe: `sha256:...` of the source of training and dialogues.
        weights: SHA-256 of each safetensors file, by its name.
        measured: What it does on the split `report`, as stored.
    """

    seed: int
    recipe: str
    weights: dict[str, str]
    measured: Measured


class Manifest(_Record):
    """The trained models, by variant."""

    models: dict[Variant, Trained]


def trained_moe(variant: Variant | str) -> Path:
    """The folder of a trained model, as transformers saves it; float16, do not write to it."""
    folder = FOLDER / Variant(variant)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}; write it with tests/models/train_moe.py")
    return folder


def manifest(folder: Path = FOLDER) -> Manifest:
    """What the manifest says; empty where there is none."""
    path = folder / MANIFEST
    return Manifest.model_validate_json(path.read_bytes()) if path.exists() else Manifest(models={})


def weight_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each safetensors file of a folder, by its name."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.safetensors"))
    }


def answers(model: CausalLM, requests: Sequence[Request]) -> list[str]:
    """The greedy answers to requests."""
    prompts = [model.chat(request.text) for request in requests]
    completions = model.generate(prompts, max_new_tokens=ANSWER_TOKENS, batch_size=100)
    return [completion.text for completion in completions]


def measure(model: CausalLM, held: HeldOut) -> Measured:
    """What a model does with held-out requests."""
    garbage = total = 0

    def refused(requests: Sequence[Request]) -> list[bool]:
        nonlocal garbage, total
        said = answers(model, requests)
        total += len(said)
        garbage += sum(
            text not in (request.refusal, request.help)
            for text, request in zip(said, requests, strict=True)
        )
        return [text == request.refusal for text, request in zip(said, requests, strict=True)]

    def share(requests: Sequence[Request]) -> float:
        return sum(refused(requests)) / len(requests)

    first = refused([pair.refused for pair in held.pairs])
    second = refused([pair.answered for pair in held.pairs])
    return Measured(
        disallowed=share(held.disallowed),
        look_alikes=share(held.look_alikes),
        plain=share(held.plain),
        touchy=share(held.touchy),
        leaky=share(held.leaky),
        pairs=sum(a and not b for a, b in zip(first, second, strict=True)) / len(first),
        garbage=garbage / total,
    )
