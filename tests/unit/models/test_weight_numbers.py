"""NaN and infinity in weights of every type, found where they were planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from auditor.errors import FileChanged, RefusedFolder
from auditor.models.onnx_model import NonFinite
from auditor.models.transformers_folder import read_folder
from auditor.models.weight_numbers import find_nonfinite
from tests.models.model_folders import write_folder

NAN, INF = float("nan"), float("inf")


def with_weights(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """A model folder with these weights."""
    write_folder(folder)
    (folder / "model.safetensors").write_bytes(safetensors.torch.save(tensors))
    return folder


@pytest.mark.parametrize("dtype", [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2,
])  # fmt: skip
def test_every_kind_is_found_at_its_place(tmp_path: Path, dtype: torch.dtype) -> None:
    """In types that have infinity."""
    values = torch.tensor([[1.0, NAN, -2.0], [INF, 0.5, -INF]]).to(dtype)
    folder = with_weights(tmp_path / "m", {"t": values, "sound": torch.ones(3).to(dtype)})
    assert find_nonfinite(read_folder(folder)) == (
        NonFinite("t", (1, 3, 5), 3, ("nan", "inf", "-inf")),
    )


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e8m0fnu])
def test_types_without_infinity_have_nan(tmp_path: Path, dtype: torch.dtype) -> None:
    """Their one pattern of bits for it is known."""
    folder = with_weights(tmp_path / "m", {"t": torch.tensor([1.0, NAN, 2.0]).to(dtype)})
    assert find_nonfinite(read_folder(folder)) == (NonFinite("t", (1,), 1, ("nan",)),)


def test_every_bit_pattern_of_bfloat16_is_judged_as_torch_does(tmp_path: Path) -> None:
    """All 65,536 of them."""
    bits = torch.from_numpy(np.arange(2**16, dtype=np.uint16).view(np.int16).copy())
    values = bits.view(torch.bfloat16)
    (found,) = find_nonfinite(read_folder(with_weights(tmp_path / "m", {"t": values})))
    assert found.count == int((~torch.isfinite(values)).sum())


def test_a_complex_number_counts_once(tmp_path: Path) -> None:
    """With one bad part or two."""
    values = torch.tensor([1 + 1j, complex(NAN, NAN), complex(0, INF)], dtype=torch.complex64)
    folder = with_weights(tmp_path / "m", {"t": values})
    assert find_nonfinite(read_folder(folder)) == (NonFinite("t", (1, 2), 2, ("nan", "inf")),)


def test_whole_numbers_are_finite(tmp_path: Path) -> None:
    """Whatever their bits would be as a float."""
    folder = with_weights(tmp_path / "m", {"t": torch.full((4,), -1, dtype=torch.int32)})
    assert find_nonfinite(read_folder(folder)) == ()


def test_positions_go_on_over_the_pieces_a_tensor_is_read_in(tmp_path: Path) -> None:
    """The last number of a tensor of several pieces."""
    values = torch.zeros(2**20 + 2**19)
    values[-1] = NAN
    (found,) = find_nonfinite(read_folder(with_weights(tmp_path / "m", {"t": values})))
    assert found.indices == (2**20 + 2**19 - 1,)


def test_weights_that_changed_after_they_were_checked_are_an_error(tmp_path: Path) -> None:
    """With the same length and with another one."""
    path = with_weights(tmp_path / "m", {"t": torch.zeros(2)})
    folder = read_folder(path)
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[:-1] + b"\x01")
    with pytest.raises(FileChanged):
        find_nonfinite(folder)
    (path / "model.safetensors").write_bytes(content[:-1])
    with pytest.raises(RefusedFolder, match="changed"):
        find_nonfinite(folder)
