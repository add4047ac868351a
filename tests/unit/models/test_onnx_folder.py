"""Folders around a graph: what is read of a sound one, and by which rule others are refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from auditor.errors import FileChanged, FileMissing, RefusedModel
from auditor.files import plain_digest
from auditor.folders import combine_hashes
from auditor.models.onnx_folder import (
    DATA,
    GRAPH,
    holds_graph,
    read_model_folder,
    read_onnx_folder,
)
from tests.models.model_folders import CONFIG, write_folder
from tests.models.tiny import absolute_value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound folder: graph, configuration, tokenizer, and what is not the model."""
    folder = write_folder(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    onnx.save_model(absolute_value(), str(folder / GRAPH))
    return folder


def external(folder: Path, location: str) -> None:
    """Write the graph again with its weights in a file."""
    onnx.save_model(
        absolute_value(), str(folder / GRAPH), save_as_external_data=True, location=location,
        size_threshold=0,
    )  # fmt: skip


def test_a_sound_folder_is_described(folder: Path) -> None:
    """Type, files, bytes, configuration, and the graph itself."""
    found = read_onnx_folder(folder)
    assert (found.path, found.model_type) == (folder, "gpt2")
    assert found.files == ("config.json", GRAPH, "tokenizer.json")
    assert found.size == sum((folder / name).stat().st_size for name in found.files)
    assert found.configs == {"config.json": CONFIG}
    assert found.graph.proto == absolute_value()


def test_the_digest_is_that_of_names_and_contents(folder: Path) -> None:
    """Documents and hidden files do not count, every other byte does."""
    hashes = {name: plain_digest(folder / name).removeprefix("sha256:")
              for name in ("config.json", GRAPH, "tokenizer.json")}  # fmt: skip
    digest = read_onnx_folder(folder).digest
    assert digest == combine_hashes(hashes)
    (folder / "README.md").write_text("# Another\n")
    (folder / ".hidden").write_text("")
    assert read_onnx_folder(folder, digest).digest == digest
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(FileChanged):
        read_onnx_folder(folder, digest)


def test_a_data_file_belongs_to_the_digest(folder: Path) -> None:
    """One bit of a weight changes it."""
    external(folder, DATA)
    found = read_onnx_folder(folder)
    assert DATA in found.files
    content = bytearray((folder / DATA).read_bytes())
    content[0] ^= 1
    (folder / DATA).write_bytes(content)
    assert read_onnx_folder(folder).digest != found.digest


def test_either_kind_of_folder_is_read(folder: Path, tmp_path: Path) -> None:
    """A graph decides; without one it is a folder of safetensors."""
    other = write_folder(tmp_path / "other")
    assert (holds_graph(folder), holds_graph(other)) == (True, False)
    assert read_model_folder(folder).files == ("config.json", GRAPH, "tokenizer.json")
    assert read_model_folder(other).files == ("config.json", "model.safetensors", "tokenizer.json")


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (_write(GRAPH, pickle.dumps([1])), "pickle-content"),
        (_write(GRAPH, absolute_value().SerializeToString()[:-9]), "truncated"),
        (_write("weights.pt", b"x"), "pickle-content"),
        (_write("tokenizer.model", pickle.dumps([1], protocol=4)), "pickle-content"),
        (_write("modeling.py", b""), "custom-code"),
        (_write("other.onnx", absolute_value().SerializeToString()), "unknown-file"),
        (_write("config.json", json.dumps(CONFIG | {"auto_map": {"a": "b"}}).encode()),
         "custom-code"),
        (_write("model.safetensors", b"x"), "two-models"),
        (lambda folder: external(folder, "weights.json"), "external-data-name"),
        (lambda folder: (folder / "vocab.txt").symlink_to(folder.parent / "out"), "broken-link"),
    ],
)  # fmt: skip
def test_what_must_not_be_opened_is_refused(
    folder: Path, spoil: Callable[[Path], object], rule: str
) -> None:
    """By a rule with a stable name, in one line with a way out."""
    spoil(folder)
    with pytest.raises(RefusedModel) as caught:
        read_onnx_folder(folder)
    assert (caught.value.rule, len(str(caught.value).splitlines())) == (rule, 1)
    assert caught.value.way_out


@pytest.mark.parametrize("name", [GRAPH, "config.json"])
def test_a_missing_part_is_named(folder: Path, name: str) -> None:
    """Graph and configuration have to be there."""
    (folder / name).unlink()
    with pytest.raises(FileMissing, match=name):
        read_onnx_folder(folder)
