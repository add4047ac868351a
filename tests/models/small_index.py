"""Small corpus indexes of given documents, and calibrations made by hand for them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from auditor.findings import Interval
from auditor.trace.calibration import Calibration, operating_point
from auditor.trace.index import SHARD_BYTES, add_to_index, build_index
from auditor.trace.matches import TraceIndex
from auditor.trace.traced_text import Tracer

Documents = Iterable[tuple[str, str, str]]


def write_documents(path: Path, documents: Documents) -> Path:
    """Name, label and text of each document as JSON lines."""
    path.write_text("".join(
        json.dumps({"id": name, "label": label, "text": text}) + "\n"
        for name, label, text in documents
    ))  # fmt: skip
    return path


def index_of(folder: Path, documents: Documents, shard_bytes: int = SHARD_BYTES) -> TraceIndex:
    """A new index of these documents."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = write_documents(folder / "corpus.jsonl", documents)
    build_index([lines], folder / "index", shard_bytes=shard_bytes)
    return TraceIndex(folder / "index")


def added_to(index: TraceIndex, documents: Documents) -> TraceIndex:
    """The index with more documents."""
    lines = write_documents(index.folder.parent / "more.jsonl", documents)
    add_to_index([lines], index.folder)
    return TraceIndex(index.folder)


def calibration_for(tracer: Tracer, score: str, threshold: float) -> Calibration:
    """A calibration that fits the tracer, with a threshold chosen by hand."""
    conflict = tracer.conflict
    options = tracer.options
    return Calibration(
        score=score, threshold=threshold, rule="false_alarms", bound=0.05,
        index=tracer.index.manifest.digest,
        policy=conflict.policy.digest if conflict else "",
        stance=conflict.stance.name if conflict else "",
        least_tokens=options.least_tokens, chance=options.chance, frequent=options.frequent,
        contexts=options.contexts, data="sha256:" + "0" * 64, groups=2, seed=0,
        point=operating_point(np.array([0.0, 1.0]), np.array([False, True]), 0.5),
        areas=(), beats_length=False,
    )  # fmt: skip


def interval(lower: float, upper: float) -> Interval:
    """An interval for records made by hand."""
    return Interval(lower=lower, upper=upper, method="by hand")
