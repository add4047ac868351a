"""Opcodes per second of the pickle walk beside pickletools.genops, on the same bytes in one run.

    python benchmarks/pickle_walk.py

The pickles hold plain data and are only written here. The walk follows stack and memo as well,
which genops does not; the best of three turns is taken of each.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import time
from collections.abc import Callable
from functools import partial

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.pickles.walk import walk_pickle

TURNS = 3


def samples() -> dict[str, bytes]:
    """Pickles of about a million opcodes each, by what they hold."""
    words = {f"token{number}": number for number in range(250_000)}
    records = [{"a": [n, float(n)], "b": (n, None)} for n in range(70_000)]
    return {
        "numbers, protocol 4": pickle.dumps(list(range(1_000_000)), 4),
        "vocabulary, protocol 4": pickle.dumps(words, 4),
        "vocabulary, protocol 2": pickle.dumps(words, 2),
        "records, protocol 2": pickle.dumps(records, 2),
        "pairs, protocol 0": pickle.dumps([(n, str(n)) for n in range(130_000)], 0),
    }


def seconds(action: Callable[[], object]) -> float:
    """The time of one turn."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def count_opcodes(content: bytes) -> int:
    """As the standard library lists them."""
    return sum(1 for _ in pickletools.genops(io.BytesIO(content)))


def walk(content: bytes) -> str:
    """As the scan walks them."""
    source = ByteSource(io.BytesIO(content).read, size=len(content))
    return walk_pickle(source, "", ScanLimits()).facts["opcodes"]


def main() -> None:
    """Print one line for each sample."""
    for name, content in samples().items():
        opcodes = count_opcodes(content)
        turns = [
            (seconds(partial(walk, content)), seconds(partial(count_opcodes, content)))
            for _ in range(TURNS)
        ]
        walked, listed = (min(times) for times in zip(*turns, strict=True))
        print(
            f"{name}: {opcodes} opcodes; walk {opcodes / walked / 1e6:.1f} M/s, "
            f"genops {opcodes / listed / 1e6:.1f} M/s, ratio {listed / walked:.1f}"
        )


if __name__ == "__main__":
    main()
