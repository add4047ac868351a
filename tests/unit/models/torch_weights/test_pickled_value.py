"""A pickle of weights is worked out from its opcodes, and nothing that it names is reached."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.models.scan.pickles.imports import ALLOWED
from auditor.models.scan.pickles.stack import Import
from auditor.models.torch_weights.names import NAMED
from auditor.models.torch_weights.pickled_value import PickleUnread, read_value
from auditor.models.torch_weights.tensors import PickledTensor, Storage
from tests.models.hostile_files.payload import calling, imported, number, text, touching
from tests.models.hostile_files.torch_archives import tensor

STORAGE = b"(" + text("storage") + imported("torch", "FloatStorage") + text("0") + text("cpu")

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.text(max_size=20)
    | st.floats(allow_nan=False) | st.binary(min_size=1, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner)
    | st.dictionaries(st.text(max_size=5) | st.integers(-9, 9), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(PLAIN, st.sampled_from([2, 3, 4, 5]))
def test_plain_values_are_what_pickle_reads(value: Any, protocol: int) -> None:
    """In every protocol that torch can be told to use."""
    content = pickle.dumps(value, protocol)
    found = read_value(content + b"more")
    assert found.value == value
    assert found.end == len(content)
    assert not found.storages


def test_a_mapping_of_any_kind_is_a_dict() -> None:
    """Also the one of Python 2, which is made of pairs; attributes are left out."""
    pairs = OrderedDict([("b", 1), ("a", [2])])
    assert list(read_value(pickle.dumps(pairs, 2)).value.items()) == [("b", 1), ("a", [2])]
    old = imported("collections", "OrderedDict") + b"]](" + text("b") + number(1) + b"ea\x85R."
    assert read_value(b"\x80\x02" + old).value == {"b": 1}
    built = imported("collections", "OrderedDict") + b")R}" + text("_metadata") + b"}sb."
    assert read_value(b"\x80\x02" + built).value == {}


def test_a_tensor_is_described_and_not_made() -> None:
    """By the storage it lies in."""
    found = read_value(b"\x80\x02}" + text("w") + tensor(3, 4) + b"s.")
    storage = Storage("0", "F32", 4)
    assert found.value == {"w": PickledTensor(storage, "F32", 0, (3,), (1,))}
    assert found.storages == {"0": storage}


def test_names_of_types_are_values() -> None:
    """Checkpoints hold some among their settings."""
    assert read_value(b"\x80\x02" + imported("torch", "float32") + b".").value == Import(
        "torch", "float32"
    )


def _with_arguments(name: str, arguments: bytes) -> bytes:
    return b"\x80\x02" + imported("torch._utils", name) + b"(" + arguments + b"tR."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02" + imported("os", "system") + b".", "can run commands"),
        (b"\x80\x04" + text("os") + text("system") + b"\x93.", "can run commands"),
        (b"\x80\x02" + imported("builtins", "getattr") + b".", "call any function"),
        (b"\x80\x02" + imported("torch", "load") + b".", "opens another pickle"),
        (b"\x80\x02" + imported("numpy", "ndarray") + b".", "none of the names"),
        (b"\x80\x02(" + text("a") + b"ios\nsystem\n.", "opcode INST"),
        (b"\x80\x02(" + imported("torch", "Size") + b"o.", "opcode OBJ"),
        (b"\x80\x02" + imported("torch", "Size") + b")\x81.", "opcode NEWOBJ"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02Nb.", "more than there is"),
        (b"\x80\x02]Nb.", "no mapping"),
        (b"\x80\x02" + tensor() + b"Nb.", "no mapping"),
        (b"\x80\x02" + tensor() + text("w") + number(1) + b"s.", "CVE-2026-24747"),
        (b"\x80\x02" + imported("torch", "Size") + text("w") + number(1) + b"s.", "no mapping"),
        (b"\x80\x02}" + text("w") + b"N" + text("w") + b"Nss.", "no mapping"),
        (b"\x80\x02}" + text("w") + b"Ns" + text("w") + b"Ns.", "the key 'w' twice"),
        (b"\x80\x02}(" + text("w") + b"Nu" + text("w") + b"Ns.", "the key 'w' twice"),
        (b"\x80\x02}]Ns.", "a key that is a list"),
        (b"\x80\x02}\x8a\x08" + bytes([255] * 7) + b"\x1fNs.", "a key that is 2305843009213693951"),
        (b"\x80\x02}(" + text("w") + b"u.", "1 keys and values"),
        (b"\x80\x02}Na.", "no list"),
        (b"\x80\x02}(Ne.", "no list"),
        (b"\x80\x02" + tensor() + b")R.", "no function of weights"),
        (b"\x80\x02N)R.", "no function of weights"),
        (b"\x80\x02" + imported("torch", "Size") + b"]R.", "a call without arguments"),
        (b"\x80\x02" + imported("torch", "Size") + b")R.", "a shape that is none"),
        (b"\x80\x02" + imported("torch", "FloatStorage") + b")R.", "no function of weights"),
        (b"\x80\x02" + imported("collections", "OrderedDict") + number(1) + b"\x85R.", "pairs"),
        (b"\x80\x02" + imported("collections", "OrderedDict") + b"]Na\x85R.", "pairs"),
        (b"\x80\x02" + imported("_codecs", "encode") + text("a") + text("rot13") + b"\x86R.",
         "another way"),
        (b"\x80\x02" + imported("_codecs", "encode") + text("\u20ac") + text("latin1")
         + b"\x86R.", "bytes that are none"),
        (b"\x80\x02NQ.", "no storage"),
        (b"\x80\x02" + STORAGE + text("4") + b"tQ.", "no storage"),
        (b"\x80\x02" + STORAGE + number(-1) + b"tQ.", "no storage"),
        (b"\x80\x02" + STORAGE + number(4) + b"(NtttQ.", "more than there is"),
        (b"\x80\x02" + STORAGE + number(4) + number(1) + b"tQ.", "before version 0.4"),
        (b"\x80\x02(" + text("storage") + imported("torch", "float32") + text("0") + text("cpu")
         + number(4) + b"tQ.", "a storage of the type 'torch.float32'"),
        (b"\x80\x02" + STORAGE + number(4) + b"tQ" + STORAGE + number(5) + b"tQ\x86.",
         "two types or lengths"),
        (_with_arguments("_rebuild_tensor", b"N" + number(0) + b"))"), "without a storage"),
        (_with_arguments("_rebuild_tensor", STORAGE + number(4) + b"tQ" + number(0) + b"NN"),
         "without a shape"),
        (_with_arguments("_rebuild_tensor_v2", STORAGE + number(4) + b"tQ" + number(0) + b"))"),
         "described by 4 values"),
        (_with_arguments("_rebuild_tensor_v2", STORAGE + number(4) + b"tQ" + number(0) + b"))\x89"
                         b"}" + text("h") + b"Ns"), "hooks or marks"),
        (_with_arguments("_rebuild_tensor_v2", STORAGE + number(4) + b"tQ" + number(0) + b"))\x89"
                         b"}}" + text("conj") + b"\x88s"), "hooks or marks"),
        (_with_arguments("_rebuild_tensor_v3", STORAGE + number(4) + b"tQ" + number(0) + b"))\x89"
                         b"}N"), "a tensor of the type None"),
        (_with_arguments("_rebuild_parameter", b"N\x89}"), "a parameter that is no tensor"),
        (_with_arguments("_rebuild_parameter_with_state", b"N\x89}}"), "none of the names"),
        (_with_arguments("_rebuild_sparse_tensor", b"NN"), "none of the names"),
        (b"\x80\x02h\x00.", "number 0 of the memo"),
        (b"\x80\x020.", "opcode POP"),
        (b"\x80\x02\xff.", "opcode 0xff"),
        (b"\x80\x06N.", "protocol 6"),
        (b"\x80\x01N.", "protocol 1"),
        (b"\x80\x02NN.", "1 values left over"),
        (b"\x80\x02.", "more than there is"),
        (b"\x80\x02(N.", "1 values left over"),
        (b"\x80\x02t.", "more than there is"),
        (b"\x80\x02\x86.", "more than there is"),
        (b"\x80\x02X\x01\0\0\0\xff.", "not UTF-8"),
        (b"\x80\x02T\xff\xff\xff\xffa.", "a length of -1 bytes"),
        (b"\x80\x02\x8a\x20" + bytes(32) + b".", "a whole number of 32 bytes"),
        (b"\x80\x02c" + b"a" * 300 + b"\nb\n.", "a name of more than 256 bytes"),
        (b"\x80\x04NN\x93.", "a name that is no text"),
        (b"\x80\x02", "ends before its STOP"),
        (b"\x80\x02X\xff\0\0\0a.", "ends before its STOP"),
        (b"\x80\x02J\0\0", "ends before its STOP"),
        (b"", "ends before its STOP"),
    ],
)  # fmt: skip
def test_what_weights_do_not_need_is_not_read(content: bytes, message: str) -> None:
    """With one line that says what it is."""
    with pytest.raises(PickleUnread, match=message) as caught:
        read_value(content)
    assert 0 <= caught.value.offset <= len(content)
    assert "\n" not in caught.value.problem


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "message"),
    [
        (0, (2**30,), (1,), "reaches to number 1073741824 of a storage of 4"),
        (1, (4,), (1,), "reaches to number 5 of a storage of 4"),
        (0, (2, 2), (3, 1), "reaches to number 5 of a storage of 4"),
        (0, (5,), (0,), "a tensor of 5 numbers in a storage of 4"),
        (0, (2**40, 2**40), (0, 0), "numbers in a storage of 4"),
        (-1, (1,), (1,), "whole numbers >= 0"),
        (0, (1,), (-1,), "whole numbers >= 0"),
        (0, (-1,), (1,), "whole numbers >= 0"),
        (0, (2.0,), (1,), "whole numbers >= 0"),
        (0, (True,), (1,), "whole numbers >= 0"),
        (0, (2**63,), (1,), "whole numbers >= 0"),
        (0, (2,), (1, 1), "1 axes and 2 strides"),
        (0, (1,) * 33, (1,) * 33, "33 axes"),
    ],
)
def test_a_tensor_lies_inside_its_storage(
    offset: int, shape: tuple[Any, ...], strides: tuple[int, ...], message: str
) -> None:
    """Whatever the pickle says of offsets, shapes and strides."""
    with pytest.raises(ValueError, match=message):
        PickledTensor(Storage("0", "F32", 4), "F32", offset, shape, strides)


def test_wider_numbers_than_the_storage_has() -> None:
    """Bytes are counted, not numbers."""
    with pytest.raises(ValueError, match="reaches to number 3 of a storage of 2"):
        PickledTensor(Storage("0", "U8", 5), "U16", 0, (3,), (1,))


def test_nothing_is_run(tmp_path: Path) -> None:
    """A call ends the reading at the name, before it has arguments."""
    marker = tmp_path / "marker"
    for protocol in (2, 3, 4, 5):
        with pytest.raises(PickleUnread):
            read_value(touching(marker, protocol))
    with pytest.raises(PickleUnread, match=r"imports 'io\.open'"):
        read_value(calling("io", "open", str(marker), "w"))
    assert not marker.exists()


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_not(content: bytes) -> None:
    """No other error leaves the reader, and what it reads ends where `pickletools` says."""
    try:
        found = read_value(b"\x80\x02" + content)
    except PickleUnread:
        return
    stream = io.BytesIO(b"\x80\x02" + content)
    list(pickletools.genops(stream))
    assert found.end == stream.tell()


@pytest.mark.parametrize(
    ("made", "called"),
    [
        (b"](" + b"K\x01" * 500 + b"e", imported("torch", "Size")),
        (b"](" + b"".join(b"(" + text(f"{each}") + b"Nt" for each in range(99)) + b"e",
         imported("collections", "OrderedDict")),
        (text("a" * 500) + b"q\x05" + text("latin1") + b"\x86", imported("_codecs", "encode")),
        (b"(" + b"K\x01" * 500 + b"t", imported("torch", "device")),
    ],
)  # fmt: skip
def test_what_is_written_once_is_not_copied_without_end(made: bytes, called: bytes) -> None:
    """A call takes three bytes, and what it copies may be of any length."""
    takes_all = b"_codecs" in called or b"device" in called
    call = called + b"h\x00" + (b"" if takes_all else b"\x85") + b"R"
    once = b"\x80\x02" + made + b"q\x00" + call
    assert read_value(once + b"\x86.").end
    with pytest.raises(PickleUnread, match="copy more than was written"):
        read_value(once + call * 100 + b".")


def test_every_name_of_weights_is_one_that_the_scan_lets_be() -> None:
    """Else a file could never be converted for it."""
    assert ALLOWED.keys() >= NAMED


def test_addresses_are_keys() -> None:
    """Optimizers of old versions of torch numbered parameters by where they lay in memory."""
    value = {"param_groups": [], "state": {140178894849152: {"step": 1}}}
    assert read_value(pickle.dumps(value, 2)).value == value


def test_a_value_that_holds_itself_is_read() -> None:
    """Lists through the memo may; whoever walks them must notice."""
    content = b"\x80\x02]q\x00h\x00a."
    found = read_value(content).value
    assert found[0] is found
