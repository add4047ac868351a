"""The model scan beside what it competes with: json, safetensors, sha256sum.

    python benchmarks/model_scan.py                      # 4 shards of 512 MB below /tmp
    python benchmarks/model_scan.py --mb 64 --headers 10 1000

Headers: files of 10, 1,000 and 50,000 tensors, read by `read_header`, by `safetensors.safe_open`
and its keys, and by `json.loads`, which checks nothing. Scan: a sharded model of random bytes,
written once and removed after, scanned with and without digests beside `sha256sum` of the same
files, one after another and one per core. All by turns in one run, after one reading that warms the
pages; medians. The scan runs in a process of its own that has loaded its libraries, whose growth of
memory is measured.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors

from auditor.models.limits import FolderLimits
from auditor.models.safetensors_header import read_header
from auditor.models.scan.scanner import scan_path

MEGABYTE = 2**20
SHARDS = 4
TENSOR_MB = 16
SEED = 0
_MINIMUM_S = 0.2


def header_bytes(tensors: int) -> bytes:
    """A header as save_pretrained writes it, with this many tensors of two numbers."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for number in range(tensors):
        name = f"model.layers.{number // 9}.self_attn.{'qkvogudnm'[number % 9]}_proj.weight"
        entries[name] = {
            "dtype": "BF16",
            "shape": [1, 2],
            "data_offsets": [4 * number, 4 * number + 4],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds of one call, from as many as take a fifth of a second."""
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < _MINIMUM_S:
        work()
        count += 1
    return (time.perf_counter() - started) / count


def open_keys(path: Path) -> int:
    """How many names the library finds."""
    with safetensors.safe_open(path, framework="np") as opened:
        return len(list(opened.keys()))


def measure_headers(tensors: int, folder: Path, repeats: int) -> dict[str, float]:
    """Bytes of header and files in a second of the three readers."""
    header = header_bytes(tensors)
    path = folder / f"{tensors}.safetensors"
    path.write_bytes(header + bytes(4 * tensors))
    size = path.stat().st_size

    def check() -> object:
        with path.open("rb") as stream:
            return read_header(path, "", stream, size, FolderLimits())

    works: dict[str, Callable[[], object]] = {
        "read_header": check,
        "safe_open": lambda: open_keys(path),
        "json.loads": lambda: json.loads(header[8:]),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            found[name].append(seconds_of(work))
    medians = {name: statistics.median(each) for name, each in found.items()}
    print(f"{tensors:>7,} tensors, header of {len(header):>10,} bytes:", flush=True)
    for name, median in medians.items():
        print(f"    {name:<12} {len(header) / median / 1e6:>8.1f} MB/s {1 / median:>10.1f} files/s")
    return medians


def write_model(folder: Path, shard_mb: int) -> int:
    """A model in shards of random bytes; how many bytes the shards have together."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    source, places, total = random.Random(SEED), dict[str, str](), 0
    tensor_mb = min(TENSOR_MB, shard_mb)
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        size, count = tensor_mb * MEGABYTE, shard_mb // tensor_mb
        entries = {f"s{shard}.t{n}": {"dtype": "U8", "shape": [size],
                                      "data_offsets": [n * size, (n + 1) * size]}
                   for n in range(count)}  # fmt: skip
        text = json.dumps(entries).encode()
        with (folder / name).open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _ in range(count):
                file.write(source.randbytes(size))
        total += (folder / name).stat().st_size
        places |= dict.fromkeys(entries, name)
    index = json.dumps({"metadata": {}, "weight_map": places})
    (folder / "model.safetensors.index.json").write_text(index)
    return total


def resident(what: str) -> int:
    """Bytes of this process in memory: now (VmRSS) or at most since it began (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith(what))
    return int(found.split()[1]) * 1024


def scan_by_turns(folder: Path, tiny: Path, asked: Any) -> None:
    """Answer each request for a scan: its seconds, and the most that memory has grown by."""
    scan_path(tiny)
    base = resident("VmRSS")
    while (hashed := asked.recv()) is not None:
        started = time.perf_counter()
        found = scan_path(folder, hashed=hashed)
        seconds = time.perf_counter() - started
        if found.decision != "accepted" or bool(found.files[1].sha256) != hashed:
            raise SystemExit(f"the scan says something else: {list(found.all_problems())[:3]}")
        asked.send((seconds, resident("VmHWM") - base))


def sha256sum(folder: Path, processes: int) -> float:
    """Seconds of sha256sum of the shards, so many at the same time."""
    names = sorted(str(path) for path in folder.glob("*.safetensors"))
    command = ["xargs", "-0", "-n", "1", "-P", str(processes), "sha256sum"]
    started = time.perf_counter()
    subprocess.run(command, input="\0".join(names), text=True, capture_output=True, check=True)
    return time.perf_counter() - started


def measure_scan(folder: Path, shard_mb: int, repeats: int) -> dict[str, float]:
    """Seconds of a scan with and without digests, and of sha256sum, by turns."""
    total = write_model(folder / "model", shard_mb)
    write_model(folder / "tiny", 1)
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=scan_by_turns, args=(folder / "model", folder / "tiny", there)
    )
    process.start()
    cores = os.cpu_count() or 1

    def scan(hashed: bool) -> tuple[float, int]:
        here.send(hashed)
        seconds, grown = here.recv()
        return float(seconds), int(grown)

    sha256sum(folder / "model", cores)
    found: dict[str, list[float]] = {}
    grown = 0
    for _ in range(repeats):
        for name, hashed in (("scan --no-hash", False), ("scan", True)):
            seconds, grown = scan(hashed)
            found.setdefault(name, []).append(seconds)
        found.setdefault("sha256sum", []).append(sha256sum(folder / "model", 1))
        found.setdefault(f"sha256sum, {cores} at once", []).append(
            sha256sum(folder / "model", cores)
        )
    here.send(None)
    process.join()
    medians = {name: statistics.median(each) for name, each in found.items()}
    print(f"{SHARDS} shards, {total / 1e6:,.0f} MB, {cores} cores, medians of {repeats}:")
    for name, median in medians.items():
        print(f"    {name:<22} {median:>8.3f} s {total / median / 1e6:>10,.0f} MB/s")
    print(f"    memory grew by at most {grown / 1e6:,.0f} MB")
    return medians


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How fast the model scan is.")
    parser.add_argument("--headers", type=int, nargs="*", default=[10, 1_000, 50_000])
    parser.add_argument("--mb", type=int, default=512, help="of each shard")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="model-scan-") as made:
        for tensors in options.headers:
            measure_headers(tensors, Path(made), options.repeats)
        if options.mb:
            measure_scan(Path(made), options.mb, options.repeats)


if __name__ == "__main__":
    main()
