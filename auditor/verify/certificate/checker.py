"""Checking a certificate of `holds`: `auditor verify --check CERTIFICATE MODEL PROPERTY`.

Model and property are read from their own files, never from the certificate, which only
says how to split and which multipliers to use. Open nodes wait on a stack; a batch record
takes the last ones, tightens their bounds, refutes cases by weighted rows, and splits
what is left. When the stack is empty, no input of the region violates the property.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from auditor.errors import CertificateRejected, FileMissing
from auditor.verify.certificate.forms import (
    BOX_BITS,
    Float64,
    Forms,
    Int64,
    NodeBounds,
    Relaxation,
    backward,
    through_affine,
)
from auditor.verify.certificate.records import BATCH, GROUP, HEADER, Payload, read_records
from auditor.verify.certificate.statement import (
    Region,
    property_digest,
    read_network,
    regions,
)
from auditor.verify.property import load_property

AGAIN = -(1 << 31)
MAX_NODES, MAX_WAITING, MAX_CELLS = 1024, 1 << 16, 1 << 27


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
    open_cases: np.ndarray


def check_certificate(
    certificate: Path | str, model: Path | str, property_file: Path | str
) -> CheckedCertificate:
    """Whether a certificate proves a property file of a model file.

    Raises:
        AuditorError: Model or property cannot be read at all.
    """
    if not Path(certificate).is_file():
        raise FileMissing(certificate, "certificate")
    maps, digest = read_network(model)
    sizes = (
        (maps[0].weight.shape[1] if maps[0].weight is not None else len(maps[0].bias)),
        len(maps[-1].bias),
    )
    prop = load_property(property_file, num_inputs=sizes[0], num_outputs=sizes[1])
    header = header_of(digest, property_digest(property_file))
    walk = Walk(regions(maps, prop), header)
    try:
        # What overflows becomes infinite or NaN, and neither refutes anything.
        with Path(certificate).open("rb") as stream, np.errstate(all="ignore"):
            walk.run(read_records(stream))
    except CertificateRejected as rejected:
        return CheckedCertificate(False, rejected.problem, walk.records, walk.nodes, walk.leaves)
    return CheckedCertificate(True, "", walk.records, walk.nodes, walk.leaves)


def header_of(model_digest: str, property_digest: str) -> bytes:
    """The header's payload: what is proved, and in which sense."""
    fields = {
        "model": model_digest, "property": property_digest, "semantics": "real", "version": 1,
    }  # fmt: skip
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


