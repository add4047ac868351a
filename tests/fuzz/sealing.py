"""Digests and checksums put right, so that what lies behind them is reached by altered files."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.target import parts_of

START = "0" * 64
SHARD = "shards/000000"


def certificate_of(data: bytes) -> bytes:
    """A certificate of numbered parts: 0 a header, 1 a region, 2 a batch, 3 something else."""
    from auditor.verify.certificate.records import BATCH, END, GROUP, HEADER, MAGIC, frame

    kinds = (HEADER, GROUP, BATCH, b"?")
    content = MAGIC + b"".join(frame(kinds[kind], part) for kind, part in parts_of(data, 4))
    return content + frame(END, hashlib.sha256(content).digest())


def ledger_of(lines: Iterable[bytes]) -> bytes:
    """A ledger of lines, each a list of kind and body; another line stands in it as it is."""
    previous, written = START, []
    for line in lines:
        try:
            kind, body = json.loads(line)
            content = json.dumps(
                {"body": body, "format": 1, "kind": kind, "previous": previous},
                sort_keys=True, separators=(",", ":"), allow_nan=False,
            )  # fmt: skip
        except (ValueError, TypeError, RecursionError):
            written.append(line + b"\n")
            continue
        previous = hashlib.sha256(content.encode()).hexdigest()
        written.append(f'{{"digest":"{previous}","entry":{content}}}\n'.encode())
    return b"".join(written)


def safetensors_of(head: bytes, arrays: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> bytes:
    """A safetensors file with a text called `head` and these arrays: type, shape and bytes."""
    header: dict[str, Any] = {"__metadata__": {"head": head.decode("utf-8", "replace")}}
    at, body = 0, b""
    for name, (kind, shape, raw) in arrays.items():
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + len(raw)]}
        at, body = at + len(raw), body + raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def pattern_file_of(data: bytes) -> bytes:
    """A pattern file of a line, its head, and the bytes that its arrays are filled with."""
    from pydantic import ValidationError

    from auditor.patterns import pattern_file
    from auditor.patterns.pattern_head import PatternHead

    line, _, rest = data.partition(b"\n")
    try:
        head = PatternHead.model_validate_json(line)
    except ValidationError:
        return safetensors_of(line, {})
    sizes = {"U8": 1, "I64": 8, "F64": 8}
    arrays: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
    for name, (kind, shape) in pattern_file._layout(head).items():
        size = prod(shape) * sizes[kind]
        if size > 1 << 20:
            return safetensors_of(line, {})
        raw, rest = rest[:size], rest[size:]
        arrays[name] = kind, shape, raw.ljust(size, b"\0")
    sealed = head.model_copy(update={"digest": pattern_file._digest(head, arrays)})
    return safetensors_of(pattern_file._head_text(sealed).encode(), arrays)


def mask_file_of(data: bytes) -> bytes:
    """A mask file of a line, its head, and the bytes that its arrays are filled with."""
    from pydantic import ValidationError

    from auditor.memorization.masks import mask_file

    line, _, rest = data.partition(b"\n")
    try:
        head = mask_file.MaskHead.model_validate_json(line)
    except ValidationError:
        return safetensors_of(line, {})
    arrays: dict[str, tuple[str, tuple[int, ...], bytes]] = {}
    for number, layer in enumerate(head.layers):
        packed = -(-layer.outputs * layer.inputs // 8)
        if max(packed, 4 * layer.pruned) > 1 << 20:
            return safetensors_of(line, {})
        for name, kind, count, size in (
            ("bits", "U8", packed, 1), ("values", "F32", layer.pruned, 4),
        ):  # fmt: skip
            raw, rest = rest[: count * size], rest[count * size :]
            arrays[f"{number}.{name}"] = kind, (count,), raw.ljust(count * size, b"\0")
    numbers = {
        name: np.frombuffer(raw, {"U8": np.uint8, "F32": np.float32}[kind])
        for name, (kind, _, raw) in arrays.items()
    }
    sealed = head.model_copy(update={"digest": mask_file._digest(head, numbers)})
    return safetensors_of(mask_file._text(sealed).encode(), arrays)


def write_index(folder: Path, files: Mapping[str, bytes], **changed: Any) -> None:
    """An index of one shard with these files; its manifest says what their sizes say.

    Digests of files are left as they are: reading checks sizes, verifying checks digests.
    """
    from auditor.trace.manifest import Manifest, ShardRecord, StoredFile, write_manifest

    shard = folder / SHARD
    shard.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (shard / name).write_bytes(content)
    digest = f"sha256:{'0' * 64}"
    record = ShardRecord(
        name="000000",
        symbols=max(1, len(files["text.u8"])),
        documents=max(1, len(files["starts.i64"]) // 8 - 1),
        files={name: StoredFile(size=len(raw), digest=digest) for name, raw in files.items()},
        **changed,
    )
    write_manifest(folder, Manifest(shards=(record,)))
