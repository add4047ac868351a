"""Certificates for tests: taken apart, changed and sealed again, or built by hand."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from auditor.models.digest import file_digest
from auditor.verify.certificate.checker import CheckedCertificate, check_certificate, header_of
from auditor.verify.certificate.records import (
    END,
    GROUP,
    HEADER,
    MAGIC,
    frame,
    read_records,
)
from auditor.verify.network import network_from_onnx
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

    def __init__(self, folder: Path, model: Path, text: str) -> None:
        self.model, self.property_file = model, folder / "property.yaml"
        self.property_file.write_text(text)
        self.certificate = folder / "certificate.audcert"

    @property
    def opening(self) -> list[Record]:
        """The header, and the start of the first region."""
        header = header_of(file_digest(self.model), file_digest(self.property_file), "real")
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


def leaf(*, slopes: Sequence[int] = (), weight: float = 1.0, claims: Sequence[float] = ()) -> bytes:
    """A batch of one node of |x|: claims for sides 0, 1, ...; one refutation unless weight is 0."""
    lemmas = packed("u4", len(claims)) + packed("u2", *[0] * len(claims))
    lemmas += packed("u4", *range(len(claims))) + packed("f4", *claims) + packed("u1", 0)
    row = packed("u4", 1) + packed("u2", 0) + packed("u4", 0) + packed("f8", weight)
    row += packed("u1", 1) + packed("u1", *slopes) + packed("u4", 0)
    none = packed("u4", 0)
    return packed("u4", 1) + lemmas + row + none + none + packed("u1", 0)


def split(which: int, middle: float) -> bytes:
    """A batch of one node that is only split."""
    nothing = packed("u4", 0) + packed("u1", 0)
    return (
        packed("u4", 1)
        + nothing * 2
        + packed("u4", 0)
        + nothing
        + (packed("i4", which) + packed("f8", middle))
    )
