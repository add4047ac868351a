"""Reading a small pattern file takes memory for its own size, not for what a file may have."""

from __future__ import annotations

import tracemalloc
from importlib.resources import files
from pathlib import Path

from auditor.patterns.pattern_file import MAX_FILE_BYTES, read_patterns

DEMO = Path(str(files("auditor_specs"))) / "plans" / "demo" / "digits_patterns.safetensors"


def test_a_small_file_takes_little_memory() -> None:
    """So that an audit under a limit on its address space can read it."""
    read_patterns(DEMO)
    tracemalloc.start()
    try:
        read_patterns(DEMO)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MAX_FILE_BYTES / 64
