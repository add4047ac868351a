"""What `torch.save`, TorchScript and `torch.export` write, and wrote, with a call inside."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tests.models.hostile_files.case import HostileCase, file, refused
from tests.models.hostile_files.payload import calling, imported, line, number, text, touching
from tests.models.packed import zipped

PICKLE = "pickle-content pickle-import"
SCRIPT = "torchscript pickle-content pickle-import"
EXPORT = "torch-export pickle-content pickle-import"
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


def saved(data: bytes, **more: bytes) -> bytes:
    """The archive of `torch.save` around a pickle."""
    members = {"data.pkl": data, "byteorder": b"little", "data/0": bytes(16), "version": b"3\n"}
    return zipped({f"archive/{name}": content for name, content in (members | more).items()})


def tensor(size: int = 4, stored: int = 4) -> bytes:
    """The opcodes of one float tensor of `size` numbers over a storage that claims `stored`."""
    storage = (
        b"(" + text("storage") + imported("torch", "FloatStorage") + text("0") + text("cpu")
        + number(stored) + b"tQ"
    )  # fmt: skip
    hooks = imported("collections", "OrderedDict") + b")R"
    arguments = storage + number(0) + number(size) + b"\x85" + number(1) + b"\x85\x89" + hooks
    return imported("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def _state(marker: Path) -> bytes:
    """An ordinary state dict; nothing in it is called but torch's own functions."""
    return saved(b"\x80\x02}" + text("w") + tensor() + b"s.")


def _state_and_call(marker: Path) -> bytes:
    call = touching(marker, 2)[2:-1]
    return saved(b"\x80\x02}" + text("w") + tensor() + b"s" + text("x") + call + b"s.")


def _item_on_no_mapping(marker: Path) -> bytes:
    """SETITEM on a tensor, which weights-only reading let through."""
    return saved(b"\x80\x02" + tensor() + text("w") + number(1) + b"s.")


def _storage_too_small(marker: Path) -> bytes:
    """A tensor over 2^30 numbers in a storage of four."""
    return saved(b"\x80\x02}" + text("w") + tensor(2**30, 2**30) + b"s.")


def _rebuilt_beyond(marker: Path) -> bytes:
    """Size, stride and offset that leave the storage."""
    return saved(b"\x80\x02}" + text("w") + tensor(2**20, 4) + b"s.")


def _legacy(marker: Path) -> bytes:
    """The format before the zip: five pickles, then the numbers."""
    system = {"protocol_version": _PROTOCOL, "little_endian": True, "type_sizes": {"int": 4}}
    parts = [pickle.dumps(each, 2) for each in (_MAGIC, _PROTOCOL, system)]
    return b"".join([*parts, touching(marker, 2), pickle.dumps(["0"], 2), bytes(8)])


