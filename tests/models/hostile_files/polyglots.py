"""Files that are valid in one format and, read from their first byte, a pickle as well.

Whoever looks at the format alone finds nothing; whoever unpickles the file runs its call. The
first bytes of the format are opcodes that jump over what the format needs.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from tests.models.hostile_files.case import HostileCase, file, refused
from tests.models.hostile_files.payload import calling
from tests.models.model_folders import entry, safetensors_bytes
from tests.models.onnx_networks import dense_network

RULES = "polyglot pickle-content pickle-import"
_JUMP = 100
_TAR_JUMP = 5 + 0x4141 - 512  # bytes of the first member that `TAA` jumps over
_DOC_BYTES = 8 + (8 << 7) + (ord("0") << 14)


def _call(marker: Path) -> bytes:
    """A call without a beginning: GLOBAL, a text, REDUCE, STOP."""
    return calling("posix", "system", f"touch '{marker}'")[2:]


def _text_call(marker: Path) -> bytes:
    """The same in printable text."""
    return b"cposix\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."


def weights(marker: Path, key: str = "a") -> bytes:
    """Valid weights.

    To a pickle, the header's length begins with `X` and the length of a text that ends inside
    the metadata; there it pushes None until `Ud` jumps over the rest of the header.

    Args:
        marker: The marker.
        key: Of the metadata; the longer it is, the more often None is pushed.
    """
    call = _call(marker)
    start = f'{{"__metadata__":{{"{key}":"'
    length = ord("X") + 256 * (len(start) + 3)  # three bytes of the length belong to the text
    ending = f'"}},"w":{json.dumps(entry("U8", [len(call)], 0, len(call)))}}}'.ljust(_JUMP)
    fill = "N" * (length - len(start) - len(ending) - 2)
    return safetensors_bytes(f"{start}{fill}U{chr(_JUMP)}{ending}", call)


def _network(marker: Path) -> bytes:
    """A valid graph whose call comes after 700,000 opcodes.

    `model_version` 85 is `(U` to a pickle, a mark and a text as long as the tag of `ir_version`
    says; `2` duplicates it, the length of `doc_string` pushes twice and pops once.
    """
    document = (b"N" * 700_000 + b"0" + _text_call(marker)).ljust(_DOC_BYTES)
    head = b"\x28\x55" + b"\x08\x08" + b"\x12\x05model" + b"\x32\x88\x880" + document
    model = dense_network([3, 2])
    for name in ("ir_version", "producer_name"):
        model.ClearField(name)
    return head + bytes(model.SerializeToString())


def _picture(marker: Path) -> bytes:
    """`G` is a float of eight bytes, and the height's upper byte is `c`, an import."""
    return b"GIF89a" + b"\x01\x00\x01" + _text_call(marker)


def _archive(marker: Path) -> bytes:
    """The first member's name is `T`, a text whose length are the rest of the name and its end."""
    content = (b"A line of text.\n" * 2000)[:_TAR_JUMP] + _text_call(marker)
    member, stream = tarfile.TarInfo("TAA"), io.BytesIO()
    member.size = len(content)
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _words(marker: Path) -> bytes:
    """A text whose first line is a text to a pickle too."""
    return b"VThis is a model card, and a very ordinary one.\n0" + _text_call(marker)


def _words_without_end(marker: Path) -> bytes:
    """The call happens before the end is missed."""
    return b"N" * 20_000 + _text_call(marker)[:-1]


CASES: tuple[HostileCase, ...] = (
    refused("weights-that-are-a-pickle-too", "any pickle: recognised by bytes", file(
        "pytorch_model.bin", weights), RULES),
    refused("weights-that-are-a-long-pickle-too", "any pickle: recognised by bytes", file(
        "model.safetensors", lambda marker: weights(marker, "a" * 230)), RULES),
    refused("network-that-is-a-long-pickle-too", "any pickle: recognised by bytes", file(
        "model.onnx", _network), RULES),
    refused("picture-that-is-a-pickle-too", "any pickle: recognised by bytes", file(
        "pytorch_model.bin", _picture), RULES),
    refused("tar-that-is-a-pickle-too", "any pickle: recognised by bytes", file(
        "model.tar", _archive), RULES),
    refused("text-that-is-a-pickle-too", "any pickle: recognised by bytes", file(
        "README.md", _words), RULES),
    refused("text-that-is-a-pickle-without-end", "any pickle: recognised by bytes", file(
        "labels.txt", _words_without_end), RULES),
)  # fmt: skip
