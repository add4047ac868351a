"""`auditor fix memorization` from outside: a record either way, and one line for what is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from auditor.memorization.mask_rules import MaskRule
from auditor.memorization.weight_sites import SiteKind
from auditor_cli.fix_memorization import LAYERS, RULES
from tests.functional.command import Ended, auditor
from tests.models.digit_diffusion import digit_diffusion
from tests.models.digit_items import digit_items, write_digit_classifier, write_digit_items
from tests.models.tiny_diffusion import change_weights

QUICK = (
    "--rule", "wanda_diff", "--layer", "feed_forward", "--share", "0.05", "--samples", "2",
    "--steps", "8", "--guidance", "2", "--attack-steps", "2", "--controls", "1",
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Files about the digit model, and what the command is told; not written to."""
    folder = tmp_path_factory.mktemp("world")
    given = write_digit_items(folder, digit_items(choose=6, report=6))
    write_digit_classifier(folder / "digits.onnx")
    return folder, given


def _fix(world: tuple[Path, list[str]], *more: str, model: Path | None = None) -> Ended:
    folder, given = world
    return auditor(
        "fix", "memorization", model or digit_diffusion(), *given, *QUICK, "--out", "new", *more,
        cwd=folder,
    )  # fmt: skip


def test_a_rejected_repair_leaves_record_and_page_alone(world: tuple[Path, list[str]]) -> None:
    folder, _ = world
    before = {path.name for path in folder.iterdir()}
    ended = _fix(
        world, "--classifier", "digits.onnx", "--most-loss", "0", "--most-rate", "0", "--html",
        "page.html", "--json",
    )  # fmt: skip
    assert ended.code == 1, ended.err
    (line,) = map(json.loads, ended.out.splitlines())
    record = json.loads((folder / "new.fix.json").read_text("utf-8"))
    assert {**record, "kind": "fix", "path": "new.fix.json", "html": "page.html"} == line
    assert (record["fix"], record["decision"], record["written"]) == (
        "memorization",
        "rejected",
        "",
    )
    assert {path.name for path in folder.iterdir()} - before == {"new.fix.json", "page.html"}
    page = (folder / "page.html").read_text("utf-8")
    assert "What every mask costs" in page
    assert "suppressed" in page
    for word in ("deleted", "erased", "forgotten", "unlearned"):
        assert word not in page


def _one_line(ended: Ended, code: int, *parts: str) -> None:
    assert ended.code == code, (ended.code, ended.err)
    assert "Traceback" not in ended.err
    for part in parts:
        assert part in ended.err
    assert not ended.out


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (("--layer", "mlp"), "no kind of layer is called 'mlp'"),
        (("--prefix-tokens", "9"), "--prefix-tokens is not for a diffusion model"),
        (("--image-folder", "."), "give --images or --image-folder, one of them"),
        (("--held-out", "ordinary.jsonl"), "chosen by and reported on"),
        (("--never-memorised", "memorised.jsonl"), "is among the memorised ones"),
        (("--ordinary", "none.jsonl"), "none.jsonl"),
        (("--memorised", "ordinary.jsonl"), "image"),
        (("--images", "small.npz"), "small.npz"),
        (("--steps", "200"), "200 steps"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(
    world: tuple[Path, list[str]], more: tuple[str, ...], part: str
) -> None:
    folder, _ = world
    np.savez(folder / "small.npz", images=np.zeros((16, 1, 6, 6), np.float32))
    _one_line(_fix(world, *more), 2, part)
    assert not (folder / "new").exists()


def test_numbers_that_are_not_finite_name_their_layer(
    world: tuple[Path, list[str]], tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(digit_diffusion(), model)
    change_weights(model / "transformer", lambda name, weights: weights * float("nan"))
    _one_line(_fix(world, model=model), 3, "NaN")


def test_the_options_are_those_of_the_library() -> None:
    assert set(RULES) == set(MaskRule)
    assert set(LAYERS) == set(SiteKind)
