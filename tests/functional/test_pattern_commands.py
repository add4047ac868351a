"""`auditor mine patterns` and `auditor patterns show|compare|test|monitor` from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.functional.command import Ended, auditor
from tests.models.onnx_networks import dense_network, write_model
from tests.models.planted_patterns import planted_network, planted_samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, samples, and patterns mined from them; do not write over these."""
    made = tmp_path_factory.mktemp("patterns")
    write_model(made, planted_network())
    write_model(made, dense_network([4, 6, 3]), "other.onnx")
    write_model(made, dense_network([4, 3]), "shallow.onnx")
    inputs, labels = planted_samples([12, 12, 12], [11, 1, 6])
    order = np.random.default_rng(0).permutation(36)
    np.save(made / "x.npy", inputs[order])
    np.save(made / "y.npy", labels[order])
    np.savez(made / "data.npz", inputs=inputs, labels=labels)
    ended = _mine(made, "--out", "mined.patterns", "--delta", "1", "--delta", "0.9",
                  "--holdout", "6")  # fmt: skip
    assert ended.code == 0, ended.err
    return made


def _mine(folder: Path, *more: str) -> Ended:
    data = ("--inputs", "x.npy", "--labels", "y.npy")
    return auditor("mine", "patterns", "model.onnx", *data, *more, cwd=folder)


def _records(ended: Ended) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ended.out.splitlines()]


def test_mining_prints_tables_and_writes_the_file(folder: Path) -> None:
    ended = _mine(folder, "--out", "again.patterns", "--holdout", "6", "--delta", "1")
    assert ended.code == 0
    assert "3 classes, 6 neurons (unit)" in ended.out
    assert "relu0  Relu      6" in ended.out
    assert "1      1.000 [0.610, 1.000]  1.000 [0.610, 1.000]" in ended.out
    assert "the same in every sample: 1 neurons never active, 1 always" in ended.out
    assert (folder / "again.patterns").stat().st_size > 100


def test_json_says_the_same_in_lines(folder: Path) -> None:
    ended = auditor("patterns", "show", "mined.patterns", "--json", cwd=folder)
    mined, at_one, _ = _records(ended)
    assert ended.code == 0
    assert ended.err == ""
    assert sum(mined["samples"]) == 30
    assert (mined["deltas"], mined["members"], mined["never_active"]) == (
        ["1", "0.9"],
        "correct",
        1,
    )
    assert mined["fixed"] == [[5, 5, 5], [6, 6, 5]]
    assert mined["pairs_without_contradiction"] == [[], []]
    assert at_one["recall"]["value"] == 1.0
    assert at_one["overlaps"] == []
    assert [c["class"] for c in at_one["classes"]] == [0, 1, 2]


def test_testing_measures_recall_on_other_data(folder: Path) -> None:
    ended = auditor(
        "patterns", "test", "mined.patterns", "model.onnx", "--inputs", "data.npz", "--json",
        cwd=folder,
    )  # fmt: skip
    at_one, _ = _records(ended)
    assert ended.code == 0
    assert at_one["recall"]["hits"] == at_one["recall"]["total"] == 36


def test_comparing_says_how_patterns_relate(folder: Path) -> None:
    same = auditor("patterns", "compare", "mined.patterns", "mined.patterns", "--json", cwd=folder)
    assert {record["relation"] for record in _records(same)} == {"same"}
    table = auditor("patterns", "compare", "mined.patterns", "mined.patterns", cwd=folder)
    assert table.out.splitlines()[0].split() == [
        "delta", "class", "A", "is", "shared", "only", "in", "A", "only", "in", "B", "opposite",
    ]  # fmt: skip


def test_another_model_is_a_usage_error(folder: Path) -> None:
    ended = auditor(
        "patterns", "test", "mined.patterns", "other.onnx", "--inputs", "data.npz", cwd=folder
    )
    assert ended.code == 2
    assert ended.err.startswith("auditor: mined.patterns was mined from the model sha256:")
    assert ended.err.count("\n") == 1


