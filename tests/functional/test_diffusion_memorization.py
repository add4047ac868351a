"""Diffusion models from outside: audited by a plan, and one line where they cannot be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.functional.command import Ended, auditor
from tests.models.digit_diffusion import digit_diffusion, digit_world
from tests.models.digit_plans import write_images, write_prompts
from tests.models.tiny_diffusion import change_weights, transformer_folder

WORLD = digit_world()
PARAMS: dict[str, Any] = {
    "prompts": "suspected.csv", "ordinary": "ordinary.csv", "images": "images.npz", "steps": 10,
    "guidance": 2.0, "samples": 2, "batch_size": 64,
}  # fmt: skip


def write_inputs(folder: Path) -> Path:
    """A plan's folder with prompts and images."""
    rows = [str(row) for row in range(len(WORLD.names))]
    write_prompts(folder / "suspected.csv", WORLD.names, rows)
    write_prompts(folder / "ordinary.csv", WORLD.other_prompts(8))
    write_images(folder / "images.npz", WORLD)
    return folder


def run(
    folder: Path, models: Mapping[str, Path], *codes: str, **params: Any
) -> tuple[Ended, dict[str, dict[str, Any]]]:
    """How `auditor run` ended, and the answer of every check by its id, if there is a report."""
    chosen = {**PARAMS, **params}
    checks = [{"check": code, **({"params": chosen} if code == "AUD402" else {})} for code in codes]
    subjects = [
        {"name": name, "path": str(path), "kind": "diffusers"} for name, path in models.items()
    ]
    plan = {"version": 1, "name": "digits", "subjects": subjects, "checks": checks}
    (folder / "plan.yaml").write_text(json.dumps(plan), "utf-8")
    ended = auditor("run", "plan.yaml", "--out", "run", "--progress", "none", cwd=folder)
    assert "Traceback" not in ended.err
    report = folder / "run" / "audit.json"
    results = json.loads(report.read_text("utf-8"))["results"] if report.exists() else []
    return ended, {result["id"]: result["answer"] for result in results}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Prompts and images; models are named by tests."""
    return write_inputs(tmp_path)


@pytest.fixture(scope="module")
def unfit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, dict[str, dict[str, Any]]]:
    """One plan over models that cannot be asked, each for a reason of its own."""
    made = write_inputs(tmp_path_factory.mktemp("unfit"))
    models = {
        name: transformer_folder(made / name) for name in ("textless", "half", "nan", "pickled")
    }
    shutil.rmtree(models["textless"] / "text_encoder")
    change_weights(models["half"], "transformer", lambda name, tensor: tensor.half())
    change_weights(models["nan"], "transformer", lambda name, tensor: tensor * torch.nan
                   if name == "transformer_blocks.0.attn2.to_k.weight" else tensor)  # fmt: skip
    (models["pickled"] / "transformer" / "model.bin").write_bytes(b"\x80\x04N.")
    return run(made, models, "AUD101", "AUD402")


def test_a_plan_finds_memorised_images(folder: Path) -> None:
    """Identity and safety hold, the gate fails, and the report shows no prompt."""
    ended, answers = run(folder, {"m": digit_diffusion()}, "AUD101", "AUD102", "AUD402")
    assert ended.code == 1, ended.err
    assert {name: answer["verdict"] for name, answer in answers.items()} == {
        "AUD101": "holds", "AUD102": "holds", "AUD402": "violated",
    }  # fmt: skip
    assert answers["AUD101"]["facts"]["format"] == "diffusers"
    page = (folder / "run" / "report.html").read_text("utf-8")
    assert "Samples beside training images" in page
    assert "How much prompts move the predicted noise" in page
    assert not any(name in page for name in WORLD.names)


def test_a_diffusion_folder_is_inspected_digested_and_scanned(tmp_path: Path) -> None:
    """With one digest; `init` writes a plan for it."""
    model = str(digit_diffusion())
    digest = json.loads(auditor("model", "digest", model, "--json", cwd=tmp_path).out)["folder"]
    inspected = json.loads(auditor("model", "inspect", model, "--json", cwd=tmp_path).out)
    assert (inspected["digest"], inspected["model type"]) == (digest, "PixArtTransformer2DModel")
    scanned = auditor("model", "scan", model, cwd=tmp_path)
    assert "diffusers (PixArtTransformer2DModel)" in scanned.out
    assert auditor("init", model, "--out", "first.yaml", cwd=tmp_path).code == 0
    assert "kind: diffusers" in (tmp_path / "first.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("textless", "it has no text_encoder, so prompts do not steer it"),
        ("half", "half precision (F16), and the device is cpu; save the model in float32, or use "
         "--device cuda"),
        ("nan", "the denoiser gives NaN, first in its layer transformer_blocks.0.attn2.to_k"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_an_open_verdict_of_one_line(
    unfit: tuple[Ended, dict[str, dict[str, Any]]], model: str, reason: str
) -> None:
    """No text conditioning, half precision on the CPU, NaN in activations."""
    answer = unfit[1][f"AUD402:{model}"]
    assert answer["verdict"] == "unknown"
    assert reason in answer["reason"]
    assert len(answer["reason"].splitlines()) == 1


def test_safety_is_told_apart_from_support(
    unfit: tuple[Ended, dict[str, dict[str, Any]]],
) -> None:
    """A pickle and NaN in a weight are findings of AUD101; what is not supported is safe."""
    ended, answers = unfit
    assert ended.code == 6
    assert {
        name.removeprefix("AUD101:"): answer["verdict"]
        for name, answer in answers.items() if name.startswith("AUD101")
    } == {
        "textless": "holds", "half": "holds", "nan": "violated", "pickled": "violated",
    }  # fmt: skip
    assert answers["AUD402:pickled"]["verdict"] == "skipped"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"prompts": "broken.csv"}, "broken.csv:2: another number of fields than the head has"),
        ({"images": "large.npz"}, "images of 16x16, and the model makes 8x8 with 1 channel"),
    ],
)
def test_inputs_that_do_not_fit_are_one_line(
    folder: Path, params: dict[str, Any], message: str
) -> None:
    """Before anything is sampled: prompts of another format, images of another size."""
    (folder / "broken.csv").write_text("prompt,image\none,2,3\n", "utf-8")
    np.savez(folder / "large.npz", images=np.zeros((8, 16, 16), np.float32))
    ended, answers = run(folder, {"m": digit_diffusion()}, "AUD402", **params)
    assert ended.code == 2, ended.err
    (line,) = ended.err.splitlines()
    assert message in line
    assert not answers


def test_a_file_is_no_diffusion_model(folder: Path) -> None:
    """The plan says what kind it should be."""
    ended, _ = run(folder, {"m": folder / "images.npz"}, "AUD402")
    assert ended.code == 2
    assert "is no folder, and kind diffusers is one" in ended.err
