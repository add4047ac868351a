"""Mask files of strangers: refused before anything is unpacked, whatever their digest says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import DTypeLike

from auditor.memorization.masks import mask_file
from auditor.memorization.masks.mask_file import (
    MAX_HEAD_CHARACTERS,
    MAX_LAYERS,
    MaskFileRejected,
    MaskHead,
    MaskLayer,
    read_masks,
)

LAYER = '{"name":"","outputs":1,"inputs":1,"pruned":0}'


def sealed(path: Path, bits: DTypeLike, values: DTypeLike, **layer: object) -> Path:
    """A file of one layer, with the digest that it should have."""
    told = {"name": "a", "outputs": 2, "inputs": 8, "pruned": 1, **layer}
    arrays = {"0.bits": np.array([1, 0], dtype=bits), "0.values": np.ones(1, dtype=values)}
    head = MaskHead(base="b", rule="r", layers=(MaskLayer.model_validate(told),))
    head = head.model_copy(update={"digest": mask_file._digest(head, arrays)})
    metadata = {"head": json.dumps(head.model_dump(mode="json"))}
    path.write_bytes(safetensors.numpy.save(arrays, metadata=metadata))
    return path


def framed(path: Path, head: str, **tensors: object) -> Path:
    """A file of a head and of tensors that are told of in these words."""
    content = json.dumps({"__metadata__": {"head": head}, **tensors}).encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content + bytes(64))
    return path


def refusal(path: Path) -> str:
    """The message of a file that is not read."""
    with pytest.raises(MaskFileRejected) as caught:
        read_masks(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    return str(caught.value)


def test_a_sealed_file_is_read(tmp_path: Path) -> None:
    """Otherwise what is refused below would say nothing."""
    file = read_masks(sealed(tmp_path / "m", np.uint8, np.float32))
    assert file.masks.masks["a"].sum() == 1


@pytest.mark.parametrize(
    ("bits", "values"),
    [(np.float64, np.float32), (np.bool_, np.float32), (np.int8, np.float32),
     (np.uint8, np.int64), (np.uint8, np.float64), (np.uint8, np.bool_)],
)  # fmt: skip
def test_numbers_of_another_type_are_refused(
    tmp_path: Path, bits: DTypeLike, values: DTypeLike
) -> None:
    """A right digest is no reason: whoever writes a file can compute it."""
    assert "tensors are not those" in refusal(sealed(tmp_path / "m", bits, values))


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "F8_E5M2"])
def test_numbers_that_numpy_has_no_type_for_are_refused(tmp_path: Path, kind: str) -> None:
    """They are named in the file's header, and nothing of them is read."""
    size = 4 if kind == "BF16" else 2
    head = '{"base":"b","rule":"r","layers":[{"name":"a","outputs":2,"inputs":8,"pruned":0}]}'
    bits = {"dtype": kind, "shape": [2], "data_offsets": [0, size]}
    values = {"dtype": "F32", "shape": [0], "data_offsets": [size, size]}
    path = framed(tmp_path / "m", head, **{"0.bits": bits, "0.values": values})
    path.write_bytes(path.read_bytes()[: size - 64 or None])
    assert "tensors are not those" in refusal(path)


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ("[" * 100_000, "recursion"),
        ("1", "object"),
        ("", "Invalid JSON"),
        (
            '{"base":"","rule":"","layers":[' + LAYER + f",{LAYER}" * MAX_LAYERS + "]}",
            f"at most {MAX_LAYERS}",
        ),
        ('{"base":"b","rule":"r","layers":[{"outputs":' + "9" * 5_000 + "}]}", "number"),
        (" " * (MAX_HEAD_CHARACTERS + 1), "characters; at most"),
    ],
    ids=["deep", "number", "empty", "many", "digits", "long"],
)
def test_a_head_that_asks_for_more_than_there_is_is_refused(
    tmp_path: Path, head: str, problem: str
) -> None:
    """Deep, of another kind, of more layers than any model has, of endless numbers."""
    path = framed(tmp_path / "m", head)
    path.write_bytes(path.read_bytes()[:-64])
    assert problem in refusal(path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "\x1b[31mred\n\u202e", "y" * 100_000])
def test_a_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    """It becomes no path, and a message neither obeys nor repeats all of it."""
    before = sorted(tmp_path.rglob("*"))
    path = sealed(tmp_path / "m", np.uint8, np.float32, name=name)
    assert list(read_masks(path).masks.masks) == [name]
    with pytest.raises(MaskFileRejected) as caught:
        read_masks(_with_another_count(path))
    assert len(str(caught.value)) < 3_000
    assert "\x1b" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == [*before, path]


def _with_another_count(path: Path) -> Path:
    arrays = safetensors.numpy.load_file(path)
    head = read_masks(path).head
    arrays["0.bits"][0] = 3
    changed = head.model_copy(update={"digest": mask_file._digest(head, arrays)})
    metadata = {"head": json.dumps(changed.model_dump(mode="json"))}
    path.write_bytes(safetensors.numpy.save(arrays, metadata=metadata))
    return path
