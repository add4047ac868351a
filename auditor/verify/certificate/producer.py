"""Writing a certificate: what a search noted, in the order and form that the checker reads.

The tree is walked with the checker's stack, and the bounds of neurons are followed as the
checker will know them, since they say which slopes have to be written.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from auditor.files import new_file
from auditor.verify.certificate.checker import MAX_NODES, header_of, root_of
from auditor.verify.certificate.forms import Arithmetic
from auditor.verify.certificate.records import BATCH, END, GROUP, HEADER, MAGIC, frame
from auditor.verify.certificate.statement import Float64, property_digest, read_tensors, regions
from auditor.verify.problem import row_scale
from auditor.verify.proof import AGAIN, EACH_CASE, Choice, Lemma, Proof, ProofNode
from auditor.verify.property import Property
from auditor.verify.semantics import Semantics

BATCH_CELLS = 1 << 18


class WrittenCertificate(NamedTuple):
    """A certificate on disk.

    Attributes:
        path: The file, and `bytes` its size.
        nodes: Nodes of all trees.
        write_s: Seconds that writing took, and `check_s` those of the check before it got
            its name.
    """

    path: Path
    bytes: int
    nodes: int
    write_s: float
    check_s: float = 0.0


def write_certificate(
    model: Path, property_file: Path, prop: Property, proofs: Sequence[Proof], target: Path,
    semantics: Semantics = Semantics.REAL,
) -> WrittenCertificate:  # fmt: skip
    """Write what proves a property.

    Args:
        model: The ONNX file.
        property_file: The property's file; its digest goes into the certificate.
        prop: The property read from it.
        proofs: What `verify` noted, one of each problem.
        target: Where to write; never left half-written.
        semantics: The arithmetic that was reasoned about.

    Raises:
        Unsupported: The checker cannot read such a model.
        OutputNotWritable, OperationFailed: The place cannot be written, or the disk failed.
    """
    started = time.perf_counter()
    tensors, digest = read_tensors(model)
    with new_file(target) as stream:
        sink = _Sink(stream)
        header = header_of(digest, property_digest(property_file), str(semantics))
        sink.record(HEADER, header)
        scales = _scales(prop)
        for number, region in enumerate(regions(tensors, prop)):
            sink.record(GROUP, _packed("u4", [number]))
            arithmetic = Arithmetic(region, semantics is Semantics.FLOAT32)
            writer = _TreeWriter(arithmetic, proofs[number], scales[number])
            for payload in writer.batches():
                sink.record(BATCH, payload)
        sink.end()
    nodes = sum(len(proof.nodes) for proof in proofs)
    seconds = time.perf_counter() - started
    return WrittenCertificate(target, target.stat().st_size, nodes, seconds)


def _scales(prop: Property) -> list[list[Float64]]:
    """For each region and case, by what the search had scaled each row."""
    groups: dict[tuple[Any, Any], list[Float64]] = {}
    for case in prop.cases:
        if not case.is_empty:
            factors = np.array([float(row_scale(row.coefficients)) for row in case.rows])
            groups.setdefault((case.lower, case.upper), []).append(factors)
    return list(groups.values())


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


class _Waiting(NamedTuple):
    """A node that waits, with the bounds the checker will have and the open cases."""

    node: ProofNode
    lower: Float64
    upper: Float64
    open_cases: Any


class _TreeWriter:
    """The batches of one proof."""

    def __init__(self, arithmetic: Arithmetic, proof: Proof, scales: list[Float64]) -> None:
        self.proof, self.scales = proof, scales
        relus = [tensor for tensor in arithmetic.tensors if tensor.relu >= 0]
        self.ends = np.cumsum([0, *(len(tensor.bias) for tensor in relus)])
        root = root_of(arithmetic)
        self.stack = [_Waiting(proof.nodes[0], root.lower, root.upper, root.open_cases)]
        cells = int(self.ends[-1]) + len(root.box_lower)
        self.count = int(np.clip(BATCH_CELLS // max(1, cells), 8, MAX_NODES // 4))

    def batches(self) -> Iterator[bytes]:
        """Payloads until no node waits."""
        while self.stack:
            taken = self.stack[-self.count :]
            del self.stack[-self.count :]
            yield b"".join(self._batch(taken))

    def _batch(self, taken: list[_Waiting]) -> Iterator[bytes]:
        lower, upper = (np.array([each[k] for each in taken]) for k in (1, 2))
        is_open = np.array([each.open_cases for each in taken])
        nodes = [each.node for each in taken]
        yield _packed("u4", [len(taken)])
        for layer in range(len(self.ends) - 1):
            lemmas = [[m for m in node.lemmas if m.layer == layer] for node in nodes]
            yield from self._lemmas(layer, lemmas, lower, upper)
        is_open[(lower > upper).any(axis=1)] = False
        pairs = [(k, choice) for k, node in enumerate(nodes) for choice in node.refuted
                 if is_open[k, choice.case]]  # fmt: skip
        yield _packed("u4", [len(pairs)])
        yield _packed("u2", [k for k, _ in pairs])
        yield _packed("u4", [choice.case for _, choice in pairs])
        yield from self._rows(pairs, lower, upper)
        for k, choice in pairs:
            is_open[k, choice.case] = False
        yield from self._shrinking(nodes, lower, upper, is_open)
        for layer in range(len(self.ends) - 1):
            lemmas = [[m for m in node.afterwards if m.layer == layer] for node in nodes]
            yield from self._lemmas(layer, lemmas, lower, upper)
        yield from self._splits(nodes, lower, upper, is_open)

    def _lemmas(
        self, layer: int, lemmas: list[list[Lemma]], lower: Float64, upper: Float64
    ) -> Iterator[bytes]:
        rows = [(k, lemma) for k, each in enumerate(lemmas) for lemma in each]
        nodes = np.concatenate([np.zeros(0, dtype=np.int64), *(
            np.full(len(lemma.sides), k) for k, lemma in rows)])  # fmt: skip
        sides = np.concatenate([np.zeros(0, dtype=np.int64), *(m.sides for _, m in rows)])
        values = np.concatenate([np.zeros(0), *(m.values for _, m in rows)]).astype(np.float32)
        yield _packed("u4", [len(nodes)])
        yield _packed("u2", nodes) + _packed("u4", sides) + _packed("f4", values)
        explicit = any(lemma.slopes is not None for _, lemma in rows)
        again = any(lemma.as_at_root for _, lemma in rows)
        yield _packed("u1", [1 if explicit else 2 if again else 0])
        if explicit:
            slopes = np.concatenate([lemma.slopes for _, lemma in rows if lemma.slopes is not None])
            for k in range(layer):
                yield self._slopes(k, slopes, nodes, lower, upper)
                yield _packed("u4", [0])
        low, at = sides % 2 == 0, self.ends[layer] + sides // 2
        lower[nodes[low], at[low]] = values[low]
        upper[nodes[~low], at[~low]] = -values[~low]

    def _slopes(self, layer: int, slopes: Any, nodes: Any, lower: Float64, upper: Float64) -> bytes:
        part = slice(self.ends[layer], self.ends[layer + 1])
        unknown = (lower[:, part] < 0) & (upper[:, part] > 0)
        return _packed("u1", slopes[:, part][unknown[nodes]])

    def _rows(
        self, pairs: Sequence[tuple[int, Choice]], lower: Float64, upper: Float64
    ) -> Iterator[bytes]:
        weights = [choice.weights * self.scales[choice.case] for _, choice in pairs]
        yield _packed("f8", np.concatenate([np.zeros(0), *weights]))
        yield _packed("u1", [bool(pairs)])
        if not pairs:
            return
        nodes = np.array([k for k, _ in pairs])
        slopes = np.array([choice.slopes for _, choice in pairs])
        none = np.zeros(int(self.ends[-1]), dtype=np.float32)
        betas = np.array([none if c.betas is None else c.betas for _, c in pairs])
        for layer in range(len(self.ends) - 1):
            yield self._slopes(layer, slopes, nodes, lower, upper)
            part = betas[:, self.ends[layer] : self.ends[layer + 1]]
            row, neuron = np.nonzero(part)
            yield _packed("u4", [len(row)]) + _packed("u4", row) + _packed("u4", neuron)
            yield _packed("f4", part[row, neuron])

    def _shrinking(
        self, nodes: list[ProofNode], lower: Float64, upper: Float64, is_open: Any
    ) -> Iterator[bytes]:
        order = {tuple(pair): number for number, pair in enumerate(np.argwhere(is_open).tolist())}
        found = []
        for k, node in enumerate(nodes):
            used: dict[int, int] = {}
            for choice in node.shrinking:
                if is_open[k, choice.case]:
                    place = used[choice.case] = used.get(choice.case, -1) + 1
                    found.append((order[k, choice.case], place, (k, choice)))
        yield _packed("u4", [len(found)])
        if not found:
            return
        yield _packed("u4", [pair for pair, _, _ in found])
        yield _packed("u1", [place for _, place, _ in found])
        yield from self._rows([each for _, _, each in found], lower, upper)
        gone = [(k, case) for k, node in enumerate(nodes) for case in node.gone]
        yield _packed("u4", [len(gone)]) + _packed("u4", [order[pair] for pair in gone])
        for pair in gone:
            is_open[pair] = False
        at = [np.full(len(node.ends), k) for k, node in enumerate(nodes)]
        yield _packed("u4", [sum(map(len, at))]) + _packed("u2", np.concatenate(at))
        yield _packed("u4", np.concatenate([node.ends for node in nodes]))
        yield _packed("f8", np.concatenate([node.values for node in nodes]))

    def _splits(
        self, nodes: list[ProofNode], lower: Float64, upper: Float64, is_open: Any
    ) -> Iterator[bytes]:
        which, middles = [], []
        for k in np.flatnonzero(is_open.any(axis=1)):
            node, neurons = nodes[k], int(self.ends[-1])
            split = AGAIN if node.split is None else node.split
            which.append(split)
            middles.append(node.middle)
            children = [self.proof.nodes[number] for number in node.children]
            low, high = lower[k].copy(), upper[k].copy()
            state = _Waiting(node, low, high, is_open[k])
            if split == EACH_CASE:
                cases = np.flatnonzero(is_open[k])
                for child, case in zip(children, cases, strict=True):
                    alone = np.arange(is_open.shape[1]) == case
                    self.stack.append(state._replace(node=child, open_cases=alone))
                continue
            states = [state] * len(children)
            if split != AGAIN and split < 0 and -1 - split < neurons:
                off, on = high.copy(), low.copy()
                off[-1 - split], on[-1 - split] = (
                    min(0.0, off[-1 - split]),
                    max(0.0, on[-1 - split]),
                )
                states = [state._replace(upper=off), state._replace(lower=on)]
            self.stack += [s._replace(node=c) for s, c in zip(states, children, strict=True)]
        yield _packed("i4", which)
        yield _packed("f8", middles)


def _packed(kind: str, values: Any) -> bytes:
    return np.asarray(values, dtype=f"<{kind}").tobytes()
