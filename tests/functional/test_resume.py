"""An audit that is interrupted or killed goes on where it stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from tests.functional.command import auditor, clean_environment, command_line, heed_interrupts
from tests.functional.test_demo import read_report, without_times

pytestmark = pytest.mark.slow
WAIT_S = 120
DEMO = Path(str(files("auditor_specs"))) / "plans" / "demo"
RADII = ("0.05", "0.06", "0.07", "0.08", "0.09", "0.1")
CHECKS = [f"radius-{radius}" for radius in RADII]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a plan of six checks that take a moment each, all of them violated."""
    checks = "".join(
        f"  - check: AUD202\n    id: radius-{radius}\n"
        f"    params: {{inputs: {DEMO / 'digits_test.npz'}, radius: {radius}, count: 25}}\n"
        for radius in RADII
    )
    plan = f"version: 1\nname: six\nsubjects:\n  - path: {DEMO / 'digits.onnx'}\nchecks:\n{checks}"
    (tmp_path / "plan.yaml").write_text(plan)
    return tmp_path


def committed(folder: Path) -> Counter[str]:
    """How often the ledger holds a result of each check."""
    ledger = folder / "run" / "ledger.jsonl"
    lines = ledger.read_text().splitlines() if ledger.is_file() else []
    entries = [json.loads(line)["entry"] for line in lines]
    return Counter(e["body"]["id"] for e in entries if e["kind"] == "result")


def start_and_stop(folder: Path, after: int, how: signal.Signals) -> int:
    """Start the demo, send a signal once `after` results are committed; its exit code."""
    process = subprocess.Popen(
        command_line("run", "plan.yaml", "--out", "run", "--workers", "1"),
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=heed_interrupts,
    )
    deadline = time.monotonic() + WAIT_S
    while committed(folder).total() < after:
        assert process.poll() is None, "ended before it could be stopped"
        assert time.monotonic() < deadline, "no result in time"
        time.sleep(0.02)
    process.send_signal(how)
    return process.wait(timeout=WAIT_S)


def test_ctrl_c_leaves_a_run_that_resumes_without_repeating(folder: Path) -> None:
    code = start_and_stop(folder, 2, signal.SIGINT)
    done = committed(folder)
    assert code == 130
    assert 2 <= done.total() < len(CHECKS)
    partial = auditor("gate", "run", cwd=folder)
    assert "the run ended before this check" in partial.out
    resumed = auditor("run", "plan.yaml", "--out", "run", cwd=folder)
    assert f"{len(CHECKS)} checks, {done.total()} known from before" in resumed.err
    assert committed(folder) == Counter(dict.fromkeys(CHECKS, 1))


def test_a_killed_run_ends_with_the_report_of_an_uninterrupted_one(folder: Path) -> None:
    whole = auditor("run", "plan.yaml", "--out", "whole", cwd=folder)
    for after in (1, 3):
        assert start_and_stop(folder, after, signal.SIGKILL) == -signal.SIGKILL
    assert auditor("run", "plan.yaml", "--out", "run", cwd=folder).code == whole.code
    assert committed(folder) == Counter(dict.fromkeys(CHECKS, 1))
    reports = [read_report(folder / name) for name in ("whole", "run")]
    assert without_times(reports[0]) == without_times(reports[1])


def test_a_changed_plan_is_shown_and_needs_extend(folder: Path) -> None:
    only = ("--out", "run", "--check", CHECKS[0])
    assert auditor("run", "plan.yaml", *only, cwd=folder).code in (1, 3)
    changed = auditor("run", "plan.yaml", *only, "--seed", "5", cwd=folder)
    assert changed.code == 2
    assert "holds a run of a different plan: -seed: 0; +seed: 5; add --extend" in changed.err
    auditor("run", "plan.yaml", *only, "--seed", "5", "--extend", cwd=folder)
    assert read_report(folder / "run")["seed"] == 5


def test_a_time_cap_leaves_the_rest_for_later(folder: Path) -> None:
    ended = auditor("run", "plan.yaml", "--out", "run", "--max-time", "0.01", cwd=folder)
    assert ended.code in (1, 3)
    report = read_report(folder / "run")
    assert report["complete"] is False
    assert "skipped" in {r["answer"]["verdict"] for r in report["results"]}
