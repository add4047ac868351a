"""A build that is killed leaves the index as it was, and the same command ends it."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from auditor.trace.index import UNFINISHED, build_index, verify_index
from auditor.trace.manifest import MANIFEST, read_manifest
from auditor.trace.matches import TraceIndex
from tests.functional.command import auditor, clean_environment, command_line
from tests.unit.trace.tokenizers_for_tests import word_tokenizer

SHARDS = 12


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Files of 200 kB of random words, which fill some shards of 1 MiB."""
    made, chance = tmp_path / "corpus", random.Random(0)
    made.mkdir()
    words = [f"word{number}" for number in range(2_000)]
    for number in range(5 * SHARDS):
        text = " ".join(chance.choices(words, k=24_000))
        (made / f"{number:03d}.txt").write_text(f"file{number} {text}")
    return made


def killed(folder: Path, *arguments: str, shards: int) -> None:
    """Run `auditor trace index`, and kill it when so many shards are finished."""
    command = [*command_line(), "trace", "index", *arguments, "--shard-mb", "1"]
    process = subprocess.Popen(
        command, cwd=folder, env=clean_environment(), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        shards -= line.startswith("shard ")
        if shards <= 0:
            break
    time.sleep(0.02)  # into the next shard
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert process.returncode == -signal.SIGKILL


def test_a_killed_build_goes_on_behind_its_last_shard(tmp_path: Path, corpus: Path) -> None:
    killed(tmp_path, "build", "corpus", "--out", "idx", shards=3)
    assert not (tmp_path / "idx" / MANIFEST).exists()
    assert (tmp_path / "idx" / UNFINISHED).exists()
    again = auditor(
        "trace", "index", "build", "corpus", "--out", "idx", "--shard-mb", "1", cwd=tmp_path
    )
    assert again.code == 0, again.err
    assert "going on behind" in again.err
    verify_index(tmp_path / "idx")
    whole = build_index([corpus], tmp_path / "whole", shard_bytes=2**20).manifest
    assert read_manifest(tmp_path / "idx").digest == whole.digest


def test_a_killed_build_of_tokens_by_two_workers_goes_on(tmp_path: Path, corpus: Path) -> None:
    """With another number of them; what comes out is what one build without a stop writes."""
    tokenizer = word_tokenizer(tmp_path / "tokenizer.json", 1_000)
    options = ("--tokenizer", "tokenizer.json", "--workers")
    killed(tmp_path, "build", "corpus", "--out", "idx", *options, "2", shards=2)
    assert not (tmp_path / "idx" / MANIFEST).exists()
    again = auditor(
        "trace", "index", "build", "corpus", "--out", "idx", "--shard-mb", "1", *options, "1",
        cwd=tmp_path,
    )  # fmt: skip
    assert again.code == 0, again.err
    assert "going on behind" in again.err
    verify_index(tmp_path / "idx")
    whole = build_index([corpus], tmp_path / "whole", shard_bytes=2**20, tokenizer=tokenizer)
    assert read_manifest(tmp_path / "idx").digest == whole.manifest.digest


def test_a_killed_addition_leaves_what_was_there(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "first.txt").write_text("what was there before")
    build_index([tmp_path / "first.txt"], tmp_path / "idx")
    before = (tmp_path / "idx" / MANIFEST).read_bytes()
    killed(tmp_path, "add", "idx", "corpus", shards=2)
    assert (tmp_path / "idx" / MANIFEST).read_bytes() == before
    assert TraceIndex(tmp_path / "idx").count(b"was there") == 1
    verify_index(tmp_path / "idx")
    again = auditor("trace", "index", "add", "idx", "corpus", "--shard-mb", "1", cwd=tmp_path)
    assert again.code == 0, again.err
    index = TraceIndex(tmp_path / "idx")
    verify_index(tmp_path / "idx")
    assert all(index.count(f"file{number} ".encode()) == 1 for number in range(5 * SHARDS))
