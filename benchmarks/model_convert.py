"""Pickled weights to safetensors beside `torch.load(weights_only=True)` and `save_file`.

    python benchmarks/model_convert.py
    python benchmarks/model_convert.py --mb 128 --tensors 20
    python benchmarks/model_convert.py --files WEIGHTS.pt ...

A state dict of random float32 matrices, a tenth of them transposed, saved once. By turns in one run
each way converts it in a process of its own that has imported its libraries before the clock
starts; the growth of its resident memory is taken. Both write the same bytes, which is checked.
Ours scans the file, compares every checksum, and digests what it reads and writes besides.

With --files nothing is timed: each file is converted by both (the first mapping of tensors in it),
and what each says or whether they wrote the same bytes is printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

OURS = """
from auditor.models.torch_weights.conversion import convert_file as convert
"""
THEIRS = """
import safetensors.torch, torch
def convert(source, out):
    loaded = torch.load(source, weights_only=True)
    whole = {name: each.contiguous() for name, each in loaded.items()}
    safetensors.torch.save_file(whole, out, {"format": "pt"})
"""
TIMED = """
import json, resource, sys, time
from pathlib import Path
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start, used = time.perf_counter(), time.process_time()
convert(Path(sys.argv[1]), Path(sys.argv[2]))
print(json.dumps({
    "seconds": time.perf_counter() - start, "processor_s": time.process_time() - used,
    "memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
}))
"""
WRITTEN = """
import sys, torch
mb, count = map(int, sys.argv[2:])
rows = mb * 2**18 // count // 1024
made = {f"layers.{n}.weight": torch.rand(rows, 1024) for n in range(count)}
torch.save({name: each.t() if n % 10 == 0 else each
            for n, (name, each) in enumerate(made.items())}, sys.argv[1])
"""


COMPARED = """
import re, sys
from pathlib import Path
import safetensors.torch, torch
from auditor.errors import AuditorError
from auditor.models.torch_weights.conversion import convert_file
source, out, keys, said = Path(sys.argv[1]), Path(sys.argv[2]), [], ""
for _ in range(3):
    try:
        said = f"{len(convert_file(source, out, keys).names)} tensors"
        break
    except AuditorError as error:
        said = str(error).replace(str(source), "")
        inside = re.search(r"tensors are inside '([^']+)'", said)
        if inside is None:
            break
        keys.append(inside[1])
try:
    loaded = torch.load(source, weights_only=True, map_location="cpu")
    for key in keys:
        loaded = loaded[key]
    whole = {name: each.contiguous().clone() for name, each in loaded.items()
             if isinstance(each, torch.Tensor)}
    theirs = safetensors.torch.save(whole, {"format": "pt"})
    same = out.exists() and theirs == out.read_bytes()
    told = "the same bytes" if same else "OTHER BYTES" if out.exists() else "torch loads it"
except Exception as error:
    told = f"torch: {type(error).__name__}"
print(f"{'/'.join(keys)} {said}; {told}")
"""


def run(program: str, *arguments: str | Path) -> str:
    """The output of a program in a fresh interpreter."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def compare(files: Sequence[Path]) -> None:
    """Convert each file by both ways and print what came of it."""
    for file in files:
        with tempfile.TemporaryDirectory() as folder:
            print(f"{file.name}: {run(COMPARED, file, Path(folder, 'out')).strip()}", flush=True)


def main() -> None:
    """Measure both by turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=1024, help="Bytes of all tensors, in MB.")
    parser.add_argument("--tensors", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--files", type=Path, nargs="+", help="Convert these instead.")
    asked = parser.parse_args()
    if asked.files:
        compare(asked.files)
        return
    ways = {"auditor": OURS, "torch and safetensors": THEIRS}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as name:
        source, out, digests = Path(name, "model.pt"), Path(name, "out"), set[str]()
        run(WRITTEN, source, str(asked.mb), str(asked.tensors))
        for _ in range(asked.repeats):
            for way, program in ways.items():
                found[way].append(json.loads(run(program + TIMED, source, out)))
                with out.open("rb") as stream:
                    digests.add(hashlib.file_digest(stream, "sha256").hexdigest())
                out.unlink()
        assert len(digests) == 1, "the two do not write the same bytes"
    for way, turns in found.items():
        middle = {key: statistics.median(each[key] for each in turns) for key in turns[0]}
        print(f"{way:<22} {asked.mb / middle['seconds']:>7.0f} MB/s "
              f"{middle['processor_s']:>6.2f} s of processor time "
              f"{middle['memory_mb']:>8.0f} MB more memory", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