class Walk:
    """The state of a check: regions still to come, and the stack of the current one."""

    def __init__(self, wanted: list[Region], header: bytes) -> None:
        self.wanted, self.header = wanted, header
        self.records = self.nodes = self.leaves = 0
        self.stack: list[Node] = []

    def run(self, records: Iterator[tuple[bytes, bytes]]) -> None:
        """Read everything; returns only if the certificate proves all regions.

        Raises:
            CertificateRejected: It does not.
        """
        group = -1
        for kind, payload in records:
            if (kind == HEADER) != (self.records == 0):
                raise CertificateRejected("a header belongs at the start, and only there")
            if kind == HEADER:
                if payload != self.header:
                    raise CertificateRejected("written for another model, property or semantics")
            elif kind == GROUP:
                group += 1
                if self.stack or group >= len(self.wanted) or Payload(payload).number() != group:
                    raise CertificateRejected("regions are missing, open or too many")
                self.region = self.wanted[group]
                self.stack = [root_node(self.region)]
            elif kind == BATCH and group >= 0:
                self._batch(Payload(payload))
            else:
                raise CertificateRejected("an unknown record")
            self.records += 1
        if self.stack or group + 1 != len(self.wanted):
            raise CertificateRejected("a part of the input region is not covered")

    def _batch(self, data: Payload) -> None:
        region, count = self.region, data.number()
        if not 0 < count <= min(MAX_NODES, len(self.stack)):
            raise CertificateRejected("a batch takes more nodes than wait")
        taken = self.stack[-count:]
        del self.stack[-count:]
        self.nodes += count
        bounds = bounds_of(region, taken)
        for width in region.widths:
            rows = data.number()
            if rows > 2 * width * count:
                raise CertificateRejected("too many lemmas")
            nodes, sides = data.array("u2", rows), data.array("u4", rows)
            _demand_below(nodes, count)
            _demand_below(sides, 2 * width)
            bounds.tighten(nodes, sides)
        is_open = np.array([node.open_cases for node in taken])
        is_open[bounds.empty] = False
        self._refute(data, bounds, is_open)
        self._contract(data, bounds, is_open)
        left = np.flatnonzero(is_open.any(axis=1))
        self.leaves += count - len(left)
        self._split(data, count, bounds, is_open, left)
        data.end()

    def _refute(self, data: Payload, bounds: NodeBounds, is_open: np.ndarray) -> None:
        """Close (node, case) pairs whose weighted rows have a positive lower bound."""
        nodes, cases, weights, ends, _ = self._weighted_rows(data, bounds, is_open)
        if not refuted(self.region, weights, ends).all():
            raise CertificateRejected("a leaf's multipliers do not refute it")
        is_open[nodes, cases] = False

    def _contract(self, data: Payload, bounds: NodeBounds, is_open: np.ndarray) -> None:
        """Shrink boxes to where the weighted rows of all their open cases may be <= 0."""
        nodes, cases, _, ends, forms = self._weighted_rows(data, bounds, is_open)
        contract(bounds, is_open, nodes, cases, ends, forms)

    def _weighted_rows(
        self, data: Payload, bounds: NodeBounds, is_open: np.ndarray
    ) -> tuple[Int64, Int64, Float64, Float64, Forms]:
        """Read (node, case) pairs with multipliers; their weights, lower ends and forms."""
        region, count = self.region, data.number()
        if count > is_open.size:
            raise CertificateRejected("too many pairs")
        nodes, cases = data.array("u2", count), data.array("u4", count)
        _demand_below(nodes, len(is_open))
        _demand_below(cases, is_open.shape[1])
        starts = np.array(region.starts)
        sizes = starts[cases + 1] - starts[cases]
        weights = weight_matrix(data.array("u2", int(sizes.sum())), starts[cases], sizes,
                                region.starts[-1])  # fmt: skip
        slopes = [data.array("u1", int(mask.sum())) for mask in
                  (known.phase[nodes] == 0 for known in bounds.known)]  # fmt: skip
        pushes: list[tuple[Int64, Int64, Float64]] = []
        for width in region.widths:
            number = data.number()
            if number > count * width:
                raise CertificateRejected("too many multipliers")
            form, neuron = data.array("u4", number), data.array("u4", number)
            _demand_below(form, count)
            _demand_below(neuron, width)
            mantissa, power = data.array("u4", number), data.array("i2", number)
            if (np.abs(power) > 300).any():
                raise CertificateRejected("a multiplier is out of range")
            pushes.append((form, neuron, np.ldexp(mantissa.astype(np.float64), power)))
        found = row_bounds(region, bounds, nodes, weights, slopes, pushes)
        return nodes, cases, weights, *found

    def _split(
        self, data: Payload, count: int, bounds: NodeBounds, is_open: np.ndarray,
        left: np.ndarray,
    ) -> None:  # fmt: skip
        inputs, ends = len(self.region.ends), np.cumsum([0, *self.region.widths])
        which, middles = data.array("i4", len(left)), data.array("u4", len(left))
        if len(self.stack) + 2 * len(left) > MAX_WAITING or (
            (len(self.stack) + 2 * len(left)) * (int(ends[-1]) + inputs) > MAX_CELLS
        ):
            raise CertificateRejected("too many nodes wait")
        lower = np.concatenate([np.zeros((count, 0)), *bounds.lower], axis=1)
        upper = np.concatenate([np.zeros((count, 0)), *bounds.upper], axis=1)
        for node, choice, middle in zip(left, which.tolist(), middles.tolist(), strict=True):
            box = bounds.box[0][node], bounds.box[1][node]
            first = Node(*box, lower[node], upper[node], is_open[node])
            if choice == AGAIN and middle == 0:
                self.stack.append(first)
            elif 0 <= choice < inputs:
                if not box[0][choice] < middle < box[1][choice]:
                    raise CertificateRejected("a split outside its box")
                low, high = box[0].copy(), box[1].copy()
                low[choice] = high[choice] = middle
                self.stack += [first._replace(box_upper=high), first._replace(box_lower=low)]
            elif -int(ends[-1]) <= choice < 0 and middle == 0:
                low, high = lower[node].copy(), upper[node].copy()
                low[-choice - 1] = max(0.0, low[-choice - 1])
                high[-choice - 1] = min(0.0, high[-choice - 1])
                self.stack += [first._replace(upper=high), first._replace(lower=low)]
            else:
                raise CertificateRejected("a split of nothing")


def root_node(region: Region) -> Node:
    """The whole region, with nothing known."""
    neurons = sum(region.widths)
    return Node(
        np.zeros(len(region.ends)), region.ends, np.full(neurons, -np.inf),
        np.full(neurons, np.inf), np.ones(len(region.starts) - 1, dtype=bool),
    )  # fmt: skip


