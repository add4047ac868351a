"""Writing a certificate: a tree of splits whose leaves the checker can refute.

The tree is searched in the checker's own integers, so what is written is accepted; only
the choice of splits and multipliers is a search in floats. Networks with few varying
inputs are split along the input that feeds most instability, others by ReLU phases.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from auditor.models.digest import file_digest
from auditor.verify.certificate.checker import (
    Node,
    bounds_of,
    header_of,
    root_node,
    row_bounds,
)
from auditor.verify.certificate.forms import Float64, Forms, Int64, NodeBounds
from auditor.verify.certificate.multipliers import WEIGHT_UNITS, MultiplierSearch
from auditor.verify.certificate.records import (
    BATCH,
    END,
    GROUP,
    HEADER,
    MAGIC,
    frame,
)
from auditor.verify.certificate.statement import Region, read_network, regions
from auditor.verify.property import Property

BATCH_NODES = 64
STEPS = 6
MAX_VARYING_INPUTS = 20


@dataclass(frozen=True)
class WrittenCertificate:
    """What was written, or why nothing was.

    Attributes:
        path: The file; it exists only when `stopped` is empty.
        stopped: Why there is no certificate, or an empty string.
        bytes: Size of the file.
        nodes: Nodes of all trees.
        seconds: Wall-clock seconds it took.
    """

    path: Path
    stopped: str
    bytes: int
    nodes: int
    seconds: float


def write_certificate(
    model: Path,
    property_file: Path,
    prop: Property,
    target: Path,
    *,
    time_limit_s: float,
    progress: Callable[[float, str], None] | None = None,
) -> WrittenCertificate:
    """Prove a property once more, in a form that can be checked, and write the proof.

    Args:
        model: The ONNX file.
        property_file: The property's file; its digest goes into the certificate.
        prop: The property read from it.
        target: Where to write; never left half-written.
        time_limit_s: Wall-clock seconds; reaching it gives no certificate.
        progress: Called with (proved share, text).

    Raises:
        Unsupported: The checker could not read such a model.
    """
    started = time.monotonic()
    maps, digest = read_network(model)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    target.parent.mkdir(parents=True, exist_ok=True)
    nodes, stopped = 0, ""
    try:
        with temporary.open("wb") as stream:
            sink = _Sink(stream)
            sink.record(HEADER, header_of(digest, file_digest(property_file)))
            for number, region in enumerate(regions(maps, prop)):
                sink.record(GROUP, _packed("u4", [number]))
                tree = _Tree(region, sink, started + time_limit_s, progress)
                stopped = tree.grow()
                nodes += tree.nodes
                if stopped:
                    break
            sink.end()
            stream.flush()
            os.fsync(stream.fileno())
        if not stopped:
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    size = 0 if stopped else target.stat().st_size
    return WrittenCertificate(target, stopped, size, nodes, time.monotonic() - started)


class _Sink:
    """Writes records and keeps their digest."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.digest = stream, hashlib.sha256()
        self._write(MAGIC)

    def record(self, kind: bytes, payload: bytes) -> None:
        self._write(frame(kind, payload))

    def end(self) -> None:
        self.stream.write(frame(END, self.digest.digest()))

    def _write(self, content: bytes) -> None:
        self.digest.update(content)
        self.stream.write(content)


