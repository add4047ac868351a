"""`audit.json` is valid, sorted, reads back as it was, and says what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import jsonschema
import pytest

from auditor.errors import FileMissing, InvalidText
from auditor.findings import AuditReport, Interval, Metric
from auditor_reports.audit_json import load_report, render_json, run_fingerprint, schema
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, poisoned


def with_metric(metric: Metric) -> AuditReport:
    """The sample report, its first result with this metric."""
    report = sample_report()
    first = report.results[0]
    answer = first.answer.model_copy(update={"metrics": (metric,)})
    changed = first.model_copy(update={"answer": answer})
    return report.model_copy(update={"results": (changed, *report.results[1:])})


def written(folder: Path, content: bytes) -> Path:
    """A file with this content."""
    path = folder / "audit.json"
    path.write_bytes(content)
    return path


def test_reading_gives_back_the_report(tmp_path: Path) -> None:
    """Writing and reading is the identity."""
    assert load_report(written(tmp_path, render_json(sample_report()))) == sample_report()


def test_infinities_read_back_as_numbers(tmp_path: Path) -> None:
    """An open interval survives, without a literal that JSON does not have."""
    interval = Interval(lower=-math.inf, upper=math.inf, method="none")
    report = with_metric(Metric(name="m", value=math.inf, interval=interval))
    content = render_json(report)
    assert load_report(written(tmp_path, content)) == report
    json.loads(content, parse_constant=pytest.fail)


def test_not_a_number_reads_back_as_one(tmp_path: Path) -> None:
    """NaN stays NaN."""
    content = render_json(with_metric(Metric(name="m", value=math.nan)))
    metric = load_report(written(tmp_path, content)).results[0].answer.metrics[0]
    assert math.isnan(metric.value)


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_is_written_as_ascii_and_survives(text: str, tmp_path: Path) -> None:
    """None can act in a terminal, and reading and writing again changes nothing."""
    report = poisoned(text)
    content = render_json(report)
    assert content.isascii()
    assert not set(content) & (set(range(32)) - {0x0A})
    assert render_json(load_report(written(tmp_path, content))) == content


def test_keys_are_sorted_and_the_file_ends_with_a_line_end() -> None:
    """The same report is the same text, and `diff` works on it."""
    content = render_json(sample_report())
    assert content == (json.dumps(json.loads(content), sort_keys=True, indent=1) + "\n").encode()


def test_fingerprint_is_the_digest_of_the_file() -> None:
    """Anyone can check it with a digest tool."""
    digest = hashlib.sha256(render_json(sample_report())).hexdigest()
    assert run_fingerprint(sample_report()) == f"sha256:{digest}"


def test_written_reports_fit_the_schema() -> None:
    """Also with numbers that are not finite."""
    validator = jsonschema.Draft202012Validator(schema())
    validator.check_schema(schema())
    for report in (sample_report(), with_metric(Metric(name="m", value=math.inf))):
        assert list(validator.iter_errors(json.loads(render_json(report)))) == []


def test_schema_refuses_an_unknown_verdict() -> None:
    """The schema is not merely permissive."""
    data = json.loads(render_json(sample_report()))
    data["results"][0]["answer"]["verdict"] = "fine"
    assert not jsonschema.Draft202012Validator(schema()).is_valid(data)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A missing report is not an empty one."""
    with pytest.raises(FileMissing, match=r"nowhere\.json"):
        load_report(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", r"audit\.json:1:2: not valid JSON"),
        (b'{"a": NaN}', "NaN is not valid JSON"),
        (b'\xff{"a": 1}', "not UTF-8 at byte 0"),
        (b"[]", "schema version None"),
        (b'{"schema_version": "9"}', "schema version '9', this auditor reads '1'"),
        (b'{"schema_version": "1", "plan": 3}', "at plan: Input should be a valid string"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_bad_file_is_one_clear_line(content: bytes, problem: str, tmp_path: Path) -> None:
    """The message names the file, the place and the problem."""
    with pytest.raises(InvalidText, match=problem) as caught:
        load_report(written(tmp_path, content))
    assert "audit.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_field_is_refused(tmp_path: Path) -> None:
    """A field of another tool or version is not dropped silently."""
    data = json.loads(render_json(sample_report())) | {"grade": "A"}
    with pytest.raises(InvalidText, match="at grade: Extra inputs"):
        load_report(written(tmp_path, json.dumps(data).encode()))