def bounds_of(region: Region, nodes: list[Node]) -> NodeBounds:
    """The bounds that nodes inherit, to be tightened."""
    cuts = np.cumsum([0, *region.widths])[1:-1].tolist()
    lower, upper = (
        [part.copy() for part in np.split(np.array([n[k] for n in nodes]), cuts, axis=1)]
        if region.widths else [] for k in (2, 3)
    )  # fmt: skip
    box = np.array([n.box_lower for n in nodes]), np.array([n.box_upper for n in nodes])
    return NodeBounds(region.layers, region.rows, (lower, upper), box)


def refuted(region: Region, weights: Float64, ends: Float64) -> np.ndarray:
    """Whether lower ends refute: above 0, or 0 where a row with weight leaves out the tie."""
    return np.asarray((ends > 0) | ((ends == 0) & (weights[:, region.strict] > 0).any(axis=1)))


def contract(
    bounds: NodeBounds, is_open: np.ndarray, nodes: Int64, cases: Int64, ends: Float64, forms: Forms
) -> None:
    """Shrink boxes, in place, to where forms of all open cases may be at most 0.

    With `total` the lower end of a form and `own` the part of input i in it, points of
    interest have `A_i x_i <= own - total`. Ends are integers below 2**25, so one unit
    outward covers the rounding of the division.
    """
    lower, upper = bounds.box[0][nodes], bounds.box[1][nodes]
    own = forms.coefficients * np.where(forms.coefficients > 0, lower, upper)
    own = np.floor(own * 2.0**-BOX_BITS)
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = (own - ends[:, None]) / forms.coefficients * 2.0**BOX_BITS
        high = np.where(forms.coefficients > 0, np.fmin(upper, np.floor(limit) + 1), upper)
        low = np.where(forms.coefficients < 0, np.fmax(lower, np.ceil(limit) - 1), lower)
    crossed = (low > high).any(axis=1) | ~np.isfinite(ends)
    low, high = np.where(crossed[:, None], lower, low), np.where(crossed[:, None], upper, high)
    hull_low, hull_high = np.full_like(bounds.box[0], np.inf), np.full_like(bounds.box[1], -np.inf)
    np.minimum.at(hull_low, nodes, low)
    np.maximum.at(hull_high, nodes, high)
    seen = np.zeros(is_open.shape, dtype=bool)
    seen[nodes, cases] = True
    whole = (seen | ~is_open).all(axis=1) & is_open.any(axis=1)
    bounds.box[0][whole], bounds.box[1][whole] = hull_low[whole], hull_high[whole]


def weight_matrix(flat: Int64, first: Int64, sizes: Int64, rows: int) -> Float64:
    """Row weights of (node, case) pairs over all rows, [pairs, rows], from a flat list."""
    matrix = np.zeros((len(sizes), rows))
    pairs = np.repeat(np.arange(len(sizes)), sizes)
    places = np.arange(len(flat)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    matrix[pairs, np.repeat(first, sizes) + places] = flat
    return matrix


def row_bounds(
    region: Region,
    bounds: NodeBounds,
    nodes: Int64,
    weights: Float64,
    slopes: list[Int64],
    pushes: list[tuple[Int64, Int64, Float64]],
) -> tuple[Float64, Forms]:
    """Lower ends of weighted unsafe rows, integers with the right sign, and their forms.

    Args:
        region: The region.
        bounds: Bounds of the nodes.
        nodes: The node of each pair.
        weights: Row weights, [pairs, rows], integers below 2**16.
        slopes: Per hidden layer the slopes of neurons of unknown phase, pair after pair,
            in units of 1/255.
        pushes: Per hidden layer pair, neuron and amount of phase multipliers.
    """
    full = [_spread(known, nodes, each) for known, each in zip(bounds.known, slopes, strict=True)]
    zero = np.zeros(len(nodes))
    forms = through_affine(region.layers[-1], Forms(weights, zero, zero.astype(np.int64)))
    return backward(region.layers, bounds.known, nodes, forms, bounds.box, full, pushes)


def _spread(known: Relaxation, nodes: Int64, flat: Int64) -> Float64:
    mask = known.phase[nodes] == 0
    slopes = np.zeros(mask.shape)
    slopes[mask] = flat / 255.0
    return slopes


def _demand_below(indices: Int64, count: int) -> None:
    if len(indices) and int(indices.max()) >= count:
        raise CertificateRejected("an index out of range")
