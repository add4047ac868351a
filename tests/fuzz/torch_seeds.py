"""Seeds: pickles and archives of weights, as torch writes and wrote them."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

from tests.fuzz.target import with_parts
from tests.models.hostile_files.payload import imported, number, text
from tests.models.hostile_files.torch_archives import saved, tensor

Files = dict[str, bytes]
_MAGIC = 0x1950A86A20F9469CFC6C


def torch_seeds(folder: Path) -> dict[str, Files]:
    """One tensor in every layout, and values of every kind around it."""
    state = b"\x80\x02}" + text("w") + tensor() + b"s."
    checkpoint = (
        b"\x80\x02}q\x00(" + text("model") + b"}q\x01" + text("w") + tensor() + b"s" + text("step")
        + number(300) + text("dtype") + imported("torch", "float32") + text("shape")
        + imported("torch", "Size") + b"]q\x02(K\x01K\x02e\x85R" + text("h") + b"h\x02u."
    )  # fmt: skip
    parts = [pickle.dumps(each, 2) for each in (_MAGIC, 1001, {"little_endian": True})]
    stream = b"".join([*parts, state, pickle.dumps(["0"], 2), struct.pack("<q", 4), bytes(16)])
    return {
        "torch-values": {
            "state": state, "checkpoint": checkpoint, "plain": pickle.dumps([1.5, "a", b"b"], 4),
            "attributes": b"\x80\x02" + imported("collections", "OrderedDict") + b")R}b.",
        },
        "torch-stream": {"old": stream, "archive": saved(state)},
        "torch-archive": {
            "little": with_parts([(0, state), (1, bytes(16)), (3, b"little")]),
            "big": with_parts([(0, checkpoint), (1, bytes(16)), (3, b"big")]),
        },
    }  # fmt: skip
