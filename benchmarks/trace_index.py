"""A corpus index of real text: what building costs beside bare sorting, and what queries take.

    python benchmarks/trace_index.py                 # 10 and 100 MB
    python benchmarks/trace_index.py --mb 10 100 300 1000
    python benchmarks/trace_index.py --mb 10 --tokenizer tokenizer.json

The text is that of the `.py`, `.txt`, `.md` and `.rst` files of the installed packages, repeated
under other names where there is not enough of it (then matches are longer than usual, and said
so). Every size is built in a process of its own that has loaded its libraries, whose growth of
memory is measured, and beside it the same bytes are sorted by pydivsufsort alone. Queries are
2 kB pieces of files that are not in the index; each is asked three times by turns, the first of
them to warm the pages, beside a bisection in Python.

With a tokenizer its tokens are indexed. Beside the build stand tokenising alone and pydivsufsort on
the same ranks as they are; beside a query, tokenising it alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import shutil
import statistics
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pydivsufsort import divsufsort

from auditor.trace.corpus import CorpusOptions, corpus_files, read_documents
from auditor.trace.encoder import read_encoder
from auditor.trace.index import build_index
from auditor.trace.matches import TraceIndex
from auditor.trace.query import word_starts

ROOT = Path(__file__).parents[1]
SUFFIXES = frozenset({".py", ".txt", ".md", ".rst"})
QUERY_BYTES = 2_048
HELD_OUT = 60
BASELINE_POSITIONS = 64
SEED = 0


def real_files() -> list[Path]:
    """The text files of the installed packages, in a fixed random order."""
    home = Path(sysconfig.get_paths()["purelib"])
    found = sorted(path for path in home.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    random.Random(SEED).shuffle(found)
    return found


def gather(files: list[Path], folder: Path, size: int) -> int:
    """Copy files into a folder until they have a size; how often the list was gone through."""
    folder.mkdir(parents=True)
    done = rounds = 0
    while done < size:
        rounds += 1
        for number, path in enumerate(files):
            if done >= size:
                break
            target = folder / f"{rounds}-{number}.txt"
            shutil.copyfile(path, target)
            done += target.stat().st_size
    return rounds


def build(corpus: Path, folder: Path, shard_mb: int, tokenizer: Path | None, answer: Any) -> None:
    """Build in this process: its seconds, growth of memory, and seconds of reading alone."""
    tiny = folder.with_name("tiny")
    tiny.mkdir()
    (tiny / "a.txt").write_text("loads what building needs")
    build_index([tiny], folder.with_name("tiny-index"), tokenizer=tokenizer)
    base = resident("VmRSS")
    started = time.perf_counter()
    build_index([corpus], folder, shard_bytes=shard_mb << 20, tokenizer=tokenizer)
    seconds, grown = time.perf_counter() - started, resident("VmHWM") - base
    started = time.perf_counter()
    for file in corpus_files([corpus], CorpusOptions()):
        for _ in read_documents(file, CorpusOptions()):
            pass
    answer.put((seconds, grown, time.perf_counter() - started))


def resident(what: str) -> int:
    """Bytes of this process in memory: now (VmRSS) or at most since it began (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith(what))
    return int(found.split()[1]) * 1024


def sort_alone(folder: Path, answer: Any) -> None:
    """Read the shards' texts and sort them, nothing else."""
    seconds = 0.0
    for path in sorted(folder.glob("shards/*/text.u8")):
        text = np.fromfile(path, dtype=np.uint8)
        started = time.perf_counter()
        divsufsort(text)
        seconds += time.perf_counter() - started
    answer.put(seconds)


def sort_ranks_alone(folder: Path, tokenizer: Path, answer: Any) -> None:
    """Tokenise the shards' texts, nothing else; then sort their ranks, nothing else."""
    encoder = read_encoder(tokenizer)
    index = TraceIndex(folder)
    base, sorting, cutting = resident("VmRSS"), 0.0, 0.0
    for shard in index.shards:
        ranks = np.array(shard.sequence)
        started = time.perf_counter()
        divsufsort(ranks)
        sorting += time.perf_counter() - started
    grown = resident("VmHWM") - base
    for shard in index.shards:
        started = time.perf_counter()
        for number in range(shard.record.documents):
            for _ in encoder.pieces(shard.content(number)):
                pass
        cutting += time.perf_counter() - started
    answer.put((cutting, sorting, grown))


