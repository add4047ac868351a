"""Damaging an index file byte by byte."""

from __future__ import annotations

from pathlib import Path

from auditor.errors import RefusedInput
from auditor.trace.index import verify_index


def notices_changed_bytes(index: Path, name: str) -> bool:
    """Whether changing the first, the middle or the last byte of a shard's file is refused."""
    path = index / "shards/000000" / name
    content = path.read_bytes()
    places = {0, len(content) // 2, len(content) - 1}
    noticed = set()
    for at in places:
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        try:
            verify_index(index)
        except RefusedInput:
            noticed.add(at)
    path.write_bytes(content)
    verify_index(index)
    return noticed == places
