"""Writing a certificate: a tree of splits whose leaves the checker can refute.

The tree is searched in the checker's own integers, so what is written is accepted; only
the choice of splits and multipliers is a search in floats. Networks with few varying
inputs are split along the input that feeds most instability, others by ReLU phases.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from auditor.errors import OutputNotWritable
from auditor.verify.certificate.checker import (
    AGAIN,
    Node,
    bounds_of,
    contract,
    header_of,
    refuted,
    root_node,
    row_bounds,
)
from auditor.verify.certificate.forms import Float64, Forms, Int64, NodeBounds
from auditor.verify.certificate.multipliers import WEIGHT_UNITS, Multipliers, MultiplierSearch
from auditor.verify.certificate.records import (
    BATCH,
    END,
    GROUP,
    HEADER,
    MAGIC,
    frame,
)
from auditor.verify.certificate.statement import (
    Region,
    property_digest,
    read_network,
    regions,
)
from auditor.verify.property import Property

BATCH_NODES = 64
STEPS = 6
PHASE_STEPS = 12
SHRUNK_ENOUGH = 0.5
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
        OutputNotWritable: The place cannot be written.
    """
    started = time.monotonic()
    maps, digest = read_network(model)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    nodes, stopped = 0, ""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            sink = _Sink(stream)
            sink.record(HEADER, header_of(digest, property_digest(property_file)))
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
    except OSError as error:
        raise OutputNotWritable(target, error.strerror or str(error)) from None
    finally:
        with contextlib.suppress(OSError):
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
        self.splits_inputs = int((region.ends > 1).sum()) <= MAX_VARYING_INPUTS
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
        proved = self._proved(bounds, is_open)
        pairs, found = self._refute(bounds, is_open, proved, blame, payload)
        left = np.flatnonzero(is_open.any(axis=1))
        self.done += sum(shares) - sum(shares[node] for node in left)
        width = bounds.box[1][left] - bounds.box[0][left]
        which = np.where(width >= 2, blame[left] + 1e-12 * width, -1.0).argmax(axis=1)
        if not self.splits_inputs:
            which = self._choose_phases(bounds, left, pairs, found, which)
        if not ((width >= 2).any(axis=1) | (which < 0)).all():
            return "a margin is too small for the integers of a certificate"
        middles = np.floor(0.5 * (bounds.box[0] + bounds.box[1]))[left, np.maximum(which, 0)]
        middles[which < 0] = 0
        before = np.array([node.box_upper - node.box_lower for node in taken])[left]
        shrunk = np.where(before > 0, width / np.maximum(before, 1), 1.0).prod(axis=1) < (
            SHRUNK_ENOUGH
        )
        if self.splits_inputs:
            which[shrunk], middles[shrunk] = AGAIN, 0
        payload += [_packed("i4", which), _packed("u4", middles)]
        self.sink.record(BATCH, b"".join(payload))
        for place, node in enumerate(left):
            self._push(bounds, int(node), is_open[node], int(which[place]), float(middles[place]),
                       shares[node])  # fmt: skip
        return ""

    def _choose_phases(
        self, bounds: NodeBounds, left: Int64, pairs: Int64, found: Multipliers, inputs: Int64
    ) -> Int64:
        """The neuron whose two phases both promise most, or the input where none is open."""
        which = inputs.copy()
        pair = np.searchsorted(pairs, left)
        if not len(pairs):
            return which
        pair = np.minimum(pair, len(pairs) - 1)
        scores = self.search.phase_scores(bounds.known, bounds.box, pairs[pair], found.pick(pair))
        best = scores.argmax(axis=1)
        split = scores.max(axis=1, initial=-np.inf) > -np.inf
        which[split] = -best[split] - 1
        return which

    def _push(
        self, bounds: NodeBounds, node: int, is_open: np.ndarray, which: int, middle: float,
        share: float,
    ) -> None:  # fmt: skip
        parts = ([part[node] for part in side] for side in (bounds.lower, bounds.upper))
        lower, upper = (np.concatenate([np.zeros(0), *part]) for part in parts)
        box = bounds.box[0][node], bounds.box[1][node]
        whole = Node(*box, lower, upper, is_open)
        if which == AGAIN:
            self.stack.append(whole)
            self.shares.append(share)
            return
        self.shares += [0.5 * share] * 2
        if which < 0:
            low, high = lower.copy(), upper.copy()
            low[-which - 1] = max(0.0, low[-which - 1])
            high[-which - 1] = min(0.0, high[-which - 1])
            self.stack += [whole._replace(upper=high), whole._replace(lower=low)]
            return
        low, high = box[0].copy(), box[1].copy()
        low[which] = high[which] = middle
        self.stack += [whole._replace(box_upper=high), whole._replace(box_lower=low)]

    def _tighten(self, bounds: NodeBounds, payload: list[bytes]) -> Float64:
        """Bound neurons of unknown phase that matter; the blame of each input, [nodes, inputs]."""
        width = bounds.box[1] - bounds.box[0]
        blame = np.zeros(width.shape)
        for k in range(len(self.region.widths)):
            unknown = (bounds.lower[k] < 0) & (bounds.upper[k] > 0)
            if not self.splits_inputs and k > 0:
                # Later layers keep the root's bounds: their lemmas would cost too much.
                unknown &= ~np.isfinite(bounds.lower[k])
            if k == len(self.region.widths) - 1:
                # Where no row weighs a neuron negatively its free lower slope is enough.
                harmful = (self.search.weights[-1] < 0).any(axis=0)
                unknown &= harmful | ~np.isfinite(bounds.lower[k])
            nodes, neurons = np.nonzero(unknown)
            both, sides = np.repeat(nodes, 2), np.repeat(2 * neurons, 2)
            sides[1::2] += 1
            payload += [_packed("u4", [len(both)]), _packed("u2", both), _packed("u4", sides)]
            sizes = bounds.tighten(both, sides, keep=True)
            self._blame(bounds, k, nodes, neurons, sizes, width, blame)
        return blame

    def _blame(
        self, bounds: NodeBounds, k: int, nodes: Int64, neurons: Int64, sizes: Float64,
        width: Float64, blame: Float64,
    ) -> None:  # fmt: skip
        spread = (sizes[0::2] + sizes[1::2]) * width[nodes]
        lower, upper = bounds.lower[k][nodes, neurons], bounds.upper[k][nodes, neurons]
        weight = np.maximum(0.0, np.minimum(-lower, upper)) / np.maximum(spread.sum(axis=1), 1e-300)
        np.add.at(blame, nodes, weight[:, None] * spread)

    def _proved(self, bounds: NodeBounds, is_open: np.ndarray) -> _Pairs:
        """Multipliers for every open (node, case) pair, and which of them refute it."""
        nodes, cases = np.nonzero(is_open)
        steps = STEPS if self.splits_inputs else PHASE_STEPS
        found = self.search.search(
            bounds.known, bounds.box, nodes, cases, steps, push=not self.splits_inputs
        )
        ends = self._weighted_rows(bounds, nodes, found)[0]
        good = refuted(self.region, np.rint(found.weights * WEIGHT_UNITS), ends)
        return _Pairs(nodes, cases, found, good)

    def _refute(
        self, bounds: NodeBounds, is_open: np.ndarray, proved: _Pairs, blame: Float64,
        payload: list[bytes],
    ) -> tuple[Int64, Multipliers]:  # fmt: skip
        """Refute what can be refuted, contract the rest, in place, and write how.

        Returns the nodes of the pairs that stay open and the best multipliers for them.
        """
        nodes, cases, found = proved.nodes, proved.cases, proved.found
        good = np.flatnonzero(proved.good)
        self._write_pairs(bounds, nodes[good], cases[good], found.pick(good), payload)
        is_open[nodes[good], cases[good]] = False
        rest = np.flatnonzero(is_open[nodes, cases] & np.isfinite(found.found))
        nodes, cases, found = nodes[rest], cases[rest], found.pick(rest)
        self._write_pairs(bounds, nodes, cases, found, payload)
        ends, forms = self._weighted_rows(bounds, nodes, found)
        if not self.splits_inputs:
            # Where phases are known, an input matters as far as the rows depend on it.
            blame[nodes] = np.abs(forms.coefficients) * (bounds.box[1] - bounds.box[0])[nodes]
        contract(bounds, is_open, nodes, cases, ends, forms)
        return nodes, found

    def _weighted_rows(
        self, bounds: NodeBounds, nodes: Int64, found: Multipliers
    ) -> tuple[Float64, Forms]:
        masks = [known.phase[nodes] == 0 for known in bounds.known]
        slopes = [np.rint(each * 255)[mask].astype(np.int64) for each, mask in
                  zip(found.slopes, masks, strict=True)]  # fmt: skip
        pushes = [(push.form, push.neuron, push.amount) for push in _pushes(bounds, nodes, found)]
        weights = np.rint(found.weights * WEIGHT_UNITS)
        return row_bounds(self.region, bounds, nodes, weights, slopes, pushes)

    def _write_pairs(
        self, bounds: NodeBounds, nodes: Int64, cases: Int64, found: Multipliers,
        payload: list[bytes],
    ) -> None:  # fmt: skip
        starts, weights = self.region.starts, np.rint(found.weights * WEIGHT_UNITS)
        payload += [_packed("u4", [len(nodes)]), _packed("u2", nodes), _packed("u4", cases)]
        payload += [_packed("u2", weights[pair, starts[case] : starts[case + 1]])
                    for pair, case in enumerate(cases)]  # fmt: skip
        payload += [_packed("u1", np.rint(each * 255)[known.phase[nodes] == 0])
                    for each, known in zip(found.slopes, bounds.known, strict=True)]  # fmt: skip
        for push in _pushes(bounds, nodes, found):
            payload += [_packed("u4", [len(push.form)]), _packed("u4", push.form),
                        _packed("u4", push.neuron), _packed("u4", push.mantissa),
                        _packed("i2", push.power)]  # fmt: skip


class _Pairs(NamedTuple):
    """Open (node, case) pairs, multipliers for each, and which pairs these refute."""

    nodes: Int64
    cases: Int64
    found: Multipliers
    good: np.ndarray


class _Push(NamedTuple):
    """Multipliers of known phases of one layer, as written: mantissa * 2**power."""

    form: Int64
    neuron: Int64
    mantissa: Int64
    power: Int64

    @property
    def amount(self) -> Float64:
        return np.asarray(np.ldexp(self.mantissa.astype(np.float64), self.power))


def _pushes(bounds: NodeBounds, nodes: Int64, found: Multipliers) -> list[_Push]:
    pushes = []
    for known, each in zip(bounds.known, found.pushes, strict=True):
        form, neuron = np.nonzero((each > 2.0**-200) & (known.phase[nodes] != 0))
        fraction, power = np.frexp(each[form, neuron] * WEIGHT_UNITS)
        mantissa = np.floor(fraction * 2.0**24).astype(np.int64)
        pushes.append(_Push(form, neuron, mantissa, np.minimum(power, 200).astype(np.int64) - 24))
    return pushes


def _packed(kind: str, values: object) -> bytes:
    """Integers as little-endian bytes."""
    return np.asarray(values).astype(f"<{kind}").tobytes()
