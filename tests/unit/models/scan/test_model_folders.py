"""Which folders below a scanned one are models, and what is said of them as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from auditor.models.scan.decision import Decision
from auditor.models.scan.model_folders import find_model_folders, judge_model_folder
from tests.models.model_folders import entry, safetensors_bytes, write_folder, write_sharded
from tests.models.onnx_networks import dense_network


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], []),
        (["config.json"], []),
        (["model.safetensors"], []),
        (["config.json", "model.safetensors"], ["."]),
        (["config.json", "pytorch_model.bin"], ["."]),
        (["config.json", "model.ONNX"], ["."]),
        (["a/config.json", "b/model.safetensors"], []),
        (["a/config.json", "a/m.safetensors", "b/config.json", "b/m.pt"], ["a", "b"]),
        (["a/config.json", "a/m.pt", "a/b/config.json", "a/b/m.pt"], ["a"]),
        (["a/config.json", "a/m.pt", "a-b/config.json", "a-b/m.pt"], ["a", "a-b"]),
        (["model_index.json", "unet/config.json"], ["."]),
        (["x/model_index.json"], ["x"]),
        (["config.json", "m.pt", "+/config.json", "+/m.pt"], ["."]),
        (["x/unet/config.json", "x/unet/diffusion_pytorch_model.safetensors"], ["x"]),
    ],
)
def test_models_are_found_by_what_lies_together(names: list[str], expected: list[str]) -> None:
    """Weights beside a configuration, or a pipeline; the outer one of models inside models."""
    assert find_model_folders(names) == expected


def test_sound_folders_are_described(tmp_path: Path) -> None:
    """By kind and type of model."""
    for folder in (write_folder(tmp_path / "a"), write_sharded(tmp_path / "b")):
        judged = judge_model_folder(folder)
        assert (judged.kind, judged.problems) == ("transformers (gpt2)", ())


def test_weights_are_not_read_beyond_their_header(tmp_path: Path) -> None:
    """A file of holes that its header covers is as long as a disk and takes no time."""
    folder = write_folder(tmp_path / "a")
    size = 2**41
    with (folder / "model.safetensors").open("wb") as file:
        file.write(safetensors_bytes({"w": entry("U8", [size], 0, size)}))
        file.truncate(file.tell() + size)
    assert judge_model_folder(folder).problems == ()


def test_a_folder_around_a_graph_is_described(tmp_path: Path) -> None:
    """With the digests of what had to be read anyway."""
    folder = write_folder(tmp_path / "a")
    (folder / "model.safetensors").unlink()
    (folder / "model.onnx").write_bytes(dense_network([3, 2]).SerializeToString())
    judged = judge_model_folder(folder)
    assert (judged.kind, judged.problems) == ("onnx (gpt2)", ())
    assert "model.onnx" in judged.hashes


def test_no_library_opens_a_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that would crash one is judged all the same."""
    folder = write_folder(tmp_path / "a")
    (folder / "model.safetensors").unlink()
    (folder / "model.onnx").write_bytes(dense_network([3, 2]).SerializeToString())

    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("a library was asked")

    monkeypatch.setattr("auditor.models.onnx_model.OnnxModel.open", fail)
    monkeypatch.setattr("onnx.ModelProto.ParseFromString", fail, raising=False)
    assert judge_model_folder(folder).problems == ()


def test_data_of_a_graph_under_another_name_are_refused(tmp_path: Path) -> None:
    """As when the folder is opened."""
    folder = write_folder(tmp_path / "a")
    (folder / "model.safetensors").unlink()
    model = dense_network([2, 2])
    first = model.graph.initializer[0]
    first.ClearField("raw_data")
    first.ClearField("float_data")
    first.data_location = 1
    first.external_data.add(key="location", value="other.txt")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "other.txt").write_bytes(b"1" * 16)
    (problem,) = judge_model_folder(folder).problems
    assert problem.rule == "external-data-name"


def test_the_first_broken_rule_is_named_with_its_file(tmp_path: Path) -> None:
    """As AUD101 names it."""
    folder = write_sharded(tmp_path / "a")
    (folder / "extra.bin").write_bytes(b"x")
    (problem,) = judge_model_folder(folder).problems
    assert (problem.rule, problem.place) == ("pickle-content", "extra.bin")
    assert problem.decision is Decision.REFUSED


@pytest.mark.parametrize("kind", ["transformers", "diffusers"])
def test_an_incomplete_folder_is_not_decided(tmp_path: Path, kind: str) -> None:
    """Nothing wrong was seen, and not everything was there to be seen."""
    if kind == "transformers":
        folder = write_folder(tmp_path / "a")
        (folder / "model.safetensors").unlink()
    else:
        folder = tmp_path / "a"
        folder.mkdir()
        (folder / "model_index.json").write_text(json.dumps({"_class_name": "P"}))
    judged = judge_model_folder(folder)
    assert judged.kind == kind
    assert [(p.rule, p.decision) for p in judged.problems] == [
        ("incomplete", Decision.INCONCLUSIVE)
    ]
