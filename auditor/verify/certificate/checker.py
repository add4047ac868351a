"""Checking a certificate of `holds`: `auditor verify --check CERTIFICATE MODEL PROPERTY`.

Model and property are read from their own files, never from the certificate, which only
says how to split, which multipliers to use, and which bounds these give. Every claimed
bound is computed again and must be at least as good. Open nodes wait on a stack; a batch
takes the last ones, tightens their bounds, refutes cases by weighted rows, shrinks boxes,
and splits what is left. When the stack is empty, no input of the region violates the property.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from auditor.errors import CertificateRejected, FileMissing
from auditor.verify.certificate.forms import (
    MAX_CELLS,
    Arithmetic,
    Forms,
    Multipliers,
    Relaxation,
    backward,
)
from auditor.verify.certificate.records import BATCH, GROUP, HEADER, Payload, read_records
from auditor.verify.certificate.statement import (
    Float64,
    Region,
    property_digest,
    read_tensors,
    regions,
    runs_in_float32,
)
from auditor.verify.property import load_property

AGAIN, EACH_CASE = -(1 << 31), 1 - (1 << 31)
MAX_NODES, MAX_WAITING, MAX_STACK_CELLS, SWEEPS = 1024, 1 << 16, 1 << 27, 2


@dataclass(frozen=True)
class CheckedCertificate:
    """What checking found.

    Attributes:
        accepted: Whether the certificate proves the property of the model.
        reason: Why it was rejected, or an empty string.
        records: Records read; the last one is where a rejection happened.
        nodes: Nodes of all trees.
        leaves: Nodes without children.
    """

    accepted: bool
    reason: str
    records: int
    nodes: int
    leaves: int


class Node(NamedTuple):
    """An open part of a region: box ends [inputs], bounds of all neurons, open cases."""

    box_lower: Float64
    box_upper: Float64
    lower: Float64
    upper: Float64
    open_cases: Any


def check_certificate(
    certificate: Path | str, model: Path | str, property_file: Path | str
) -> CheckedCertificate:
    """Whether a certificate proves a property file of a model file.

    Raises:
        AuditorError: Model or property cannot be read at all.
    """
    if not Path(certificate).is_file():
        raise FileMissing(certificate, "certificate")
    tensors, digest = read_tensors(model)
    prop = load_property(
        property_file, num_inputs=len(tensors[0].bias), num_outputs=len(tensors[-1].bias)
    )
    headers = {
        header_of(digest, property_digest(property_file), semantics): semantics == "float32"
        for semantics in (("real", "float32") if runs_in_float32(tensors) else ("real",))
    }
    walk = Walk(regions(tensors, prop), headers)
    try:
        # What overflows becomes infinite or NaN, and neither proves anything.
        with Path(certificate).open("rb") as stream, np.errstate(all="ignore"):
            walk.run(read_records(stream))
    except CertificateRejected as rejected:
        return CheckedCertificate(False, rejected.problem, walk.records, walk.nodes, walk.leaves)
    return CheckedCertificate(True, "", walk.records, walk.nodes, walk.leaves)


def header_of(model_digest: str, property_digest: str, semantics: str) -> bytes:
    """The header's payload: what is proved, and in which sense."""
    fields = {
        "model": model_digest, "property": property_digest, "semantics": semantics, "version": 2,
    }  # fmt: skip
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


