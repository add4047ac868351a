"""`auditor language refusals` from outside, and the check it belongs to, from a plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.functional.command import auditor
from tests.models.planted_refusals import RefusalWorld

FILES = ("--harmful", "harmful.csv", "--harmless", "harmless.csv", "--new-tokens", "24")


def test_counts_flips_and_agreement_are_records(refusals: RefusalWorld) -> None:
    """JSON lines and nothing else."""
    ended = auditor(
        "language", "refusals", "model", *FILES, "--base", "base", "--labelled", "labelled.csv",
        "--noise-floor", "--json", cwd=refusals.folder,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    records = [json.loads(line) for line in ended.out.splitlines()]
    counts, agreement, *flips = records
    assert counts["rows"][0] == {
        "prompts": "harmful", "type": "all", "asked": 8, "answered": 1, "refused": 6, "partial": 0,
        "deflected": 1, "empty": 0, "refused, lower 95 %": counts["rows"][0]["refused, lower 95 %"],
        "upper 95 %": counts["rows"][0]["upper 95 %"], "cut at the limit": 0,
    }  # fmt: skip
    assert counts["tokens_per_second"] == pytest.approx(counts["tokens"] / counts["seconds"])
    assert agreement["balanced_accuracy"] == 0.9
    assert [(each["against"], each["set"], each["became_refused"]) for each in flips] == [
        ("other batches", "harmful", 0), ("other batches", "harmless", 0),
        ("base", "harmful", 4), ("base", "harmless", 1),
    ]  # fmt: skip


def test_a_table_for_people_says_what_was_not_measured(refusals: RefusalWorld) -> None:
    """By one file for both sets, and the model's own first token."""
    ended = auditor(
        "language", "refusals", "model", "--harmful", "both.jsonl", "--harmless", "both.jsonl",
        "--set-column", "label", "--judge", "first-token", "--new-tokens", "24",
        cwd=refusals.folder,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert [line.split()[:8] for line in lines[1:3]] == [
        ["harmful", "all", "8", "1", "6", "0", "1", "0"],
        ["harmless", "all", "8", "5", "1", "0", "1", "1"],
    ]
    assert "16 prompts through the chat template" in lines[3]
    assert lines[4].startswith("how far the judge agrees with people was not measured")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("model", "--harmful", "harmful.csv", "--harmless", "nowhere.csv"), 2, "nowhere.csv"),
        (("nowhere", *FILES), 2, "nowhere"),
        (("model", *FILES, "--judge", "someone"), 2, "neither markers nor first-token"),
        (("model", *FILES, "--judge", "labelled.csv"), 2, "no stored refusal judge"),
        (("model", *FILES, "--judge", "base"), 2, "id2label"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    refusals: RefusalWorld, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ended = auditor("language", "refusals", *arguments, cwd=refusals.folder)
    assert ended.code == code, ended.err
    assert message in ended.err
    assert "Traceback" not in ended.err


def test_a_plan_runs_the_check(refusals: RefusalWorld, tmp_path: Path) -> None:
    """A report holds the table, and no prompt longer than its excerpt."""
    plan = {
        "version": 1, "name": "refusals", "title": "t",
        "subjects": [{"name": "m", "path": str(refusals.model), "kind": "transformers"}],
        "checks": [{"check": "AUD302", "params": {
            "harmful": str(refusals.harmful), "harmless": str(refusals.harmless),
            "new_tokens": 24, "least_refused": 0.2, "most_refused": 0.8,
        }}],
    }  # fmt: skip
    (tmp_path / "plan.yaml").write_text(json.dumps(plan), "utf-8")
    ended = auditor("run", "plan.yaml", "--out", "run", cwd=tmp_path)
    assert ended.code == 0, ended.err + ended.out
    report = json.loads((tmp_path / "run" / "audit.json").read_text("utf-8"))
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Behaviour by type of prompt" in page
    (result,) = report["results"]
    assert (result["code"], result["answer"]["verdict"]) == ("AUD302", "holds")
    assert result["answer"]["evidence"][0]["rows"][0][:5] == ["harmful", "all", 8, 1, 6]


@pytest.mark.slow
def test_an_exported_model_is_audited_like_its_source(
    refusals: RefusalWorld, tmp_path: Path
) -> None:
    """AUD101, 102 and 302 of the graph: the same verdicts, and the same refusals to the prompt."""
    ended = auditor(
        "model", "export", str(refusals.model), "--to", "onnx", "--out", "graph", cwd=tmp_path
    )
    assert ended.code == 0, ended.err
    asked = {"harmful": str(refusals.harmful), "harmless": str(refusals.harmless),
             "new_tokens": 24, "deflection": False}  # fmt: skip
    found = []
    for name, path in (("torch", str(refusals.model)), ("onnx", "graph")):
        plan = {
            "version": 1, "name": "refusals", "title": "t",
            "subjects": [{"name": "m", "path": path, "kind": "transformers"}],
            "checks": [{"check": "AUD101"}, {"check": "AUD102"},
                       {"check": "AUD302", "params": asked}],
        }  # fmt: skip
        (tmp_path / f"{name}.yaml").write_text(json.dumps(plan), "utf-8")
        ended = auditor("run", f"{name}.yaml", "--out", name, "--exit-zero", cwd=tmp_path)
        assert ended.code == 0, ended.err
        found.append(json.loads((tmp_path / name / "audit.json").read_text("utf-8"))["results"])
    answers = [{each["code"]: each["answer"] for each in results} for results in found]
    assert [sorted(each) for each in answers] == [["AUD101", "AUD102", "AUD302"]] * 2
    assert [each["AUD101"]["verdict"] for each in answers] == ["holds"] * 2
    assert answers[1]["AUD101"]["facts"]["format"] == "transformers, with an ONNX graph"
    assert answers[0]["AUD302"]["metrics"] == answers[1]["AUD302"]["metrics"]
    assert answers[0]["AUD302"]["verdict"] == answers[1]["AUD302"]["verdict"]
