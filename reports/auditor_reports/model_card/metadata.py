"""The YAML front matter of a model card: library, tags, and a `model-index` of the numbers.

Source: Hugging Face, model card specification (`modelcard.md` of hub-docs). `verified` is
false everywhere: it is the hub's word for numbers that its own service computed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

import yaml

from auditor.findings import AuditReport, CheckResult, Metric, SubjectRecord
from auditor_reports.sanitise import one_line

METRICS_SHOWN = 500
_LIBRARIES = {"transformers": "transformers", "diffusers": "diffusers", "onnx": "onnx"}
_TASKS = {"transformers": "text-generation", "diffusers": "text-to-image"}
NO_DATA = "no data set"
# Lines are never folded: a folded value could begin a line with anything.
_WIDTH = 2**31

Yaml = str | int | float | bool | list["Yaml"] | dict[str, "Yaml"]


def front_matter(
    report: AuditReport,
    subjects: Sequence[SubjectRecord],
    results: Sequence[Sequence[CheckResult]],
) -> Iterator[str]:
    """The lines of the front matter with their fences.

    Args:
        report: The whole report.
        subjects: The models that have an entry.
        results: Of each of them, worst first.
    """
    data: dict[str, Yaml] = {}
    libraries = {_LIBRARIES.get(subject.kind) for subject in subjects}
    if len(libraries) == 1 and (library := libraries.pop()):
        data["library_name"] = library
    data["tags"] = ["auditor", "model-audit"]
    entries, left_out = _model_index(subjects, results)
    if entries:
        data["model-index"] = entries
    data["audit"] = _audit(report, left_out)
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=_WIDTH)
    yield "---"
    yield text.rstrip("\n")
    yield "---"
    yield ""


def _audit(report: AuditReport, left_out: int) -> Yaml:
    """What a program may want to know before it reads a number."""
    found: dict[str, Yaml] = {
        "gate": report.gate.verdict,
        "complete": report.complete,
        "policy_digest": one_line(report.gate.policy_digest, 200),
        "plan_digest": one_line(report.plan_digest, 200),
    }
    if left_out:
        found["metrics_left_out"] = left_out
        found["all_metrics_in"] = "audit.json"
    return found


def _model_index(
    subjects: Sequence[SubjectRecord], results: Sequence[Sequence[CheckResult]]
) -> tuple[list[Yaml], int]:
    """An entry for each model that has a number, and how many numbers are left out."""
    entries: list[Yaml] = []
    left_out, room = 0, METRICS_SHOWN
    for subject, of_subject in zip(subjects, results, strict=True):
        found: list[Yaml] = []
        for result in of_subject:
            metrics = result.answer.metrics
            left_out += max(len(metrics) - room, 0)
            if metrics[:room]:
                found.append(_result(subject, result, metrics[:room]))
            room = max(room - len(metrics), 0)
        if found:
            entries.append({"name": one_line(subject.name, 200) or "unnamed", "results": found})
    return entries, left_out


def _result(subject: SubjectRecord, result: CheckResult, metrics: Sequence[Metric]) -> Yaml:
    """The numbers of one check. Its data set is named by what the plan calls it."""
    names = sorted(result.data_digests.items())
    dataset: dict[str, Yaml] = {
        "type": _slug(names[0][0]) if names else "none",
        "name": one_line(", ".join(name for name, _ in names), 200) or NO_DATA,
        # Keeps the results of two checks on one data set apart.
        "config": one_line(result.id, 200) or result.code,
    }
    if names:
        dataset["revision"] = one_line(names[0][1], 200)
    task: dict[str, Yaml] = {
        "type": _TASKS.get(subject.kind, "other"),
        "name": one_line(f"{result.code} {result.title}", 200),
    }
    return {"task": task, "dataset": dataset, "metrics": [_metric(each) for each in metrics]}


def _metric(metric: Metric) -> Yaml:
    basis: dict[str, Yaml] = {}
    if metric.unit:
        basis["unit"] = one_line(metric.unit, 100)
    if metric.sample_size is not None:
        basis["sample_size"] = metric.sample_size
    if metric.interval:
        basis["interval"] = [_number(metric.interval.lower), _number(metric.interval.upper)]
        basis["confidence"] = _number(metric.interval.confidence)
        basis["method"] = one_line(metric.interval.method, 200)
    found: dict[str, Yaml] = {
        "type": _slug(metric.name),
        "name": one_line(metric.name, 200) or "unnamed",
        "value": _number(metric.value),
        "verified": False,
    }
    if basis:
        found["args"] = basis
    return found


def _number(value: float) -> Yaml:
    """The number; a word where there is none, because the hub's readers know no `.inf`."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _slug(text: str) -> str:
    """Lower-case letters, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", text[:200].lower()).strip("_") or "unnamed"
