"""`auditor baseline`, and the gate with what it writes."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from auditor.audit.policy import Policy
from auditor.audit.schemas import SCHEMAS
from auditor.findings import Severity, Verdict
from tests.functional.command import auditor
from tests.models.written_run import made_result, write_run

BROKEN = made_result("AUD201", Verdict.VIOLATED, place="one")
OTHER = made_result("AUD202", Verdict.VIOLATED, Severity.MEDIUM, place="two")
MENDED = made_result("AUD201", Verdict.HOLDS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, its baseline, and two later runs; do not write to it."""
    where = tmp_path_factory.mktemp("runs")
    write_run(where / "old", [BROKEN, OTHER])
    write_run(where / "mended", [MENDED, OTHER])
    worse = made_result("AUD202", Verdict.VIOLATED, Severity.HIGH, place="two")
    write_run(where / "worse", [BROKEN, worse])
    assert auditor("baseline", "create", "old", "-o", "b.json", cwd=where).code == 0
    return where


def test_the_file_is_the_same_whenever_it_is_written(folder: Path, tmp_path: Path) -> None:
    """Same run, same bytes, and they fit the published schema."""
    again = tmp_path / "again.json"
    assert auditor("baseline", "create", "old", "-o", again, cwd=folder).code == 0
    assert again.read_bytes() == (folder / "b.json").read_bytes()
    written = json.loads(again.read_text())
    jsonschema.validate(written, SCHEMAS["baseline"]())
    assert list(written) == sorted(written)


def test_only_what_is_new_or_worse_gates(folder: Path) -> None:
    """A baseline file and the earlier run itself say the same."""
    for known in ("b.json", "old", "old/audit.json"):
        old = auditor("gate", "old", "--baseline", known, cwd=folder)
        assert (old.code, "gate: pass (2 baseline)" in old.out) == (0, True)
        worse = auditor("gate", "worse", "--baseline", known, cwd=folder)
        assert (worse.code, "two is broken (worse than in the baseline)" in worse.out) == (1, True)


def test_fixed_findings_are_named_by_gate_and_show(folder: Path) -> None:
    """So that the file can be written again without them."""
    gated = auditor("gate", "mended", "--baseline", "b.json", cwd=folder)
    assert (gated.code, "fixed since the baseline: AUD201: one is broken" in gated.err) == (0, True)
    shown = auditor("baseline", "show", "b.json", "--against", "mended", cwd=folder)
    states = {line.split()[2]: line.split()[0] for line in shown.out.splitlines()[1:3]}
    assert states == {"AUD201": "fixed", "AUD202": "known"}
    worse = auditor("baseline", "show", "b.json", "--against", "worse", "--json", cwd=folder)
    gates = [json.loads(line) for line in worse.out.splitlines() if '"gates"' in line]
    assert [each["result"] for each in gates] == ["AUD202"]


def test_missed_thresholds_are_known_under_the_policy_given(tmp_path: Path) -> None:
    """Those of the run, or of the file that `create` was given."""
    from auditor.findings import Metric

    metric = Metric(name="share", value=0.4)
    write_run(tmp_path / "run", [made_result("AUD202", Verdict.HOLDS, metrics=(metric,))])
    (tmp_path / "p.yaml").write_text(
        "gates: [{check: AUD202, metric: share, op: '>=', value: 0.5}]\n"
    )
    policy = ("--policy", "p.yaml")
    auditor("baseline", "create", "run", "-o", "plain.json", cwd=tmp_path)
    auditor("baseline", "create", "run", "-o", "strict.json", *policy, cwd=tmp_path)
    codes = [
        auditor("gate", "run", *policy, "--baseline", name, cwd=tmp_path).code
        for name in ("plain.json", "strict.json")
    ]
    assert codes == [1, 0]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (
            '{"format": "auditor-baseline", "version": 2}',
            "baseline version 2, this auditor reads 1",
        ),
        ('{"format": "auditor-baseline", "version": 1}', "Field required"),
        ("{}", "schema version None"),
        ("{", "not valid JSON"),
    ],
)
def test_a_file_that_is_no_baseline_is_one_line(tmp_path: Path, content: str, part: str) -> None:
    """It does not gate as if nothing were known."""
    write_run(tmp_path / "run", [BROKEN])
    (tmp_path / "b.json").write_text(content)
    ended = auditor("gate", "run", "--baseline", "b.json", cwd=tmp_path)
    assert (ended.code, part in ended.err, len(ended.err.splitlines())) == (2, True, 1)


