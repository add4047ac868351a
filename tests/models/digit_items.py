"""What a repair of the digit models is told: captions of memorised digits, and of others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from auditor.fixes.diffusion_items import DiffusionItems
from auditor.memorization.diffusion.objective import MemorisedImages
from tests.models.digit_diffusion import DIGITS, STYLES, digit_classifier, digit_world

ALIKE: Final = 4
CONTROL: Final = 8


def digit_items(seed: int = 0, choose: int = 60, report: int = 40) -> DiffusionItems:
    """Everything of the model that was trained with this seed.

    Args:
        seed: Of the model.
        choose: Ordinary captions to choose by and to hold.
        report: Others to report on.
    """
    world = digit_world(seed)
    source = np.random.default_rng([seed, 2])
    alike = tuple(
        tuple(f"{name.rpartition(' ')[0]} {style}" for style in source.choice(STYLES, ALIKE, False))
        for name in world.names
    )
    ordinary = tuple(dict.fromkeys(world.other_prompts(choose, 5)))
    held_out = tuple(
        text for text in dict.fromkeys(world.other_prompts(2 * report, 0)) if text not in ordinary
    )[:report]
    rows = source.choice(len(world.captions), CONTROL, replace=False)
    return DiffusionItems(
        MemorisedImages(world.names, torch.from_numpy(world.memorised), alike),
        ordinary, held_out, torch.from_numpy(world.ordinary[rows]),
        tuple(world.captions[row] for row in rows),
        {text: str(DIGITS.index(text.split()[1])) for text in (*ordinary, *held_out)},
    )  # fmt: skip


class DigitReader:
    """Whether images show the digit of their label, by logistic regression on pixels."""

    def __init__(self, seed: int = 0) -> None:
        self._classifier = digit_classifier(seed)

    def __call__(self, images: Tensor, labels: object) -> list[bool]:
        """One answer for each image."""
        assert isinstance(labels, list)
        found = self._classifier.predict(images.numpy().reshape(len(images), -1))
        return [str(digit) == label for digit, label in zip(found, labels, strict=True)]


def write_digit_items(folder: Path, items: DiffusionItems) -> list[str]:
    """Files of `auditor fix memorization` in a folder, and how the command is told of them."""
    memorised, alike = items.memorised.prompts, items.memorised.ordinary
    images = torch.cat([items.memorised.images, items.control])
    np.savez(folder / "images.npz", images=images.numpy())

    def write(name: str, rows: Sequence[Mapping[str, object]]) -> None:
        lines = [json.dumps(row) for row in rows]
        (folder / name).write_text("\n".join(lines) + "\n", "utf-8")

    def digit(text: str) -> str:
        return str(DIGITS.index(text.split()[1]))

    write("memorised.jsonl", [
        {"prompt": text, "image": str(row), "group": f"subject {row}"}
        for row, text in enumerate(memorised)
    ])  # fmt: skip
    write("ordinary.jsonl", [
        {"prompt": text, "label": digit(text), "group": f"subject {row}"}
        for row, texts in enumerate(alike) for text in texts
    ] + [{"prompt": text, "label": digit(text)} for text in items.ordinary])  # fmt: skip
    write("held-out.jsonl", [
        {"prompt": text, "label": digit(text)} for text in items.held_out
    ])  # fmt: skip
    write("never.jsonl", [
        {"prompt": text, "image": str(len(memorised) + row)}
        for row, text in enumerate(items.control_captions)
    ])  # fmt: skip
    return [
        "--memorised", "memorised.jsonl", "--ordinary", "ordinary.jsonl",
        "--held-out", "held-out.jsonl", "--never-memorised", "never.jsonl",
        "--images", "images.npz",
    ]  # fmt: skip


def write_digit_classifier(path: Path, seed: int = 0) -> None:
    """The logistic regression as an ONNX graph from images to one score for each digit."""
    classifier = digit_classifier(seed)
    weight = classifier.coef_.T.astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["flat"]),
         helper.make_node("Gemm", ["flat", "weight", "bias"], ["scores"])],
        "digits",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(weight, "weight"),
         numpy_helper.from_array(classifier.intercept_.astype(np.float32), "bias")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, path)
