"""The demo from start to gate, as a user meets it."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.functional.command import Ended, auditor

WAIVER = """\
- match: noisy-eight
  model_digest: any
  reason: scans are cleaned before they reach the model
  approved_by: release owner
  expires: {expires}
"""
CHECKS = {
    "AUD101": "holds",
    "AUD102": "holds",
    "AUD103": "holds",
    "steady-three": "holds",
    "smudged-zero": "holds",
    "noisy-eight": "violated",
    "robustness": "holds",
    "patterns-decide": "holds",
    "patterns-exclude": "holds",
    "explained": "holds",
}


def without_times(value: Any) -> Any:
    """A report without the fields that say when and how long."""
    if isinstance(value, dict):
        return {key: without_times(child) for key, child in value.items() if key != "timing"}
    if isinstance(value, list):
        return [without_times(child) for child in value]
    return value


def read_report(folder: Path) -> Any:
    return json.loads((folder / "audit.json").read_text())


def test_the_demo_fails_its_gate_on_the_violated_property(demo: tuple[Path, Ended]) -> None:
    folder, ended = demo
    report = read_report(folder / "run")
    assert ended.code == 1
    assert {r["id"]: r["answer"]["verdict"] for r in report["results"]} == CHECKS
    assert "fail: noisy-eight: noisy-eight is violated" in ended.out
    assert (folder / "run" / "report.html").stat().st_size < 1_500_000


def test_the_witness_was_replayed_and_is_shown_as_a_picture(demo: tuple[Path, Ended]) -> None:
    report = read_report(demo[0] / "run")
    (finding,) = next(r for r in report["results"] if r["id"] == "noisy-eight")["answer"][
        "findings"
    ]
    witness, pictures = finding["evidence"]
    assert witness["exact_violates"] is True
    assert [replay["violates"] for replay in witness["replays"]] == [True, True]
    assert [(image["width"], image["height"]) for image in pictures["images"]] == [(8, 8)] * 3


def gate(demo: tuple[Path, Ended], *arguments: str, waiver_days: int | None = None) -> Ended:
    folder = demo[0]
    options: list[str] = []
    if waiver_days is not None:
        expires = datetime.now(UTC).date() + timedelta(days=waiver_days)
        file = folder / f"waivers{waiver_days}.yaml"
        file.write_text(WAIVER.format(expires=expires))
        options = ["--waivers", file.name]
    return auditor("gate", "run", *options, *arguments, cwd=folder)


def test_the_gate_fails_and_a_waiver_with_an_end_covers_it(demo: tuple[Path, Ended]) -> None:
    assert gate(demo).code == 1
    covered = gate(demo, waiver_days=90)
    assert (covered.code, "gate: pass (10 pass, 1 waived)" in covered.out) == (0, True)


def test_an_expired_waiver_covers_nothing_and_is_named(demo: tuple[Path, Ended]) -> None:
    ended = gate(demo, waiver_days=-1)
    assert ended.code == 1
    assert "the finding counts again" in ended.err


def test_exit_zero_changes_the_code_and_not_the_verdict(demo: tuple[Path, Ended]) -> None:
    ended = gate(demo, "--exit-zero", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["verdict"] == "fail"
    assert gate(demo, "--allow-inconclusive").code == 1


def test_a_run_is_its_own_baseline(demo: tuple[Path, Ended]) -> None:
    assert gate(demo, "--baseline", "run").code == 0


def test_a_run_does_not_differ_from_itself(demo: tuple[Path, Ended]) -> None:
    ended = auditor("diff", "run", "run", cwd=demo[0])
    assert ended.out.splitlines()[-1] == (
        "gate fail -> fail; 0 new and 0 fixed findings, 0 differences"
    )


@pytest.mark.slow
def test_the_same_plan_twice_gives_the_same_report_apart_from_times(
    demo: tuple[Path, Ended], tmp_path: Path
) -> None:
    """With another number of workers as well."""
    again = auditor("run", "demo", "--out", "run", "--workers", "1", cwd=tmp_path)
    assert again.code == 1
    first, second = read_report(demo[0] / "run"), read_report(tmp_path / "run")
    assert first != second
    assert without_times(first) == without_times(second)


def test_issuing_it_again_computes_nothing_and_writes_the_same_bytes(
    demo: tuple[Path, Ended], tmp_path: Path
) -> None:
    shutil.copytree(demo[0] / "run", tmp_path / "run")
    before = (tmp_path / "run" / "ledger.jsonl").read_bytes()
    again = auditor("run", "demo", "--out", "run", "--progress", "plain", cwd=tmp_path)
    assert "10 checks, 10 known from before" in again.err
    assert (tmp_path / "run" / "ledger.jsonl").read_bytes() == before
    for name in ("audit.json", "report.html", "audit.sarif", "junit.xml", "summary.md"):
        original = (demo[0] / "run" / name).read_bytes()
        assert (tmp_path / "run" / name).read_bytes() == original


def test_reports_can_be_written_elsewhere(demo: tuple[Path, Ended], tmp_path: Path) -> None:
    target = tmp_path / "out.sarif"
    ended = auditor("report", "run", "-o", f"sarif={target}", cwd=demo[0])
    assert (ended.code, ended.out.strip()) == (0, str(target))
    assert target.read_bytes() == (demo[0] / "run" / "audit.sarif").read_bytes()


def test_github_gets_annotations_and_a_summary(demo: tuple[Path, Ended], tmp_path: Path) -> None:
    summary = tmp_path / "summary"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    ended = auditor("gate", "run", cwd=demo[0], env=env)
    assert ended.code == 1
    assert any(line.startswith("::error ") for line in ended.out.splitlines())
    assert "noisy-eight" in summary.read_text()
    assert "::" not in gate(demo).out
