"""AUD402 on a model that memorised eight digits, and on what only looks like it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditor.check import CheckContext, Subject, path_parameters
from auditor.checks.diffusion_memorization import Params, prepare, run
from auditor.errors import (
    AuditorError,
    ConfigurationError,
    InvalidText,
    RefusedModel,
    UnsupportedModel,
)
from auditor.findings import Answer, ImageEvidence, Verdict
from auditor.intervals import wilson_interval
from auditor.models.subject_files import look_at
from tests.models.digit_diffusion import digit_diffusion, digit_world
from tests.models.digit_plans import write_images, write_pictures, write_prompts
from tests.models.tiny_diffusion import change_config, transformer_folder
from tests.unit.checks.check_context import make_context

SETTINGS: dict[str, Any] = {"steps": 10, "guidance": 2.0, "samples": 3, "batch_size": 64}
WORLD = digit_world()
ORDINARY = WORLD.other_prompts(24)
ROWS = [str(row) for row in range(len(WORLD.names))]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """Parameters: names of the memorised images, other prompts, and the images."""
    return {
        "prompts": write_prompts(tmp_path / "suspected.csv", WORLD.names, ROWS),
        "ordinary": write_prompts(tmp_path / "ordinary.csv", ORDINARY[:16]),
        "images": write_images(tmp_path / "images.npz", WORLD),
        **SETTINGS,
    }


def subject_of(folder: Path) -> Subject:
    """A folder as the runner would describe it."""
    return Subject("m", folder, "diffusers", look_at(folder, "diffusers").digest)


def answer(params: dict[str, Any], context: CheckContext | None = None) -> Answer:
    """What the check says of the model of digits."""
    subject, chosen = subject_of(digit_diffusion()), Params(**params)
    prepare(subject, chosen)
    return run(subject, chosen, context or make_context())


def metrics_of(found: Answer) -> dict[str, Any]:
    """Metrics by name."""
    return {metric.name: metric for metric in found.metrics}


def test_copies_of_training_images_are_found(files: dict[str, Any]) -> None:
    """Nearly all samples are copies; hardly any of ordinary prompts is; every signal tells them."""
    found = answer(files)
    assert found.verdict is Verdict.VIOLATED
    assert found.findings[0].location.property_id == "training-images"
    metrics = metrics_of(found)
    assert metrics["copies_share"].value > 0.8
    assert metrics["copies_share"].sample_size == 24
    control = {metric.name: metric for metric in found.controls[0].metrics}
    assert control["copies_share"].value < 0.1
    assert metrics["similarity_mean"].value > control["similarity_mean"].value + 0.1
    for signal in ("gap_first_step", "gap_mean", "agreement"):
        assert metrics[f"{signal}_auc"].value >= 0.95


def test_prompts_are_not_shown_and_pictures_cannot_be_read(files: dict[str, Any]) -> None:
    """Unless the plan asks for samples."""
    found = answer(files)
    assert not any(name in found.model_dump_json() for name in WORLD.names)
    for show, side in ((False, 2), (True, 8)):
        shown = answer({**files, "show_samples": show})
        (pictures,) = [each for each in shown.every_evidence() if isinstance(each, ImageEvidence)]
        assert {(image.width, image.height) for image in pictures.images} == {(side, side)}


def test_the_same_plan_gives_the_same_answer(files: dict[str, Any]) -> None:
    """And another seed draws other samples."""
    first = answer(files)
    assert answer(files) == first
    other = answer(files, replace(make_context(), seed=1))
    assert metrics_of(other)["similarity_mean"].value != metrics_of(first)["similarity_mean"].value


def test_without_images_agreement_decides(files: dict[str, Any]) -> None:
    """It is a sign, and the finding says so."""
    found = answer({name: value for name, value in files.items() if name != "images"})
    assert found.verdict is Verdict.VIOLATED
    assert found.findings[0].location.property_id == "agreeing-images"
    assert "No training image was compared" in found.findings[0].description
    assert "copies_share" not in metrics_of(found)


def test_a_handful_of_prompts_tells_nothing_without_images(
    files: dict[str, Any], tmp_path: Path
) -> None:
    """One ordinary prompt has no rate of false alarms."""
    del files["images"]
    found = answer({**files, "ordinary": write_prompts(tmp_path / "one.csv", ORDINARY[:1])})
    assert found.verdict is Verdict.UNKNOWN
    assert "so few prompts do not tell suspected from ordinary ones" in found.reason


def test_a_folder_of_pictures_serves_as_well(files: dict[str, Any], tmp_path: Path) -> None:
    """By the names of its files; rounding to whole numbers moves similarities a little."""
    pictures = write_pictures(tmp_path / "pictures", WORLD)
    prompts = write_prompts(tmp_path / "named.csv", WORLD.names, [f"{row}.png" for row in ROWS])
    found = answer({**files, "images": None, "image_folder": pictures, "prompts": prompts})
    assert found.verdict is Verdict.VIOLATED
    by_array = metrics_of(answer(files))["similarity_mean"].value
    assert metrics_of(found)["similarity_mean"].value == pytest.approx(by_array, abs=1e-3)


@pytest.mark.parametrize(("limit", "verdict"), [(0.5, Verdict.HOLDS), (0.05, Verdict.UNKNOWN)])
def test_few_images_hold_no_small_limit(
    files: dict[str, Any], tmp_path: Path, limit: float, verdict: Verdict
) -> None:
    """No copy of eight images leaves room for a third of all."""
    prompts = write_prompts(tmp_path / "others.csv", ORDINARY[16:], ROWS)
    found = answer({**files, "prompts": prompts, "most_memorised": limit})
    assert found.verdict is verdict
    assert metrics_of(found)["copies_share"].interval == wilson_interval(0, 8)
    assert ("reaches over the limit" in found.reason) is (verdict is Verdict.UNKNOWN)


def test_a_threshold_that_ordinary_prompts_reach_tells_nothing(files: dict[str, Any]) -> None:
    """Everything is a copy then, so nothing is."""
    found = answer({**files, "similarity": 0.01})
    assert found.verdict is Verdict.UNKNOWN
    assert "ordinary prompts may give as many copies" in found.reason


def test_time_that_is_up_says_how_far_it_got(
    files: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything was sampled, and in the middle of the ordinary prompts."""
    found = answer(files, make_context(time_limit_s=0.0))
    assert (found.verdict, found.reason) == (
        Verdict.UNKNOWN, "time was up after 0 of 24 prompts"
    )  # fmt: skip
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def ticking(share: float, text: str) -> None:
        now[0] += 1.0

    context = replace(make_context(time_limit_s=1.5), progress=ticking)
    found = answer({**files, "batch_size": 24}, context)
    assert (found.verdict, found.reason) == (
        Verdict.UNKNOWN, "time was up after 16 of 24 prompts"
    )  # fmt: skip
    assert metrics_of(found)["copies_share"].sample_size == 24


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"ordinary": "suspected.csv"}, ConfigurationError, "a control is of other prompts"),
        ({"prompts": "ordinary.csv"}, ConfigurationError, "no column 'image'; it has prompt"),
        ({"prompts": "far.csv"}, InvalidText, r"far\.csv:2: no image is called '99'"),
        ({"image_folder": "."}, ConfigurationError, "are both given; give one of them"),
        ({"images": None, "encoder": "images.npz"}, ConfigurationError, "encoder without images"),
        ({"images": "large.npz"}, ConfigurationError, "images of 1x16x16, and the model makes 8x8"),
        ({"prompts": "lines.jsonl"}, InvalidText, r"lines\.jsonl:1: not a JSON object on one line"),
        ({"encoder": "images.npz"}, RefusedModel, r"images\.npz: a zip archive"),
        ({"steps": 101}, ConfigurationError, "101 steps of a model with 100 timesteps"),
    ],
)
def test_inputs_that_do_not_fit_are_found_before_the_run(
    files: dict[str, Any], tmp_path: Path, changes: dict[str, Any],
    error: type[AuditorError], message: str,
) -> None:  # fmt: skip
    """In one line."""
    write_prompts(tmp_path / "far.csv", WORLD.names[:1], ["99"])
    np.savez(tmp_path / "large.npz", images=np.zeros((8, 1, 16, 16), np.float32))
    (tmp_path / "lines.jsonl").write_text("prompt\n", "utf-8")
    named = {
        name: tmp_path / value if isinstance(value, str) else value
        for name, value in changes.items()
    }
    with pytest.raises(error, match=message) as caught:
        prepare(subject_of(digit_diffusion()), Params(**{**files, **named}))
    assert len(str(caught.value).splitlines()) == 1


def test_a_model_that_text_does_not_steer_is_found_before_the_run(
    files: dict[str, Any], tmp_path: Path
) -> None:
    """By its configuration alone."""
    folder = transformer_folder(tmp_path / "m")
    change_config(folder, "transformer/config.json", _class_name="DiTTransformer2DModel")
    with pytest.raises(UnsupportedModel, match="'DiTTransformer2DModel' is not among"):
        prepare(subject_of(folder), Params(**files))


def test_paths_are_resolved_by_the_plan() -> None:
    """So that their digests belong to the result's key."""
    assert path_parameters(Params) == {
        "prompts": "file", "ordinary": "file", "images": "file", "image_folder": "folder",
        "encoder": "file",
    }  # fmt: skip
