"""Many instances (model, property, time limit) from a VNN-COMP `instances.csv`.

The file has one instance a line: `onnx,property,timeout`, paths relative to it, with or
without a heading line; a heading may name further columns, of which `known_verdict` is
used for comparison. Compressed files (`.gz`) are found when the name lacks the ending.
"""

from __future__ import annotations

import csv
import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from auditor.errors import AuditorError, FileMissing, InvalidText, Place, Unsupported
from auditor.findings import Record, Verdict
from auditor.models.digest import file_digest
from auditor.verify.onnx_subject import verify_file

MAX_INSTANCES = 100_000
# Raised whenever the same instance may get another answer; kept answers then run again.
ENGINE_VERSION = 3
_COLUMNS = ("onnx", "property", "timeout_s")


@dataclass(frozen=True)
class Instance:
    """One question: does this property of this model hold?

    Attributes:
        name: The two names of the file's line, joined by a space.
        time_limit_s: Wall-clock seconds.
        known: The verdict others reached, or an empty string.
    """

    name: str
    model: Path
    property_file: Path
    time_limit_s: float
    known: str = ""

    @property
    def key(self) -> str:
        """Digest of model, property, limit and engine: equal keys have equal answers."""
        files = (file_digest(self.model), file_digest(self.property_file))
        parts = (*files, self.time_limit_s, version("auditor"), ENGINE_VERSION)
        return hashlib.sha256(repr(parts).encode()).hexdigest()


class InstanceResult(Record):
    """The answer to one instance, as it is kept.

    `inputs` and `outputs` are the replayed witness of a violation, flat.
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

    @property
    def contradicts(self) -> bool:
        """Whether this verdict and the known one cannot both be right."""
        return {str(self.verdict), self.known} == {"holds", "violated"}


def read_instances(path: Path, *, time_limit_s: float = math.inf) -> list[Instance]:
    """The instances of a file.

    Args:
        path: The `instances.csv`.
        time_limit_s: Used where it is smaller than the line's own.

    Raises:
        FileMissing: The file, or a model or property it names, does not exist.
        InvalidText: A line does not have the expected form.
    """
    if not path.is_file():
        raise FileMissing(path, "instances file")
    with path.open(encoding="utf-8", newline="") as file:
        lines = [(number, row) for number, row in enumerate(csv.reader(file), start=1) if row]
    if len(lines) > MAX_INSTANCES:
        raise InvalidText(str(path), f"more than {MAX_INSTANCES} instances; split the file")
    columns: Sequence[str] = _COLUMNS
    if lines and not _is_number(lines[0][1][2:3]):
        columns = lines.pop(0)[1]
    return [_instance(path, number, dict(zip(columns, row, strict=False)), time_limit_s)
            for number, row in lines]  # fmt: skip


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
    try:
        _, outcome = verify_file(
            instance.model, instance.property_file, time_limit_s=instance.time_limit_s
        )
        verdict, reason, boxes = outcome.verdict, outcome.reason, outcome.statistics.boxes
        witness = outcome.witness if verdict is Verdict.VIOLATED else None
    except AuditorError as error:
        # One instance that cannot be asked must not end the others.
        verdict = Verdict.UNKNOWN if isinstance(error, Unsupported) else Verdict.ERROR
        reason, boxes, witness = str(error), 0, None
    return InstanceResult(
        name=instance.name,
        key=instance.key,
        verdict=verdict,
        reason=reason,
        known=instance.known,
        seconds=round(time.perf_counter() - started, 4),
        subproblems=boxes,
        inputs=tuple(float(value) for value in witness.inputs) if witness else (),
        outputs=witness.outputs if witness else (),
    )


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
