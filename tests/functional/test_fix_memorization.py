"""`auditor fix memorization` from outside: a record either way, and one line for what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from auditor.fixes.pruning import masks_beside
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.training_spans import TrainingSpan
from auditor.memorization.masks.mask_file import read_masks
from auditor.memorization.masks.mask_rules import MaskRule
from auditor.memorization.masks.weight_sites import SiteKind
from auditor_cli.fix_memorization import LAYERS, RULES
from auditor_cli.main import run_command_line
from tests.functional.command import Ended, auditor
from tests.models.digit_diffusion import digit_diffusion
from tests.models.digit_items import digit_items, write_digit_classifier, write_digit_items
from tests.models.recital_folder import write_recital
from tests.models.tiny_diffusion import change_weights

QUICK = (
    "--rule", "wanda_diff", "--layer", "feed_forward", "--share", "0.05", "--samples", "2",
    "--steps", "8", "--guidance", "2", "--attack-steps", "2", "--controls", "1",
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Files about the digit model, and what the command is told."""
    folder = tmp_path_factory.mktemp("world")
    np.savez(folder / "small.npz", images=np.zeros((16, 1, 6, 6), np.float32))
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


Refused = Callable[..., None]


@pytest.fixture
def refused(
    world: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Refused:  # fmt: skip
    """Checks that the command, in this process, says one line and writes nothing."""
    folder, given = world
    monkeypatch.chdir(folder)

    def check(code: int, message: str, *more: str, model: Path | None = None) -> None:
        before = set(Path().rglob("*"))
        ended = run_command_line([
            "fix", "memorization", str(model or digit_diffusion()), *given, *QUICK,
            "--out", "other", *more,
        ])  # fmt: skip
        shown = capsys.readouterr()
        *_, line = shown.err.splitlines()
        assert message in line
        assert line.startswith("auditor: ")
        assert (ended, shown.out) == (code, "")
        assert set(Path().rglob("*")) == before

    return check


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
        (("--memorised", "images.npz"), "images.npz"),
        (("--images", "small.npz"), "small.npz"),
        (("--steps", "200"), "200 steps"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(refused: Refused, more: tuple[str, ...], part: str) -> None:
    refused(2, part, *more)


def test_numbers_that_are_not_finite_name_their_layer(refused: Refused, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(digit_diffusion(), model)
    change_weights(model, "transformer", lambda name, weights: weights * float("nan"))
    refused(3, "NaN", model=model)


def test_half_precision_on_the_cpu_is_refused(refused: Refused, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(digit_diffusion(), model)
    change_weights(model, "transformer", lambda name, weights: weights.half())
    refused(3, "half precision (F16)", model=model)


def test_masks_are_mined_without_a_repair(
    world: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder, given = world
    monkeypatch.chdir(folder)
    out = tmp_path / "masks.safetensors"
    ended = run_command_line([
        "mine", "memorization", str(digit_diffusion()), *given, *QUICK, "--classifier",
        "digits.onnx", "--out", str(out), "--json",
    ])  # fmt: skip
    assert ended == 0
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    file = read_masks(out)
    assert line["rule"] == file.head.rule == "wanda_diff, feed_forward, 0.05"
    assert line["base"] == file.head.base
    assert line["rate_after"] < line["rate_before"]
    assert 0.03 < file.masks.density < 0.05
    assert "disjoint halves" in line["shared"][0]


def test_a_repair_without_a_control_for_its_attack_is_refused(
    world: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder, given = world
    monkeypatch.chdir(folder)
    at = given.index("--never-memorised")
    left = given[:at] + given[at + 2 :]
    ended = run_command_line([
        "fix", "memorization", str(digit_diffusion()), *left, "--out", "other"
    ])  # fmt: skip
    assert ended == 2
    assert "--never-memorised" in capsys.readouterr().err


@pytest.fixture(scope="module")
def recital(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A language model whose memorised chains run through known weights, and its files."""
    folder = tmp_path_factory.mktemp("recital")
    planted = write_recital(folder / "model")

    def write(name: str, spans: Sequence[TrainingSpan]) -> None:
        rows = [{"tokens": [*span.prefix, *span.continuation], "id": span.name} for span in spans]
        (folder / name).write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")

    write("memorised.jsonl", planted.memorised)
    write("ordinary.jsonl", planted.ordinary[:4])
    write("held-out.jsonl", planted.ordinary[4:])
    write("never.jsonl", planted.unseen)
    return folder, [
        "--memorised", "memorised.jsonl", "--ordinary", "ordinary.jsonl", "--held-out",
        "held-out.jsonl", "--never-memorised", "never.jsonl", "--prefix-tokens", "1",
        "--continuation-tokens", "5", "--rule", "wanda_diff", "--layer", "feed_forward",
        "--share", "0.6", "--neurons", "--controls", "2", "--shift", "1",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_language_model_is_pruned_and_written(recital: tuple[Path, list[str]]) -> None:
    folder, given = recital
    ended = auditor("fix", "memorization", "model", *given, "--out", "new", "--json", cwd=folder)
    assert ended.code == 0, (ended.err, ended.out)
    record = json.loads((folder / "new.fix.json").read_text("utf-8"))
    assert record["decision"] == "accepted"
    rate = record["conditions"][0]["comparisons"][0]
    assert (rate["before"]["value"], rate["after"]["value"]) == (1.0, 0.0)
    CausalLM.open(folder / "new", expected_digest=record["written_digest"])
    file = read_masks(masks_beside(folder / "new"))
    assert set(file.masks.masks) == {f"model.layers.{at}.mlp.down_proj" for at in range(2)}


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (("--images", "images.npz"), "--images is not for a language model"),
        (("--harden", "10"), "--harden is not for a language model"),
        (("--prefix-tokens", "20"), "has 6 tokens"),
        (("--ordinary", "held-out.jsonl"), "chosen by and reported on"),
        (("--never-memorised", "memorised.jsonl"), "is memorised and unseen"),
        (("--layer", "cross_attention"), "none of its layers can be matched"),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_language_model_is_one_line(
    recital: tuple[Path, list[str]], more: tuple[str, ...], part: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder, given = recital
    monkeypatch.chdir(folder)
    ended = run_command_line(["fix", "memorization", "model", *given, "--out", "other", *more])
    shown = capsys.readouterr()
    assert ended == (3 if "matched" in part else 2)
    assert part in shown.err
    assert not shown.out


def test_the_options_are_those_of_the_library() -> None:
    assert set(RULES) == set(MaskRule)
    assert set(LAYERS) == set(SiteKind)
