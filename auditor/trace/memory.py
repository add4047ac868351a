"""What building an index takes of memory, said and refused before it begins."""

from __future__ import annotations

from typing import Final

import psutil

from auditor.errors import ConfigurationError

# The text, and its suffixes as 32-bit numbers; measured, see docs/benchmarks.md.
BYTES_PER_BYTE: Final = 5.0
# Coded tokens take at most as many bytes as their text, as long as no token is of less than one.
BYTES_PER_BYTE_OF_TOKENS: Final = 6.5
# What the interpreter and its libraries take beside the shard that is sorted.
BASE_BYTES: Final = 300 * 2**20
# The same with a tokenizer of some hundred thousand tokens, and what it remembers.
BASE_BYTES_OF_TOKENS: Final = 550 * 2**20


def needed_memory(shard_bytes: int, *, tokens: bool = False, workers: int = 1) -> int:
    """Bytes of memory that making shards of a size takes at its peak.

    Args:
        shard_bytes: Bytes of text in a shard.
        tokens: Whether its tokens are sorted.
        workers: How many shards are made at once; more than one in processes of their own.
    """
    each = int((BYTES_PER_BYTE_OF_TOKENS if tokens else BYTES_PER_BYTE) * shard_bytes)
    each += BASE_BYTES_OF_TOKENS if tokens else BASE_BYTES
    return each if workers == 1 else BASE_BYTES + workers * each


def refuse_too_little_memory(shard_bytes: int, *, tokens: bool = False, workers: int = 1) -> None:
    """Refuse to begin what would only swap.

    Raises:
        ConfigurationError: Shards of this size need more memory than is available.
    """
    needed = needed_memory(shard_bytes, tokens=tokens, workers=workers)
    what = f"a shard of {shard_bytes >> 20} MiB needs"
    way_out = "choose smaller shards"
    if workers > 1:
        what = f"{workers} shards of {shard_bytes >> 20} MiB at once need"
        way_out += " or fewer workers"
    _refuse(needed, what, way_out)


def refuse_more_than_stated(needed: int, stated: int, what: str) -> None:
    """Refuse what needs more memory than was said before, if it is not there.

    Raises:
        ConfigurationError: It is not.
    """
    if needed > stated:
        _refuse(needed, f"{what} needs", "leave it out, or build where there is more")


def _refuse(needed: int, what: str, way_out: str) -> None:
    free = psutil.virtual_memory().available
    if needed > free:
        raise ConfigurationError(
            f"{what} {needed >> 20} MiB of memory and {free >> 20} MiB are available; {way_out}"
        )