def test_an_altered_file_is_refused(folder: Path) -> None:
    content = bytearray((folder / "mined.patterns").read_bytes())
    content[-1] ^= 1
    (folder / "altered.patterns").write_bytes(content)
    for arguments in (
        ("show", "altered.patterns"),
        ("compare", "mined.patterns", "altered.patterns"),
        ("test", "altered.patterns", "model.onnx", "--inputs", "data.npz"),
    ):
        ended = auditor("patterns", *arguments, cwd=folder)
        assert ended.code == 6
        assert "pattern file altered.patterns rejected" in ended.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--out", "n", "--delta", "0.5"), 2, "delta 0.5; give a number above 0.5"),
        (("--out", "n", "--delta", "x"), 2, "delta 'x' is not a number"),
        (("--out", "n", "--holdout", "36"), 2, "leaves none to mine from"),
        (("--out", "n", "--layer", "relu1"), 2, "unknown layer 'relu1'; did you mean 'relu0'"),
        (("--out", "n", "--divide-by", "0"), 2, "inputs divided by 0.0"),
        ((), 2, "--out"),
    ],
)
def test_wrong_options_are_one_line(
    folder: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ended = _mine(folder, *arguments)
    assert ended.code == code
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not (folder / "n").exists()


def test_a_model_without_hidden_layers_is_inconclusive(folder: Path) -> None:
    ended = auditor(
        "mine", "patterns", "shallow.onnx", "--inputs", "data.npz", "--out", "n", cwd=folder
    )
    assert ended.code == 3
    assert "no hidden activation layer" in ended.err


def test_samples_of_which_none_counts_are_nothing_to_audit(folder: Path) -> None:
    np.save(folder / "wrong.npy", (np.load(folder / "y.npy") + 1) % 3)
    ended = _mine(folder, "--labels", "wrong.npy", "--out", "n")
    assert ended.code == 5
    assert "none of 36 samples counts as correct" in ended.err


def _monitor(folder: Path, *more: str, model: str = "model.onnx") -> Ended:
    return auditor("patterns", "monitor", "mined.patterns", model, *more, cwd=folder)


def _deployed(path: Path, inputs: np.ndarray[Any, Any]) -> dict[str, Any]:
    """What plain onnxruntime, without auditor, says of the file."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {"x": inputs})
    return {name: value.tolist() for name, value in zip(names, found, strict=True)}


def test_a_monitored_model_runs_in_plain_onnxruntime(folder: Path) -> None:
    """One input of class 0 whose coin fits, one whose coin does not, one of nothing."""
    ended = _monitor(folder, "--out", "monitored.onnx", "--delta", "0.9")
    assert ended.code == 0, ended.err
    assert "0      0" in ended.out
    assert ended.out.splitlines()[-1] == (
        "monitored model: monitored.onnx (delta 0.9, thresholds 0 for every class; outputs "
        "monitor_label: 0 explained, 1 contradicted, 2 unexplained; monitor_distance)"
    )
    inputs = np.array([[1, 0, 0, 1], [1, 0, 0, -1], [0, 0, 0, 0]], np.float32)
    found = _deployed(folder / "monitored.onnx", inputs)
    assert found["monitor_label"] == [0, 2, 2]
    assert [row[0] for row in found["monitor_distance"]] == [0, 1, 3]
    assert found["y"] == _deployed(folder / "model.onnx", inputs)["y"]


def test_held_out_samples_give_thresholds(folder: Path) -> None:
    """Of the 12 samples of classes 0 and 1 one each has the other coin: 11/12 < 0.95."""
    ended = _monitor(
        folder, "--out", "wide.onnx", "--delta", "0.9", "--inputs", "data.npz", "--quantile",
        "0.95", "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    (record,) = _records(ended)
    assert record["thresholds"] == [1, 1, 0]
    assert (record["heldout"], record["quantile"]) == ([12, 12, 12], "0.95")
    assert (record["kind"], record["path"], record["delta"]) == ("monitor", "wide.onnx", "0.9")
    inputs = np.array([[1, 0, 0, -1]], np.float32)
    assert _deployed(folder / "wide.onnx", inputs)["monitor_label"] == [0]


@pytest.mark.parametrize(
    ("arguments", "model", "message"),
    [
        (("--out", "model.onnx"), "model.onnx", "cannot write to model.onnx: it exists"),
        (("--out", "m", "--delta", "0.8"), "model.onnx", "no pattern for delta 0.8"),
        (("--out", "m"), "other.onnx", "was mined from the model sha256:"),
        (("--out", "m", "--labels", "y.npy"), "model.onnx", "--labels without --inputs"),
        (("--out", "m", "--inputs", "data.npz", "--quantile", "2"), "model.onnx", "quantile 2"),
        (("--out", "m", "--quantile", "much"), "model.onnx", "quantile 'much' is not a number"),
        (("--out", "model.onnx/m"), "model.onnx", "cannot write to model.onnx/m"),
        ((), "model.onnx", "--out"),
    ],
)
def test_what_cannot_be_monitored_is_one_line(
    folder: Path, arguments: tuple[str, ...], model: str, message: str
) -> None:
    before = (folder / "model.onnx").read_bytes()
    extra = () if "--delta" in arguments else ("--delta", "0.9")
    ended = _monitor(folder, *arguments, *extra, model=model)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not (folder / "m").exists()
    assert (folder / "model.onnx").read_bytes() == before
