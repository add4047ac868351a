"""Many instances (model, property, time limit) from a VNN-COMP `instances.csv`.

The file has one instance a line: `onnx,property,timeout`, paths relative to it, with or
without a heading line; a heading may name further columns, of which `known_verdict` is
used for comparison. Compressed files (`.gz`) are found when the name lacks the ending.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from auditor.errors import AuditorError, FileMissing, InvalidText, Place, Unsupported
from auditor.files import read_text_file
from auditor.findings import Record, Verdict
from auditor.models.digest import file_digest
from auditor.verify.onnx_subject import verify_file
from auditor.verify.outcome import Outcome
from auditor.verify.proof import Proof
from auditor.verify.property import Property

MAX_INSTANCES = 100_000
MAX_BYTES = 64_000_000
# Raised whenever the same instance may get another answer; kept answers then run again.
ENGINE_VERSION = 5
_COLUMNS = ("onnx", "property", "timeout_s")


@dataclass(frozen=True)
class Instance:
    """One question: does this property of this model hold?

    Attributes:
        name: The two names of the file's line, joined by a space.
        time_limit_s: Wall-clock seconds.
        known: The verdict others reached, or an empty string.
        certificates: Folder for the certificate of what holds, or None for no certificate.
    """

    name: str
    model: Path
    property_file: Path
    time_limit_s: float
    known: str = ""
    certificates: Path | None = None

    @property
    def key(self) -> str:
        """Digest of model, property, limit and engine: equal keys have equal answers."""
        files = (file_digest(self.model), file_digest(self.property_file))
        certified = self.certificates is not None
        parts = (*files, self.time_limit_s, certified, version("auditor"), ENGINE_VERSION)
        return hashlib.sha256(repr(parts).encode()).hexdigest()


class InstanceResult(Record):
    """The answer to one instance, as it is kept.

    `inputs` and `outputs` are the replayed witness of a violation, flat. Of a certificate
    there are its size and the seconds that writing and checking it took; these are not
    part of `seconds`.
    """

    name: str
    key: str
    verdict: Verdict
    reason: str
    known: str
    seconds: float
    subproblems: int
    inputs: tuple[float, ...] = ()
    outputs: tuple[float, ...] = ()
    certificate_bytes: int | None = None
    write_s: float | None = None
    check_s: float | None = None

    @property
    def contradicts(self) -> bool:
        """Whether this verdict and the known one cannot both be right."""
        return {str(self.verdict), self.known} == {"holds", "violated"}


def read_instances(
    path: Path, *, time_limit_s: float = math.inf, certificates: Path | None = None
) -> list[Instance]:
    """The instances of a file.

    Args:
        path: The `instances.csv`.
        time_limit_s: Used where it is smaller than the line's own.
        certificates: Folder for certificates, or None for none.

    Raises:
        FileMissing: The file, or a model or property it names, does not exist.
        InvalidText: A line does not have the expected form.
    """
    text = read_text_file(path, "instances file", MAX_BYTES)
    try:
        rows = csv.reader(io.StringIO(text, newline=""))
        lines = [(number, row) for number, row in enumerate(rows, start=1) if row]
    except csv.Error as error:
        raise InvalidText(str(path), f"not CSV: {error}; mend the line") from None
    if len(lines) > MAX_INSTANCES:
        raise InvalidText(str(path), f"more than {MAX_INSTANCES} instances; split the file")
    columns: Sequence[str] = _COLUMNS
    if lines and not _is_number(lines[0][1][2:3]):
        columns = lines.pop(0)[1]
    found = [_instance(path, number, dict(zip(columns, row, strict=False)), time_limit_s)
             for number, row in lines]  # fmt: skip
    return [replace(each, certificates=certificates) for each in found]


def _is_number(cells: Sequence[str]) -> bool:
    try:
        return bool(cells) and math.isfinite(float(cells[0]))
    except ValueError:
        return False


def _instance(path: Path, number: int, row: dict[str, str], limit: float) -> Instance:
    place = Place(str(path), number)
    missing = [name for name in _COLUMNS if not row.get(name)]
    if missing:
        raise InvalidText(place, f"no {missing[0]}; a line is onnx,property,timeout")
    if not _is_number([row["timeout_s"]]) or float(row["timeout_s"]) <= 0:
        raise InvalidText(place, f"timeout '{row['timeout_s']}' is not a number of seconds")
    return Instance(
        name=f"{row['onnx']} {row['property']}",
        model=_find(path.parent / row["onnx"], "model"),
        property_file=_find(path.parent / row["property"], "property"),
        time_limit_s=min(limit, float(row["timeout_s"])),
        known=row.get("known_verdict", ""),
    )


def _find(path: Path, role: str) -> Path:
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.is_file():
            return candidate
    raise FileMissing(path, role)


def verify_instance(instance: Instance) -> InstanceResult:
    """Answer one instance; seconds include reading model and property."""
    started = time.perf_counter()
    proofs: list[Proof] | None = None if instance.certificates is None else []
    written: dict[str, float] = {}
    try:
        prop, outcome = verify_file(
            instance.model,
            instance.property_file,
            time_limit_s=instance.time_limit_s,
            proofs=proofs,
        )
        seconds = time.perf_counter() - started
        if proofs is not None:
            outcome, written = _certified(instance, prop, outcome, proofs)
        verdict, reason, boxes = outcome.verdict, outcome.reason, outcome.statistics.boxes
        witness = outcome.witness if verdict is Verdict.VIOLATED else None
    except AuditorError as error:
        # One instance that cannot be asked must not end the others.
        verdict = Verdict.UNKNOWN if isinstance(error, Unsupported) else Verdict.ERROR
        reason, boxes, witness = str(error), 0, None
        seconds = time.perf_counter() - started
    return InstanceResult.model_validate({
        "name": instance.name,
        "key": instance.key,
        "verdict": verdict,
        "reason": reason,
        "known": instance.known,
        "seconds": round(seconds, 4),
        "subproblems": boxes,
        "inputs": tuple(float(value) for value in witness.inputs) if witness else (),
        "outputs": witness.outputs if witness else (),
        **written,
    })  # fmt: skip


def _certified(
    instance: Instance, prop: Property, outcome: Outcome, proofs: list[Proof]
) -> tuple[Outcome, dict[str, float]]:
    """The outcome, `unknown` where its certificate is missing, and facts of the certificate."""
    from auditor.verify.certificate.certify import certify  # only where one was asked for

    if instance.certificates is None:
        return outcome, {}
    target = instance.certificates / f"{instance.key[:32]}.audcert"
    outcome, written = certify(
        outcome, instance.model, instance.property_file, prop, proofs, target
    )
    if written is None:
        return outcome, {}
    facts = {
        "certificate_bytes": written.bytes,
        "write_s": round(written.write_s, 4),
        "check_s": round(written.check_s, 4),
    }
    return outcome, facts


def vnncomp_results(results: Sequence[InstanceResult], category: str) -> str:
    """The results as VNN-COMP's `results.csv`: one line an instance, no heading."""
    words = {Verdict.HOLDS: "unsat", Verdict.VIOLATED: "sat", Verdict.ERROR: "error"}
    lines = (
        ",".join((category, *result.name.split(" ", 1), "0", words.get(result.verdict, "unknown"),
                  f"{result.seconds:.4f}"))
        for result in results
    )  # fmt: skip
    return "".join(f"{line}\n" for line in lines)


def counterexample_name(result: InstanceResult) -> str:
    """File name of a counterexample: model and property without folders and endings."""
    model, prop = (Path(part).name.removesuffix(".gz") for part in result.name.split(" ", 1))
    return f"{model.removesuffix('.onnx')}_{prop.removesuffix('.vnnlib')}.counterexample"


def counterexample_text(result: InstanceResult) -> str:
    """The witness in VNN-COMP's form: `((X_0 v) ... (Y_0 v) ...)`, one variable a line."""
    return "(" + "\n".join(_assignments(result)) + ")\n"


def _assignments(result: InstanceResult) -> Iterator[str]:
    for letter, values in (("X", result.inputs), ("Y", result.outputs)):
        for number, value in enumerate(values):
            yield f"({letter}_{number} {value!r})"
