"""Audits for the queue: what they ask, and how each has to end."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.killed_runs import install
from benchmarks.killed_work import DEMO, copy_demo
from tests.models.misbehaving_checks import MISBEHAVING
from tests.models.tiny import absolute_value, array, relu_network

ODD: Final = (
    MISBEHAVING
    + """
import hashlib
from auditor.check import Check, CheckParams
from auditor.evidence import BlobEvidence
from auditor.findings import Answer, Verdict

class Params(CheckParams):
    number: int = 0
    seconds: float = 0.0

def holds(subject, params, context):
    time.sleep(params.seconds)
    content = hashlib.sha256(f"{subject.name} {params.number}".encode()).digest() * 128
    blob = context.evidence.put(content, "application/octet-stream", f"{params.number}.bin")
    return Answer(verdict=Verdict.HOLDS, summary=f"stored {blob.digest}",
                  evidence=(BlobEvidence(title="noted", blob=blob),))

def grabs(subject, params, context):
    return len(bytearray(params.number * 2**20))

def make(code, run):
    return Check(code=code, title=run.__name__, version=1, question="?", method="m",
                 pass_does_not_mean="-", kinds=("onnx",), params=Params, run=run,
                 estimate_s=lambda params: 0.1)

raising, dying, eating = make("AUD901", raises), make("AUD902", dies), make("AUD903", eats)
grabbing, holding = make("AUD904", grabs), make("AUD905", holds)
"""
)
HEAD: Final = "version: 1\nname: {name}\nsubjects: [{{path: {path}}}]\nchecks:\n"
PATTERNS: Final = "patterns: digits_patterns.safetensors, inputs: digits_test.npz"
HOLDING: Final = "  - {check: AUD905}\n"


@dataclass(frozen=True)
class Queued:
    """One kind of audit.

    Attributes:
        path: Its subject.
        checks: YAML.
        code: The exit code it must have.
        verdicts: Of its checks by their ids; empty where nothing is run.
    """

    path: str
    checks: str
    code: int
    verdicts: Mapping[str, str]


def kinds(grabbed_mb: int) -> dict[str, Queued]:
    """Audits by name; one of them asks for so much memory at once."""
    model = "digits.onnx"
    return {
        "file": Queued(model, "  - check: AUD101\n  - check: AUD102\n", 0,
                       {"AUD101": "holds", "AUD102": "holds"}),
        "patterns": Queued(
            model, f"  - {{check: AUD204, params: {{{PATTERNS}, delta: 0.6}}}}\n"
            f"  - {{check: AUD205, params: {{{PATTERNS}, delta: 0.99, maximum_share: 0.1}}}}\n",
            0, {"AUD204": "holds", "AUD205": "holds"},
        ),
        "property": Queued(model, "  - {check: AUD201, params: {property: steady-three.yaml}}\n",
                           0, {"AUD201": "holds"}),
        "violated": Queued(model, "  - {check: AUD201, params: {property: noisy-eight.yaml}}\n",
                           1, {"AUD201": "violated"}),
        "small": Queued("absolute.onnx", "  - check: AUD101\n" + HOLDING, 0,
                        {"AUD101": "holds", "AUD905": "holds"}),
        "refused": Queued("pickled.onnx", "  - check: AUD101\n" + HOLDING, 6,
                          {"AUD101": "violated", "AUD905": "skipped"}),
        "raises": Queued(model, "  - {check: AUD901}\n" + HOLDING, 3,
                         {"AUD901": "error", "AUD905": "holds"}),
        "crashes": Queued(model, "  - {check: AUD902}\n" + HOLDING, 3,
                          {"AUD902": "error", "AUD905": "holds"}),
        "too much memory": Queued(
            model, "  - {check: AUD903, limits: {memory_mb: 700}}\n" + HOLDING, 3,
            {"AUD903": "unknown", "AUD905": "holds"},
        ),
        "beyond the cap": Queued(
            model, f"  - {{check: AUD904, params: {{number: {grabbed_mb}}}}}\n" + HOLDING, 3,
            {"AUD904": "error", "AUD905": "holds"},
        ),
        "wrong plan": Queued(model, "  - {check: AUD201, params: {property: none.yaml}}\n", 2, {}),
    }  # fmt: skip


def write_plans(folder: Path, every: Mapping[str, Queued]) -> None:
    """The plans as NAME.yaml, with their models, data and checks."""
    folder.mkdir(parents=True, exist_ok=True)
    copy_demo(folder)
    for name in ("steady-three.yaml", "noisy-eight.yaml"):
        (folder / name).write_bytes((DEMO / name).read_bytes())
    (folder / "absolute.onnx").write_bytes(absolute_value().SerializeToString())
    # A pickle of plain numbers: what it is, and not what it holds, is refused.
    (folder / "pickled.onnx").write_bytes(pickle.dumps(list(range(100))))
    install(folder, "odd_checks", ODD, "raising", "dying", "eating", "grabbing", "holding")
    for name, each in every.items():
        head = HEAD.format(name=name.replace(" ", "-"), path=each.path)
        (folder / f"{name}.yaml").write_text(head + each.checks)
    slow = "".join(f"  - {{check: AUD905, id: slow-{number}, params: {{number: {number}, "
                   "seconds: 1.5}}\n" for number in range(8))  # fmt: skip
    (folder / "slow.yaml").write_text(HEAD.format(name="slow", path="digits.onnx") + slow)


def write_many(folder: Path, subjects: int) -> None:
    """A plan of as many small models, each asked twice."""
    (folder / "models").mkdir()
    for number in range(subjects):
        slope = array([[1 + number / 8], [-1]])
        content = relu_network([(slope, array([0, 0])), (array([[1, 1]]), array([0]))])
        (folder / "models" / f"m{number:03d}.onnx").write_bytes(content.SerializeToString())
    checks = "".join(
        f"  - {{check: AUD905, id: {name}, params: {{number: {number}}}}}\n"
        for number, name in enumerate(("first", "second"))
    )
    (folder / "many.yaml").write_text(HEAD.format(name="many", path="models/*.onnx") + checks)