def _oldest(marker: Path) -> bytes:
    """The format before that: a tar of pickles."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            content = touching(marker, 2) if name == "pickle" else pickle.dumps({}, 2)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _script(marker: Path, code: str = "", data: bytes | None = None) -> bytes:
    body = code or "class M(Module):\n  def forward(self: M, x: Tensor) -> Tensor:\n    return x\n"
    return zipped({
        "model/data.pkl": data or b"\x80\x02" + imported("__torch__", "M") + b")\x81}b.",
        "model/code/__torch__.py": body.encode(),
        "model/code/__torch__.py.debug_pkl": pickle.dumps(("FORMAT_WITH_STRING_TABLE", ()), 2),
        "model/constants.pkl": b"\x80\x02).",
        "model/version": b"3\n",
    })  # fmt: skip


def _annotation(marker: Path) -> bytes:
    """A type comment that torch evaluated."""
    return _script(marker, f"def f(x):\n  # type: ({line(marker)}) -> int\n  return x\n")


def _remote_function(marker: Path) -> bytes:
    call = calling("torch.distributed.rpc.internal", "PythonUDF", "touch", str(marker))
    return _script(marker, data=call)


def _remote_module(marker: Path) -> bytes:
    name = "torch.distributed.nn.api.remote_module"
    return _script(marker, data=calling(name, "_recursive_script_module_receiver", str(marker)))


def _program(weights: Mapping[str, object], members: Mapping[str, bytes]) -> bytes:
    named = {
        "archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little",
        "models/model.json": json.dumps({"graph_module": {"graph": {"nodes": []}}}).encode(),
        "data/weights/model_weights_config.json": json.dumps({"config": weights}).encode(),
        ".data/version": b"3\n", **members,
    }  # fmt: skip
    return zipped({f"model/{name}": content for name, content in named.items()})


def _program_samples(marker: Path) -> bytes:
    samples = saved(touching(marker, 2))
    return _program({}, {"data/sample_inputs/model.pt": samples})


def _program_weight(marker: Path) -> bytes:
    weight = {"path_name": "weight_0", "is_param": True, "use_pickle": True, "tensor_meta": None}
    return _program({"w": weight}, {"data/weights/weight_0": saved(touching(marker, 2))})


def _program_plain(marker: Path) -> bytes:
    """No pickle in it, and still no way to open it that would not read one."""
    weight = {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": None}
    return _program({"w": weight}, {"data/weights/weight_0": bytes(16)})


def _other_name(marker: Path) -> bytes:
    """The call lies in a member that no list of endings holds; `data.pkl` is harmless."""
    return zipped({
        "archive/data.pkl": b"\x80\x02}.", "archive/config.p": touching(marker, 2),
        "archive/version": b"3\n",
    })  # fmt: skip


def _deflated(marker: Path) -> bytes:
    return zipped({"m/data.pkl": touching(marker, 2)}, zipfile.ZIP_DEFLATED)


CASES: tuple[HostileCase, ...] = (
    refused("torch-state", "any pickle", file("model.pth", _state), PICKLE, "data.pkl"),
    refused("torch-state-and-a-call", "CVE-2025-32434", file("pytorch_model.bin", _state_and_call),
            PICKLE, "data.pkl"),
    refused("torch-item-on-no-mapping", "CVE-2026-24747", file("a.ckpt", _item_on_no_mapping),
            PICKLE, "data.pkl"),
    refused("torch-storage-too-small", "CVE-2026-24747, pytorch#195610", file(
        "a.pt", _storage_too_small), PICKLE, "data.pkl"),
    refused("torch-rebuilt-beyond-its-storage", "pytorch#169570", file("a.pt", _rebuilt_beyond),
            PICKLE, "data.pkl"),
    refused("torch-legacy", "CVE-2025-32434", file("model.pt", _legacy), PICKLE),
    refused("torch-tar", "CVE-2025-32434", file("model.pt", _oldest), PICKLE, "pickle"),
    refused("torch-member-of-another-name", "CVE-2025-1889", file("model.pt", _other_name),
            PICKLE, "config.p"),
    refused("torch-deflated", "any pickle", file("model.pt", _deflated), PICKLE, "data.pkl"),
    refused("torch-named-safetensors", "containers", file("model.safetensors", _state_and_call),
            PICKLE, "data.pkl"),
    refused("torchscript", "TorchScript", file("model.pt", _script), SCRIPT),
    refused("torchscript-annotation", "CVE-2022-45907", file("model.pt", _annotation), SCRIPT),
    refused("torchscript-remote-function", "CVE-2024-5480", file("model.pt", _remote_function),
            SCRIPT),
    refused("torchscript-remote-module", "CVE-2024-48063", file("model.pt", _remote_module),
            SCRIPT),
    refused("torch-export-sample-inputs", "CVE-2026-4538, pytorch#176791", file(
        "model.pt2", _program_samples), EXPORT),
    refused("torch-export-weight", "CVE-2026-4538, pytorch#176791", file(
        "model.pt2", _program_weight), EXPORT),
    refused("torch-export-without-pickle", "torch.export", file("model.zip", _program_plain),
            EXPORT),
)  # fmt: skip