class Walk:
    """The state of a check: regions still to come, and the stack of the current one."""

    def __init__(self, wanted: list[Region], headers: dict[bytes, bool]) -> None:
        self.wanted, self.headers = wanted, headers
        self.records = self.nodes = self.leaves = 0
        self.stack: list[Node] = []
        self.slopes: dict[int, list[Any]] = {}

    def run(self, records: Iterator[tuple[bytes, bytes]]) -> None:
        """Read everything; returns only if the certificate proves all regions.

        Raises:
            CertificateRejected: It does not.
        """
        group, noise = -1, False
        for kind, payload in records:
            _demand((kind == HEADER) == (self.records == 0), "a header belongs at the start")
            if kind == HEADER:
                _demand(payload in self.headers, "written for another model or property")
                noise = self.headers[payload]
            elif kind == GROUP:
                group += 1
                right = not self.stack and group < len(self.wanted)
                _demand(right and payload == struct.pack("<I", group), "regions out of order")
                self.arithmetic = Arithmetic(self.wanted[group], noise)
                self.relus = [t for t in self.wanted[group].tensors if t.relu >= 0]
                self.ends = np.cumsum([0, *(len(tensor.bias) for tensor in self.relus)])
                self.stack, self.slopes = [root_of(self.arithmetic)], {}
            elif kind == BATCH and group >= 0:
                self._batch(Payload(payload))
            else:
                raise CertificateRejected("an unknown record")
            self.records += 1
        complete = self.records and not self.stack and group + 1 == len(self.wanted)
        _demand(complete, "a part is not covered")

    def _batch(self, data: Payload) -> None:
        count = data.number()
        _demand(0 < count <= min(MAX_NODES, len(self.stack)), "more nodes than wait")
        taken = self.stack[-count:]
        del self.stack[-count:]
        self.nodes += count
        lower, upper = (np.array([node[k] for node in taken]) for k in (2, 3))
        box = np.array([n.box_lower for n in taken]), np.array([n.box_upper for n in taken])
        is_open = np.array([node.open_cases for node in taken])
        known: list[Relaxation] = []
        for layer, (first, last) in enumerate(itertools.pairwise(self.ends)):
            self._tighten(data, layer, known, (lower, upper), box)
            known.append(Relaxation.of(lower[:, first:last], upper[:, first:last]))
        is_open[(lower > upper).any(axis=1)] = False
        self._refute(data, known, box, is_open)
        self._shrink(data, known, box, is_open)
        for layer in range(len(self.relus)):
            self._tighten(data, layer, known[:layer], (lower, upper), box)
        self._split(data, box, (lower, upper), is_open)
        data.end()

    def _tighten(
        self, data: Payload, layer: int, known: list[Relaxation],
        bounds: tuple[Float64, Float64], box: tuple[Float64, Float64],
    ) -> None:  # fmt: skip
        """Lemmas: claimed bounds of neurons of a layer, on the sides 2j (z_j) and 2j + 1 (-z_j)."""
        width, first = len(self.relus[layer].bias), self.ends[layer]
        rows, size = data.number(), len(box[0])
        _demand(rows <= 2 * width * size, "too many lemmas")
        nodes, sides = data.below("u2", rows, size), data.below("u4", rows, 2 * width)
        claims = data.floats("f4", rows)
        before = self.slopes.get(layer)
        again = None if before is None else [each[sides] / 255.0 for each in before]
        chosen = self._multipliers(data, known, nodes, again)
        if chosen is not None and before is None:
            self._remember(layer, sides, chosen)
        signs, neurons = 1.0 - 2.0 * (sides % 2), sides // 2
        source = self.relus[layer].sources[0]
        for part in _chunks(rows, max(width, len(box[0][0]))):
            start = np.zeros((len(nodes[part]), width))
            start[np.arange(len(start)), neurons[part]] = signs[part]
            found = backward(self.arithmetic, source, start, nodes[part], known, box,
                             _part(chosen, part))  # fmt: skip
            below = np.where(signs[part] > 0, bounds[0][nodes[part], first + neurons[part]],
                             -bounds[1][nodes[part], first + neurons[part]])  # fmt: skip
            _demand((np.fmax(found.lower, below) >= claims[part]).all(), "a claim does not follow")
        for end, mine in zip(bounds, (signs > 0, signs < 0), strict=True):
            end[nodes[mine], first + neurons[mine]] = (signs * claims)[mine]

    def _remember(self, layer: int, sides: Any, chosen: list[Multipliers]) -> None:
        """Keep the slopes of a region's first lemmas of a layer, for lemmas that repeat them."""
        places = 2 * len(self.relus[layer].bias)
        if places * sum(each.slopes.shape[1] for each in chosen) <= MAX_STACK_CELLS:
            self.slopes[layer] = [np.zeros((places, e.slopes.shape[1]), np.uint8) for e in chosen]
            for kept, each in zip(self.slopes[layer], chosen, strict=True):
                kept[sides] = np.rint(each.slopes * 255.0)

    def _multipliers(
        self, data: Payload, known: list[Relaxation], nodes: Any, again: list[Any] | None = None
    ) -> list[Multipliers] | None:
        """Slopes and phase multipliers of rows, or None for the default slopes."""
        kind = data.number("u1")
        if not kind:
            return None
        if kind == 2:
            _demand(again is not None, "no slopes to repeat")
            none = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
            return [Multipliers(slopes, *none) for slopes in again or []]
        _demand(kind == 1, "an unknown kind of multipliers")
        chosen = []
        for relaxation in known:
            # Of one byte each: there may be as many rows as a record has room for.
            unknown = (relaxation.sign == 0)[nodes]
            slopes = np.zeros(unknown.shape)
            slopes[unknown] = data.array("u1", int(unknown.sum())) / 255.0
            number = data.number()
            _demand(number <= unknown.size, "too many multipliers")
            row, neuron = (data.below("u4", number, end) for end in unknown.shape)
            # Many of one neuron would be rounded more often than the error terms say.
            once = len(np.unique(row * unknown.shape[1] + neuron)) == number
            _demand(once, "a multiplier given twice")
            value = data.floats("f4", number)
            _demand((value >= 0).all(), "a negative multiplier")
            chosen.append(Multipliers(slopes, row, neuron, value))
        return chosen

    def _rows(
        self, data: Payload, known: list[Relaxation], nodes: Any, cases: Any,
        box: tuple[Float64, Float64],
    ) -> Forms:  # fmt: skip
        """Forms of weighted rows of cases, one for each of the nodes and cases."""
        if not len(nodes):
            empty = np.zeros((0, len(box[0][0]))), np.zeros(0), np.zeros(0)
            _demand(data.number("u1") == 0, "multipliers of nothing")
            return Forms(*empty)
        starts = np.array(self.arithmetic.region.starts)
        sizes = starts[cases + 1] - starts[cases]
        row = np.repeat(np.arange(len(cases)), sizes)
        column = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        values = data.floats("f8", len(row))
        _demand((values >= 0).all(), "a negative weight")
        weights = np.zeros((len(nodes), starts[-1]))
        weights[row, starts[cases[row]] + column] = values
        chosen = self._multipliers(data, known, nodes)
        target = len(self.arithmetic.tensors) - 1
        parts = [
            backward(self.arithmetic, target, weights[part], nodes[part], known, box,
                     _part(chosen, part))
            for part in _chunks(len(nodes), max(len(t.bias) for t in self.arithmetic.tensors))
        ]  # fmt: skip
        return Forms(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def _refute(
        self, data: Payload, known: list[Relaxation], box: tuple[Float64, Float64], is_open: Any
    ) -> None:
        """Close (node, case) pairs whose weighted rows have a positive lower bound."""
        count = data.number()
        _demand(count <= is_open.size, "too many pairs")
        nodes, cases = (data.below(k, count, n) for k, n in zip(("u2", "u4"), is_open.shape,
                                                                strict=True))  # fmt: skip
        forms = self._rows(data, known, nodes, cases, box)
        _demand((forms.lower > 0).all(), "a leaf's multipliers do not refute it")
        is_open[nodes, cases] = False

    def _shrink(
        self, data: Payload, known: list[Relaxation], box: tuple[Float64, Float64], is_open: Any
    ) -> None:
        """Shrink boxes to claimed ends, beyond which every open case is refuted.

        Each open case starts with the node's box; its forms, which must be <= 0 at a
        violation, are applied in turn, twice. The hull of what they leave must lie within.
        """
        count, pairs = data.number(), np.argwhere(is_open)
        _demand(count <= MAX_NODES * 64, "too many forms")
        if not count:
            return
        pair, order = data.below("u4", count, len(pairs)), data.below("u1", count, 255)
        nodes, cases = pairs[pair].T
        forms = self._rows(data, known, nodes, cases, box)
        low, high = box[0][pairs[:, 0]], box[1][pairs[:, 0]]
        for place in [*np.unique(order)] * SWEEPS:
            at = order == place
            low[pair[at]], high[pair[at]] = shrunk(
                low[pair[at]], high[pair[at]], forms.coefficients[at], forms.constant[at]
            )
        gone = np.asarray((low > high).any(axis=1))
        closed = data.below("u4", data.number(), len(pairs))
        _demand(gone[closed].all(), "a case is not refuted by contraction")
        is_open[tuple(pairs[closed].T)] = False
        low[gone], high[gone] = np.inf, -np.inf
        hull = np.full_like(box[0], np.inf), np.full_like(box[1], -np.inf)
        np.minimum.at(hull[0], pairs[:, 0], low)
        np.maximum.at(hull[1], pairs[:, 0], high)
        number = data.number()
        at, side = (data.below(kind, number, end) for kind, end in
                    (("u2", len(is_open)), ("u4", 2 * box[0].shape[1])))  # fmt: skip
        value = data.floats("f8", number)
        for which in (0, 1):
            mine = side % 2 == which
            place = at[mine], side[mine] // 2
            within = (hull[which][place] - value[mine]) * (1 - 2 * which) >= 0
            _demand(within.all(), "an end that does not follow")
            box[which][place] = value[mine]

    def _split(
        self, data: Payload, box: tuple[Float64, Float64], bounds: tuple[Float64, Float64],
        is_open: Any,
    ) -> None:  # fmt: skip
        left = np.flatnonzero(is_open.any(axis=1))
        self.leaves += len(is_open) - len(left)
        which, middles = data.array("i4", len(left)), data.floats("f8", len(left))
        for node, choice, middle in zip(left, which.tolist(), middles.tolist(), strict=True):
            ends = box[0][node], box[1][node]
            first = Node(*ends, bounds[0][node], bounds[1][node], is_open[node])
            if choice == AGAIN:
                self.stack.append(first)
            elif choice == EACH_CASE:
                for case in np.flatnonzero(is_open[node]):
                    self.stack.append(
                        first._replace(open_cases=np.arange(len(is_open[node])) == case)
                    )
            elif choice >= 0:
                _demand(choice < len(ends[0]), "a split of nothing")
                _demand(ends[0][choice] < middle < ends[1][choice], "a split outside its box")
                low, high = ends[0].copy(), ends[1].copy()
                low[choice] = high[choice] = middle
                self.stack += [first._replace(box_upper=high), first._replace(box_lower=low)]
            else:
                _demand(-1 - choice < self.ends[-1], "a split of nothing")
                low, high = bounds[0][node].copy(), bounds[1][node].copy()
                low[-1 - choice] = max(0.0, low[-1 - choice])
                high[-1 - choice] = min(0.0, high[-1 - choice])
                self.stack += [first._replace(upper=high), first._replace(lower=low)]
        cells = len(self.stack) * (self.ends[-1] + len(box[0][0]))
        _demand(len(self.stack) <= MAX_WAITING and cells <= MAX_STACK_CELLS, "too many nodes wait")


def root_of(arithmetic: Arithmetic) -> Node:
    """The whole region, with the neuron bounds that intervals give."""
    region = arithmetic.region
    before = [arithmetic.ranges[t.sources[0]] for t in region.tensors if t.relu >= 0]
    lower, upper = (np.concatenate([np.zeros(0), *ends]) for ends in zip(*before, strict=True)) if (
        before) else (np.zeros(0), np.zeros(0))  # fmt: skip
    return Node(
        region.lower, region.upper, lower, upper, np.ones(len(region.starts) - 1, dtype=bool)
    )


def shrunk(
    low: Float64, high: Float64, form: Float64, constant: Float64
) -> tuple[Float64, Float64]:
    """Boxes [boxes, inputs] without parts where `form . x + constant > 0`; low > high if empty.

    The constant already carries the error of every sum over the box; divisions round outward.
    """
    parts = np.where(form > 0, form * low, form * high)
    rest = (constant + parts.sum(axis=-1))[:, None] - parts
    limit = -rest / form
    slack = 8.0 * 2.0**-53 * np.abs(limit) + 1e-300
    return (
        np.where(form < 0, np.fmax(low, limit - slack), low),
        np.where(form > 0, np.fmin(high, limit + slack), high),
    )


def _demand(condition: Any, problem: str) -> None:
    if not condition:
        raise CertificateRejected(problem)


def _part(chosen: list[Multipliers] | None, rows: Any) -> list[Multipliers] | None:
    """The multipliers of some rows."""
    if chosen is None:
        return None
    parts = []
    for each in chosen:
        place = np.full(len(each.slopes), -1)
        place[rows] = np.arange(len(place[rows]))
        used = place[each.row] >= 0
        parts.append(Multipliers(each.slopes[rows], place[each.row[used]], each.neuron[used],
                                 each.value[used]))  # fmt: skip
    return parts


def _chunks(rows: int, width: int) -> Iterator[slice]:
    step = max(1, MAX_CELLS // max(1, width))
    return (slice(start, min(rows, start + step)) for start in range(0, rows, step))
