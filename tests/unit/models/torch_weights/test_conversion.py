"""Files of `torch.save` become safetensors, byte for byte those that the library would write."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import (
    AuditorError,
    ConfigurationError,
    FileMissing,
    OutputNotWritable,
    RefusedModel,
    UnknownName,
    UnsupportedModel,
)
from auditor.models.torch_weights.conversion import ConvertedFile, convert_file
from auditor.models.torch_weights.folder_conversion import convert_folder
from tests.models.hostile_files.case import HostileCase
from tests.models.hostile_files.payload import imported, number, text
from tests.models.hostile_files.table import CASES
from tests.models.hostile_files.torch_archives import saved, tensor

DTYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16,
    torch.uint32, torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu,
)  # fmt: skip


def converted(folder: Path, value: Any, *keys: str, **saving: Any) -> tuple[ConvertedFile, bytes]:
    """What is made of a value that torch saves."""
    source, out = folder / "model.pt", folder / "model.safetensors"
    out.unlink(missing_ok=True)
    torch.save(value, source, **saving)
    found = convert_file(source, out, keys)
    return found, out.read_bytes()


def as_the_library_writes(tensors: dict[str, torch.Tensor]) -> bytes:
    """Independent copies, because the library refuses tensors that share their numbers."""
    copies = {name: each.detach().contiguous().clone() for name, each in tensors.items()}
    written: bytes = safetensors.torch.save(copies, {"format": "pt"})
    return written


def numbers(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Some numbers of any type."""
    count = int(torch.tensor(shape).prod()) if shape else 1
    content = torch.arange(count * dtype.itemsize, dtype=torch.uint8) % 2
    return content.view(dtype).reshape(shape)


@pytest.mark.parametrize("in_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_every_type_is_copied(tmp_path: Path, in_zip: bool, protocol: int) -> None:
    """In both layouts, whatever the protocol."""
    tensors = {str(dtype): numbers(dtype, 3, 4) for dtype in DTYPES}
    tensors |= {"scalar": numbers(torch.float32), "none": torch.zeros(0, 7)}
    found, content = converted(
        tmp_path, tensors, _use_new_zipfile_serialization=in_zip, pickle_protocol=protocol
    )
    assert content == as_the_library_writes(tensors)
    assert len(found.names) == len(tensors)
    assert found.size == len(content)


def test_a_module_with_its_attributes(tmp_path: Path) -> None:
    """A state dict is an ordered mapping that carries versions of its own."""
    module = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    state = module.state_dict()
    assert isinstance(state, OrderedDict)
    assert hasattr(state, "_metadata")
    found, content = converted(tmp_path, state)
    assert content == as_the_library_writes(state)
    assert found.left_out == ()


def test_parameters_views_and_tied_weights(tmp_path: Path) -> None:
    """Each name gets its own numbers, in the order of its axes."""
    whole = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "whole": whole, "tied": whole, "turned": whole.t(), "column": whole[:, 2],
        "every_second": whole[::2, 1::2], "part": whole[1:3],
        "parameter": torch.nn.Parameter(whole),
        "channels_last": torch.rand(1, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "one_axis": torch.zeros(1, 5)[:, ::5],
    }  # fmt: skip
    _, content = converted(tmp_path, tensors)
    assert content == as_the_library_writes(tensors)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_view_is_what_torch_loads(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """Shapes, strides and offsets that fit; torch's own restricted loader is the other opinion."""
    folder = tmp_path_factory.mktemp("view")
    axes = data.draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=4))
    shape, strides = [count for count, _ in axes], [stride for _, stride in axes]
    offset = data.draw(st.integers(0, 5))
    reached = offset + 1 + sum((count - 1) * stride for count, stride in axes if count)
    base = torch.arange(max(reached, torch.Size(shape).numel(), 1) + 3, dtype=torch.int16)
    view = base.as_strided(shape, strides, offset)
    _, content = converted(folder, {"v": view, "base": base})
    loaded = torch.load(folder / "model.pt", weights_only=True)
    assert content == as_the_library_writes(loaded)


