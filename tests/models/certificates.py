"""Certificates for tests: taken apart, changed and sealed again, or built by hand."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from auditor.models.digest import file_digest
from auditor.verify.certificate.certify import certify
from auditor.verify.certificate.checker import CheckedCertificate, check_certificate, header_of
from auditor.verify.certificate.records import (
    BATCH,
    END,
    GROUP,
    HEADER,
    MAGIC,
    frame,
    read_records,
)
from auditor.verify.engine_choice import Engine
from auditor.verify.network import network_from_onnx
from auditor.verify.onnx_subject import open_subject, read_property
from auditor.verify.outcome import Limits, Outcome
from auditor.verify.proof import Proof
from auditor.verify.search import verify
from auditor.verify.semantics import Semantics
from tests.models.onnx_networks import dense_network, write_model
from tests.models.tiny import absolute_value

Record = tuple[bytes, bytes]


def records_of(content: bytes) -> list[Record]:
    """Kind and payload of every record but the last."""
    return list(read_records(io.BytesIO(content)))


def sealed(records: Sequence[Record]) -> bytes:
    """A file of these records with right checksums."""
    content = MAGIC + b"".join(frame(kind, payload) for kind, payload in records)
    return content + frame(END, hashlib.sha256(content).digest())


def packed(kind: str, *values: float) -> bytes:
    """Little-endian numbers of a NumPy kind."""
    return np.array(values, dtype=f"<{kind}").tobytes()


class Question:
    """A model file and a property file in a folder, and what the checker says of bytes."""

    semantics = Semantics.REAL

    def __init__(self, folder: Path, model: Path, text: str) -> None:
        self.model, self.property_file = model, folder / "property.yaml"
        self.property_file.write_text(text)
        self.certificate = folder / "certificate.audcert"

    @property
    def opening(self) -> list[Record]:
        """The header, and the start of the first region."""
        header = header_of(
            file_digest(self.model), file_digest(self.property_file), str(self.semantics)
        )
        return [(HEADER, header), (GROUP, packed("u4", 0))]

    def check(self, records: Sequence[Record]) -> CheckedCertificate:
        """What the checker says of these records, sealed."""
        return self.check_bytes(sealed(records))

    def check_bytes(self, content: bytes) -> CheckedCertificate:
        """What the checker says of a file."""
        self.certificate.write_bytes(content)
        return check_certificate(self.certificate, self.model, self.property_file)


def at_least(value: float, lower: Sequence[float], upper: Sequence[float]) -> str:
    """The property `y0 >= value` on a box, as YAML."""
    return (
        f"version: 1\nid: p\ninputs: {{box: {{lower: {list(lower)}, upper: {list(upper)}}}}}\n"
        f"then:\n  - at_least: {{output: 0, value: {value!r}}}\n"
    )


def absolute_value_question(folder: Path, value: float) -> Question:
    """Is |x| >= value on [-1, 1]? The minimum is 0."""
    return Question(folder, write_model(folder, absolute_value()), at_least(value, [-1], [1]))


def random_question(folder: Path, seed: int, sizes: Sequence[int], slack: float) -> Question:
    """Is output 0 of a random network at least its minimum on [-1, 1] less some slack?

    The minimum is taken over a fine grid, so the slack has to cover what lies between.
    """
    proto = dense_network(sizes, seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 101)] * sizes[0]), axis=-1)
    lowest = float(network_from_onnx(proto).evaluate(grid.reshape(-1, sizes[0]))[:, 0].min())
    text = at_least(round(lowest - slack, 6), [-1.0] * sizes[0], [1.0] * sizes[0])
    return Question(folder, write_model(folder, proto), text)


def certified(question: Question, engine: Engine = "auto") -> tuple[Outcome, bytes | None]:
    """What the search finds, certified where it holds, and the certificate."""
    subject = open_subject(question.model)
    prop = read_property(question.property_file, subject.network)
    proofs: list[Proof] = []
    outcome = verify(
        subject.network, prop, limits=Limits(time_s=60.0), engine=engine, proofs=proofs,
        semantics=question.semantics, replay=subject.replayers,
    )  # fmt: skip
    outcome, written = certify(
        outcome, question.model, question.property_file, prop, proofs, question.certificate,
        question.semantics,
    )  # fmt: skip
    return outcome, None if written is None else question.certificate.read_bytes()


def lemmas(
    nodes: Sequence[int] = (), sides: Sequence[int] = (), claims: Sequence[float] = (),
    explicit: bytes = b"\0",
) -> bytes:  # fmt: skip
    """Claims about one ReLU layer: node, side (2j for z_j, 2j + 1 for -z_j), lower bound."""
    return b"".join((
        packed("u4", len(nodes)), packed("u2", *nodes), packed("u4", *sides),
        packed("f4", *claims), explicit,
    ))  # fmt: skip


def choices(slopes: Sequence[int], pushes: Sequence[tuple[int, int, float]] = ()) -> bytes:
    """Multipliers of one ReLU layer: slopes of unknown signs, and (row, neuron, value)."""
    rows, neurons, values = zip(*pushes, strict=True) if pushes else ((), (), ())
    return b"".join((
        packed("u1", *slopes), packed("u4", len(pushes)), packed("u4", *rows),
        packed("u4", *neurons), packed("f4", *values),
    ))  # fmt: skip


def refutations(
    nodes: Sequence[int] = (), cases: Sequence[int] = (), weights: Sequence[float] = (),
    multipliers: bytes | None = None,
) -> bytes:  # fmt: skip
    """Pairs of node and case with weights of their rows; None for the default slopes."""
    chosen = b"\0" if multipliers is None else b"\1" + multipliers
    return b"".join((
        packed("u4", len(nodes)), packed("u2", *nodes), packed("u4", *cases),
        packed("f8", *weights), chosen,
    ))  # fmt: skip


def shrinking(
    pairs: Sequence[int], order: Sequence[int], weights: Sequence[float],
    ends: Sequence[tuple[int, int, float]] = (), gone: Sequence[int] = (),
    multipliers: bytes | None = None,
) -> bytes:  # fmt: skip
    """Forms of open pairs, closed pairs, and claimed ends (node, side, value)."""
    chosen = b"\0" if multipliers is None else b"\1" + multipliers
    nodes, sides, values = zip(*ends, strict=True) if ends else ((), (), ())
    return b"".join((
        packed("u4", len(pairs)), packed("u4", *pairs), packed("u1", *order),
        packed("f8", *weights), chosen, packed("u4", len(gone)), packed("u4", *gone),
        packed("u4", len(ends)), packed("u2", *nodes), packed("u4", *sides),
        packed("f8", *values),
    ))  # fmt: skip


def batch(
    nodes: int = 1, *, before: bytes = lemmas(), refuted: bytes = refutations(),
    shrunk: bytes = packed("u4", 0), after: bytes = lemmas(),
    splits: Sequence[tuple[int, float]] = (),
) -> Record:  # fmt: skip
    """A batch of nodes of a network with one ReLU layer; splits are (which, middle)."""
    which, middles = packed("i4", *(s for s, _ in splits)), packed("f8", *(m for _, m in splits))
    return BATCH, packed("u4", nodes) + before + refuted + shrunk + after + which + middles