class _Tree:
    """The tree of one region."""

    def __init__(
        self,
        region: Region,
        sink: _Sink,
        deadline: float,
        progress: Callable[[float, str], None] | None,
    ) -> None:
        self.region, self.sink, self.deadline = region, sink, deadline
        self.progress = progress or (lambda share, text: None)
        self.search = MultiplierSearch(region)
        self.stack: list[Node] = [root_node(region)]
        self.shares = [1.0]
        self.done = 0.0
        self.nodes = 0

    def grow(self) -> str:
        """Work until nothing waits; an empty text then, else why it stopped."""
        while self.stack:
            if time.monotonic() >= self.deadline:
                return "the time limit is reached"
            stopped = self._batch()
            if stopped:
                return stopped
            self.progress(self.done, f"{self.nodes} nodes certified")
        return ""

    def _batch(self) -> str:
        count = min(BATCH_NODES, len(self.stack))
        taken, shares = self.stack[-count:], self.shares[-count:]
        del self.stack[-count:], self.shares[-count:]
        self.nodes += count
        payload = [_packed("u4", [count])]
        bounds = bounds_of(self.region, taken)
        blame = self._tighten(bounds, payload)
        is_open = np.array([node.open_cases for node in taken])
        is_open[bounds.empty] = False
        self._refute(bounds, is_open, payload)
        left = np.flatnonzero(is_open.any(axis=1))
        self.done += sum(shares) - sum(shares[node] for node in left)
        lower, upper = bounds.box
        halvable = upper[left] - lower[left] >= 2
        if not halvable.any(axis=1).all():
            return "a margin is too small for the integers of a certificate"
        scores = np.where(halvable, blame[left] + 1e-12 * (upper[left] - lower[left]), -1.0)
        which = scores.argmax(axis=1)
        middles = np.floor(0.5 * (lower[left, which] + upper[left, which]))
        payload += [_packed("i4", which), _packed("u4", middles)]
        self.sink.record(BATCH, b"".join(payload))
        for place, node in enumerate(left):
            self._push(taken[node], bounds, int(node), is_open[node],
                       int(which[place]), float(middles[place]), shares[node])  # fmt: skip
        return ""

    def _push(
        self, old: Node, bounds: NodeBounds, node: int, is_open: np.ndarray,
        which: int, middle: float, share: float,
    ) -> None:  # fmt: skip
        parts = ([part[node] for part in side] for side in (bounds.lower, bounds.upper))
        lower, upper = (np.concatenate([np.zeros(0), *part]) for part in parts)
        low, high = old.box_lower.copy(), old.box_upper.copy()
        low[which] = high[which] = middle
        self.stack += [
            Node(old.box_lower, high, lower, upper, is_open),
            Node(low, old.box_upper, lower, upper, is_open),
        ]
        self.shares += [0.5 * share] * 2

    def _tighten(self, bounds: NodeBounds, payload: list[bytes]) -> Float64:
        """Bound every neuron of unknown phase; the blame of each input, [nodes, inputs]."""
        width = bounds.box[1] - bounds.box[0]
        blame = np.zeros(width.shape)
        for k in range(len(self.region.widths)):
            unknown = (bounds.lower[k] < 0) & (bounds.upper[k] > 0)
            nodes, neurons = np.nonzero(unknown)
            both, sides = np.repeat(nodes, 2), np.repeat(2 * neurons, 2)
            sides[1::2] += 1
            payload += [_packed("u4", [len(both)]), _packed("u2", both), _packed("u4", sides)]
            forms = bounds.tighten(both, sides)
            self._blame(bounds, k, nodes, neurons, forms, width, blame)
        return blame

    def _blame(
        self, bounds: NodeBounds, k: int, nodes: Int64, neurons: Int64, forms: Forms,
        width: Float64, blame: Float64,
    ) -> None:  # fmt: skip
        size = np.abs(forms.coefficients) * np.ldexp(1.0, forms.exponents)[:, None]
        spread = (size[0::2] + size[1::2]) * width[nodes]
        lower, upper = bounds.lower[k][nodes, neurons], bounds.upper[k][nodes, neurons]
        weight = np.maximum(0.0, np.minimum(-lower, upper)) / np.maximum(spread.sum(axis=1), 1e-300)
        np.add.at(blame, nodes, weight[:, None] * spread)

    def _refute(self, bounds: NodeBounds, is_open: np.ndarray, payload: list[bytes]) -> None:
        """Refute what can be refuted, in place, and write how."""
        nodes, cases = np.nonzero(is_open)
        found = self.search.search(bounds.known, bounds.box, nodes, cases, STEPS)
        likely = np.flatnonzero(found.found > 0)
        nodes, cases, found = nodes[likely], cases[likely], found.pick(likely)
        weights = np.rint(found.weights * WEIGHT_UNITS)
        masks = [known.phase[nodes] == 0 for known in bounds.known]
        slopes = [np.rint(slope * 255).astype(np.int64) for slope in found.slopes]
        ends = row_bounds(
            self.region, bounds, nodes, weights,
            [slope[mask] for slope, mask in zip(slopes, masks, strict=True)],
            [_no_push()] * len(masks),
        )  # fmt: skip
        good = np.flatnonzero(ends > 0)
        nodes, cases = nodes[good], cases[good]
        is_open[nodes, cases] = False
        starts = np.array(self.region.starts)
        own = [weights[pair, starts[case] : starts[case + 1]] for pair, case in
               zip(good, cases, strict=True)]  # fmt: skip
        payload += [_packed("u4", [len(good)]), _packed("u2", nodes), _packed("u4", cases)]
        payload += [_packed("u2", part) for part in own]
        payload += [
            _packed("u1", slope[good][mask[good]])
            for slope, mask in zip(slopes, masks, strict=True)
        ]
        payload += [_packed("u4", [0])] * len(masks)


def _no_push() -> tuple[Int64, Int64, Float64]:
    none = np.zeros(0, dtype=np.int64)
    return none, none, np.zeros(0)


def _packed(kind: str, values: object) -> bytes:
    """Integers as little-endian bytes."""
    return np.asarray(values).astype(f"<{kind}").tobytes()
