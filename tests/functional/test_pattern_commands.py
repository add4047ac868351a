"""`auditor mine patterns` and `auditor patterns show|compare|test` from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
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