def in_child(function: Any, *arguments: Any) -> Any:
    """What a function puts into a queue, run in a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=function, args=(*arguments, queue))
    process.start()
    result = queue.get()
    process.join()
    return result


def bisection(index: TraceIndex, text: bytes, start: int) -> int:
    """The longest match from one place, by bisection over slices in Python."""
    best = 0
    query = text[start:]
    for shard in index.shards:
        low, high = 0, shard.record.symbols
        whole = memoryview(shard.text)
        while low < high:
            middle = (low + high) // 2
            at = int(shard.suffixes[middle])
            if bytes(whole[at : at + len(query)]) < query:
                low = middle + 1
            else:
                high = middle
        for rank in (low - 1, low):
            if 0 <= rank < shard.record.symbols:
                at = int(shard.suffixes[rank])
                piece = bytes(whole[at : at + len(query)])
                same = (
                    np.frombuffer(piece, np.uint8) != np.frombuffer(query, np.uint8)[: len(piece)]
                )
                best = max(best, int(same.argmax()) if same.any() else len(piece))
    return best


def ask(index: TraceIndex, texts: list[bytes]) -> dict[str, float]:
    """Milliseconds of a text: every byte, word starts only, and Python's bisection."""
    times: dict[str, list[float]] = {"every byte": [], "word starts": [], "bisection": []}
    longest = []
    random_places = random.Random(SEED)
    for text in texts:
        starts = word_starts(np.frombuffer(text, np.uint8))
        for turn in range(3):
            started = time.perf_counter()
            lengths = index.longest_matches(text)
            middle = time.perf_counter()
            index.longest_matches(text, starts)
            ended = time.perf_counter()
            if turn:
                times["every byte"].append(1e3 * (middle - started))
                times["word starts"].append(1e3 * (ended - middle))
        longest.append(float(lengths.mean()))
        places = random_places.sample(range(len(text)), BASELINE_POSITIONS)
        started = time.perf_counter()
        found = [bisection(index, text, place) for place in places]
        seconds = time.perf_counter() - started
        times["bisection"].append(1e3 * seconds * len(text) / BASELINE_POSITIONS)
        if found != lengths[places].tolist():
            raise SystemExit("the bisection in Python says something else")
    return {name: statistics.median(each) for name, each in times.items()} | {
        "mean match": statistics.mean(longest)
    }


def measure_tokens(
    corpus: Path, folder: Path, shard_mb: int, tokenizer: Path, texts: list[bytes]
) -> dict[str, float]:
    """One build by tokens, what its parts take alone, and queries."""
    seconds, grown, reading = in_child(build, corpus, folder, shard_mb, tokenizer)
    cutting, sorting, sorting_grown = in_child(sort_ranks_alone, folder, tokenizer)
    index, encoder = TraceIndex(folder), read_encoder(tokenizer)
    times: dict[str, list[float]] = {"asked": [], "cut": []}
    for text in texts:
        for turn in range(3):
            started = time.perf_counter()
            index.longest_matches(text)
            middle = time.perf_counter()
            encoder.encode(text)
            ended = time.perf_counter()
            if turn:
                times["asked"].append(1e3 * (middle - started))
                times["cut"].append(1e3 * (ended - middle))
    records = [shard.record for shard in index.shards]
    tokens, symbols = sum(each.tokens for each in records), sum(each.symbols for each in records)
    largest = max(each.symbols for each in records)
    return {
        "shards": len(records), "bytes a token": symbols / tokens, "build s": seconds,
        "reading alone s": reading, "tokenising alone s": cutting,
        "sorting ranks alone s": sorting,
        "peak bytes a byte of shard": grown / largest,
        "of sorting ranks alone": sorting_grown / largest,
        "longest matches ms": statistics.median(times["asked"]),
        "tokenising the query ms": statistics.median(times["cut"]),
    }  # fmt: skip


def main() -> None:
    """Build and ask for every size, print, and keep what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--shard-mb", type=int, default=256)
    parser.add_argument("--tokenizer", type=Path, help="index the tokens of this tokenizer.json")
    options = parser.parse_args()
    files = real_files()
    held_out = [path for path in files if path.stat().st_size > 2 * QUERY_BYTES][:HELD_OUT]
    files = [path for path in files if path not in set(held_out)]
    texts = [path.read_bytes()[QUERY_BYTES : 2 * QUERY_BYTES] for path in held_out]
    if options.tokenizer:
        for size in options.mb:
            with tempfile.TemporaryDirectory() as name:
                corpus, folder = Path(name) / "corpus", Path(name) / "index"
                gather(files, corpus, size * 1_000_000)
                found = {"MB": float(size)} | measure_tokens(
                    corpus, folder, options.shard_mb, options.tokenizer, texts
                )
            if size == options.mb[0]:
                print(f"| {' | '.join(found)} |\n{'|---' * len(found)}|")
            print(f"| {' | '.join(f'{each:.4g}' for each in found.values())} |", flush=True)
        return
    heads = ("MB", "times over", "shards", "build s", "reading alone s", "sort alone s", "ratio",
             "ratio without reading",
             "peak bytes a byte of shard", "every byte ms", "word starts ms", "Python ms",
             "mean match")  # fmt: skip
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    records = []
    for size in options.mb:
        with tempfile.TemporaryDirectory() as name:
            corpus, folder = Path(name) / "corpus", Path(name) / "index"
            rounds = gather(files, corpus, size * 1_000_000)
            seconds, grown, reading = in_child(build, corpus, folder, options.shard_mb, None)
            alone = in_child(sort_alone, folder)
            index = TraceIndex(folder)
            largest = max(shard.record.symbols for shard in index.shards)
            asked = ask(index, texts)
            records.append({
                "mb": size, "rounds": rounds, "shards": len(index.shards), "build_s": seconds,
                "read_s": reading, "sort_s": alone, "peak_per_byte": grown / largest, **asked,
            })  # fmt: skip
            print(f"| {size} | {rounds} | {len(index.shards)} | {seconds:.1f} | {reading:.1f} | "
                  f"{alone:.1f} | {seconds / alone:.2f} | {(seconds - reading) / alone:.2f} | "
                  f"{grown / largest:.2f} | {asked['every byte']:.2f} | "
                  f"{asked['word starts']:.2f} | {asked['bisection']:.0f} | "
                  f"{asked['mean match']:.1f} |", flush=True)  # fmt: skip
    out = ROOT / "benchmarks" / "results" / "trace_index.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(records, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