def test_only_a_baseline_is_written_over(folder: Path, tmp_path: Path) -> None:
    """An older one is; anything else is not."""
    target = tmp_path / "b.json"
    auditor("baseline", "create", "old", "-o", target, cwd=folder)
    assert auditor("baseline", "create", "mended", "-o", target, cwd=folder).code == 0
    assert [point["check"] for point in json.loads(target.read_text())["known"]] == ["AUD202"]
    target.write_text("precious")
    refused = auditor("baseline", "create", "old", "-o", target, cwd=folder)
    assert (refused.code, target.read_text()) == (2, "precious")


def test_a_run_gated_under_a_policy_file_keeps_it(tmp_path: Path) -> None:
    """Without --policy the gate asks what was asked then; --fail-on comes on top."""
    strict = Policy(fail_on=Severity.LOW)
    low = made_result("AUD201", Verdict.VIOLATED, Severity.MEDIUM)
    report = write_run(tmp_path / "run", [low], policy=strict)
    ended = auditor("gate", "run", "--json", cwd=tmp_path)
    decision = json.loads(ended.out)
    assert (ended.code, decision["policy_digest"]) == (1, strict.digest)
    assert decision == json.loads(report.gate.model_dump_json())
    before = (tmp_path / "run" / "audit.json").read_bytes()
    assert auditor("report", "run", "--format", "json", cwd=tmp_path).code == 0
    assert (tmp_path / "run" / "audit.json").read_bytes() == before
    assert auditor("gate", "run", "--fail-on", "high", cwd=tmp_path).code == 0


@pytest.mark.slow
def test_run_records_the_policy_it_was_given(tmp_path: Path) -> None:
    """The file may be gone later; another policy is recorded without computing anything anew."""
    model = Path(str(files("auditor_specs"))) / "plans" / "demo" / "digits.onnx"
    (tmp_path / "plan.yaml").write_text(
        f"version: 1\nname: small\nsubjects: [{{path: '{model}'}}]\nchecks: [{{check: AUD101}}]\n"
    )
    (tmp_path / "p.yaml").write_text("require: [AUD202]\n")
    run = ("run", "plan.yaml", "--out", "run", "--progress", "plain")
    assert auditor(*run, "--policy", "p.yaml", cwd=tmp_path).code == 3
    (tmp_path / "p.yaml").unlink()
    ended = auditor("gate", "run", cwd=tmp_path)
    assert (ended.code, "the policy requires AUD202" in ended.out) == (3, True)
    before = (tmp_path / "run" / "audit.json").read_bytes()
    auditor("report", "run", cwd=tmp_path)
    assert (tmp_path / "run" / "audit.json").read_bytes() == before
    again = auditor(*run, cwd=tmp_path)
    assert (again.code, "1 known from before" in again.err) == (0, True)
    assert auditor("gate", "run", cwd=tmp_path).code == 0


def test_texts_of_a_baseline_are_inert_where_they_are_shown(tmp_path: Path) -> None:
    """No escape sequence, no command of a build log, no markup gets through."""
    report = write_run(tmp_path / "run", [BROKEN])
    auditor("baseline", "create", "run", "-o", "b.json", cwd=tmp_path)
    written = json.loads((tmp_path / "b.json").read_text())
    evil = "\x1b[2J[red]x[/red]\n::error::y\u202e"
    written["known"][0] |= {"title": evil, "result": evil}
    written["models"][0]["name"] = evil
    (tmp_path / "b.json").write_text(json.dumps(written))
    shown = auditor("baseline", "show", "b.json", cwd=tmp_path)
    gated = auditor("gate", "run", "--baseline", "b.json", cwd=tmp_path)
    assert (shown.code, gated.code) == (0, 0)
    for text in (shown.out, gated.out, gated.err):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert not any(line.startswith("::") for line in text.splitlines())
    assert "[red]x[/red]" in shown.out
    assert report.gate.verdict == "fail"