def test_numbers_longer_than_one_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are copied piece by piece."""
    monkeypatch.setattr("auditor.models.torch_weights.conversion._CHUNK", 64)
    tensors = {"a": torch.rand(7, 11), "b": torch.rand(33), "t": torch.rand(5, 3)}
    _, content = converted(tmp_path, tensors)
    assert content == as_the_library_writes(tensors)


def test_a_file_from_a_machine_of_the_other_byte_order(tmp_path: Path) -> None:
    """The archive says so, and the numbers are turned."""
    tensors = {str(dtype): numbers(dtype, 2, 3) for dtype in DTYPES}
    source, out = tmp_path / "big.pt", tmp_path / "big.safetensors"
    written = io.BytesIO()
    torch.save(tensors, written)
    with zipfile.ZipFile(written) as archive, zipfile.ZipFile(source, "w") as turned:
        places = {f"archive/data/{place}": dtype for place, dtype in enumerate(DTYPES)}
        for name in archive.namelist():
            content = archive.read(name)
            if name in places:
                dtype = places[name]
                width = dtype.itemsize // (2 if dtype.is_complex else 1)
                parts = [content[at : at + width] for at in range(0, len(content), width)]
                content = b"".join(part[::-1] for part in parts)
            elif name == "archive/byteorder":
                content = b"big"
            turned.writestr(name, content)
    convert_file(source, out)
    assert out.read_bytes() == as_the_library_writes(tensors)


def test_weights_inside_a_checkpoint(tmp_path: Path) -> None:
    """Which mapping is meant is said with keys; what is left out is named."""
    weights = {"w": torch.ones(2), "step": 3}
    checkpoint = {"epoch": 7, "state": {"model": weights, "other": [torch.zeros(1)]}}
    found, content = converted(tmp_path, checkpoint, "state", "model")
    assert content == as_the_library_writes({"w": torch.ones(2)})
    assert found.left_out == ("step",)
    with pytest.raises(ConfigurationError, match=r"tensors are inside 'state' \(2\); choose one"):
        converted(tmp_path, checkpoint)
    with pytest.raises(ConfigurationError, match=r"inside 'model' \(1\), 'other' \(1\)"):
        converted(tmp_path, checkpoint, "state")
    with pytest.raises(UnknownName, match=r"unknown key 'modle'; did you mean 'model'\?"):
        converted(tmp_path, checkpoint, "state", "modle")
    with pytest.raises(UnknownName, match="unknown key 'x'"):
        converted(tmp_path, checkpoint, "epoch", "x")
    assert not (tmp_path / "model.safetensors").exists()


def test_tensors_beside_a_mapping_of_tensors(tmp_path: Path) -> None:
    """The inner ones are left out, and counted."""
    inner = torch.ones(2)
    value = {"w": torch.ones(2), "optimizer": {"a": inner, "again": inner, "b": (inner + 1,)}}
    assert converted(tmp_path, value)[0].left_out == ("optimizer (2 tensors)",)


def test_the_same_values_inside_many_are_counted_in_bounded_time(tmp_path: Path) -> None:
    """A file of a few bytes may hold a long list under each of many keys."""
    long = [torch.zeros(1), *range(200_000)]
    value = {"w": torch.ones(1)} | {f"key {place}": long for place in range(2_000)}
    found, _ = converted(tmp_path, value)
    assert len(found.left_out) == 2_000
    assert found.left_out[-1] == "key 1999"


@pytest.mark.parametrize(
    "value", [torch.ones(2), [torch.ones(2)], {}, {"epoch": 1}, 3, {1: torch.ones(1)}]
)
def test_no_mapping_of_names_to_tensors(tmp_path: Path, value: Any) -> None:
    """It has no state dict at all, or one without names."""
    with pytest.raises(UnsupportedModel, match=r"names to tensors|a number and no name"):
        converted(tmp_path, value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"w": torch.ones(2).to_sparse()}, "_rebuild_sparse_tensor"),
        ({"w": torch.ones(2, dtype=torch.complex128)}, "ComplexDoubleStorage"),
        ({"w": torch.ones(2, device="meta")}, "_rebuild_meta_tensor_no_storage"),
        ({"w": torch.ones(2, dtype=torch.complex64).conj()}, "hooks or marks"),
        ({"w": torch.ones(1).expand(1000)}, "a tensor of 1000 numbers in a storage of 1"),
        ({"w": torch.ones(2), "m": torch.nn.Linear(1, 1)}, "torch.nn.modules.linear.Linear"),
        ({"w": torch.ones(2), "a": Path("x")}, "pathlib"),
        ({"a/b": torch.ones(2)}, "path-like-name"),
        ({"a\n": torch.ones(2)}, "control-character"),
        ({"": torch.ones(2)}, "text-limit"),
        ({"__metadata__": torch.ones(2)}, "a tensor is called __metadata__"),
    ],
)
def test_what_safetensors_or_auditor_cannot_hold(tmp_path: Path, value: Any, message: str) -> None:
    """It is refused by name, and nothing is written."""
    with pytest.raises(RefusedModel, match=message) as caught:
        converted(tmp_path, value)
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def archive(data: bytes, **more: bytes) -> bytes:
    """An archive with one storage of 16 bytes."""
    return saved(b"\x80\x02}" + text("w") + data + b"s.", **more)


BOOLEAN = (
    imported("torch._utils", "_rebuild_tensor") + b"((" + text("storage")
    + imported("torch", "BoolStorage") + text("0") + text("cpu") + number(16) + b"tQ" + number(0)
    + number(16) + b"\x85" + number(1) + b"\x85tR"
)  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(tensor(2**30, 2**30)), "16 bytes, compressed or not 4294967296"),
        (archive(tensor(2**20, 4)), "reaches to number 1048576 of a storage of 4"),
        (archive(tensor(4, 3)), "reaches to number 4 of a storage of 3"),
        (archive(tensor().replace(text("0"), text("1"))), "no such member"),
        (archive(tensor().replace(text("0"), text("../0"))), "no such member"),
        (archive(tensor(), byteorder=b"middle"), "order of bytes is b'middle'"),
        (archive(BOOLEAN, **{"data/0": b"\2" * 16}), "a truth value of 2"),
        (archive(tensor(), **{"other.pkl": b"\x80\x02N."}), "other.pkl"),
        (saved(b"\x80\x02N.") + b"PK\x05\x06", "zip-structure|trailing|directory"),
        (b"not a model", "no file of torch.save"),
        (safetensors.torch.save({"w": torch.ones(2)}), "no file of torch.save"),
        (pickle.dumps({"w": 1}), "a pickle that torch.save did not write"),
        (b"\x80\x02N.", "a pickle that torch.save did not write"),
        (b"", "no file of torch.save"),
    ],
)
def test_archives_that_do_not_agree_with_themselves(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """Storages that are not there or of another length, and files that are something else."""
    source, out = tmp_path / "m.pt", tmp_path / "m.safetensors"
    source.write_bytes(content)
    with pytest.raises(RefusedModel, match=message):
        convert_file(source, out)
    assert not out.exists()


def old_layout(**changed: Any) -> bytes:
    """The stream before version 1.6, one of its parts changed."""
    parts = {
        "magic": 0x1950A86A20F9469CFC6C, "version": 1001, "machine": {"little_endian": True},
        "keys": ["0"], "count": 4, "numbers": bytes(16), **changed,
    }  # fmt: skip
    start = [pickle.dumps(parts[name], 2) for name in ("magic", "version", "machine")]
    value = b"\x80\x02}" + text("w") + tensor() + b"s."
    keys = pickle.dumps(parts["keys"], 2)
    return b"".join([*start, value, keys, struct.pack("<q", parts["count"]), parts["numbers"]])


def test_the_old_layout(tmp_path: Path) -> None:
    """Byte by byte."""
    (tmp_path / "m.pt").write_bytes(old_layout())
    convert_file(tmp_path / "m.pt", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == as_the_library_writes({"w": torch.zeros(4)})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"magic": 7}, "a pickle that torch.save did not write"),
        ({"version": 1000}, "another version of torch.save"),
        ({"machine": 3}, "another version of torch.save"),
        ({"keys": ["1"]}, "not those that are used"),
        ({"keys": ["0", "1"]}, "not those that are used"),
        ({"keys": {"0": 1}}, "not those that are used"),
        ({"keys": [0]}, "not those that are used"),
        ({"count": 5}, "not of 4 numbers"),
        ({"numbers": bytes(15)}, "the storages end at byte"),
        ({"numbers": bytes(17)}, "the storages end at byte"),
    ],
)
def test_old_layouts_that_do_not_agree_with_themselves(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    """Every length and key has to fit."""
    (tmp_path / "m.pt").write_bytes(old_layout(**changed))
    with pytest.raises(RefusedModel, match=message):
        convert_file(tmp_path / "m.pt", tmp_path / "out")


def test_copies_without_end(tmp_path: Path) -> None:
    """A few opcodes may not make a large file of a small one."""
    wide = torch.zeros(2**22)
    with pytest.raises(
        RefusedModel, match=r"5 tensors that reach over 83886080 bytes of storages of 16777216"
    ):
        converted(tmp_path, {str(place): wide for place in range(5)})
    assert len(converted(tmp_path, {str(place): wide for place in range(4)})[0].names) == 4
    with pytest.raises(RefusedModel, match="9 tensors that reach over"):
        converted(tmp_path, {str(place): wide[:: 2**22 - 1] for place in range(9)})


def test_what_is_there_stays(tmp_path: Path) -> None:
    """An existing file is no place to write to, and a missing one none to read."""
    torch.save({"w": torch.ones(1)}, tmp_path / "m.pt")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputNotWritable, match="it exists"):
        convert_file(tmp_path / "m.pt", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
    with pytest.raises(FileMissing):
        convert_file(tmp_path / "none.pt", tmp_path / "new")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_no_hostile_file_is_run(tmp_path: Path, case: HostileCase) -> None:
    """Whatever the file or folder is: one line and nothing written, and no marker."""
    marker, out = tmp_path / "marker", tmp_path / "out"
    path = case.build(tmp_path / "case", marker)
    convert = convert_folder if path.is_dir() else convert_file
    if case.id == "torch-state":
        convert(path, out)
        assert safetensors.torch.load(out.read_bytes()).keys() == {"w"}
    else:
        with pytest.raises(AuditorError) as caught:
            convert(path, out)
        assert len(str(caught.value).splitlines()) == 1
        assert not out.exists()
    assert not marker.exists()
