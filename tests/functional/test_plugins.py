"""Checks of other packages: found by entry point, and contained when they misbehave."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.functional.command import auditor
from tests.models.misbehaving_checks import MISBEHAVING
from tests.models.tiny import absolute_value

PLUGIN = (
    MISBEHAVING
    + """
from auditor.check import Check, CheckParams
from auditor.findings import Answer, Verdict

def sleeps(subject, params, context):
    time.sleep(600)

def works(subject, params, context):
    blob = context.evidence.put(b"kept", "text/plain", "note.txt")
    return Answer(verdict=Verdict.HOLDS, summary=f"stored {blob.digest}")

def make(code, run):
    return Check(code=code, title=run.__name__, version=1, question="?", method="m",
                 pass_does_not_mean="-", kinds=("onnx",), params=CheckParams, run=run,
                 estimate_s=lambda params: 1.0)

raising, dying = make("AUD901", raises), make("AUD902", dies)
eating, sleeping = make("AUD903", eats), make("AUD904", sleeps)
working, taken = make("AUD905", works), make("AUD101", works)
not_a_check = 7
"""
)
PLAN = """\
version: 1
name: plugins
subjects: [{path: model.onnx}]
checks:
  - check: AUD901
  - check: AUD902
  - check: AUD903
    limits: {memory_mb: 700}
  - check: AUD904
    limits: {time_s: 0.5}
  - check: AUD905
"""


def install(folder: Path, *entries: str) -> dict[str, str]:
    """A distribution with these entry points; the environment that finds it."""
    info = folder / "site" / "misbehaving-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaving\nVersion: 0.1\n")
    lines = "".join(f"{entry} = misbehaving:{entry}\n" for entry in entries)
    (info / "entry_points.txt").write_text(f"[auditor.checks]\n{lines}")
    (folder / "site" / "misbehaving.py").write_text(PLUGIN)
    (folder / "model.onnx").write_bytes(absolute_value().SerializeToString())
    (folder / "plan.yaml").write_text(PLAN)
    return {"PYTHONPATH": str(folder / "site")}


@pytest.mark.slow
def test_a_check_that_crashes_hangs_or_overeats_is_a_result(tmp_path: Path) -> None:
    env = install(tmp_path, "raising", "dying", "eating", "sleeping", "working")
    ended = auditor("run", "plan.yaml", "--out", "run", cwd=tmp_path, env=env)
    results = json.loads((tmp_path / "run" / "audit.json").read_text())["results"]
    answers = {r["id"]: (r["answer"]["verdict"], r["answer"]["reason"]) for r in results}
    assert ended.code == 3
    assert answers["AUD901"] == ("error", "ValueError: the layer is not there")
    assert answers["AUD902"] == ("error", "the worker was killed by SIGABRT")
    assert answers["AUD903"][0] == "unknown"
    assert "the limit is 700 MB" in answers["AUD903"][1]
    assert answers["AUD904"] == ("unknown", "limit reached: stopped after 20.625 s")
    assert answers["AUD905"][0] == "holds"
    traceback = next(r for r in results if r["id"] == "AUD901")["traceback"]
    assert "ValueError: the layer is not there" in traceback
    (blob,) = (path for path in (tmp_path / "run" / "evidence").rglob("*") if path.is_file())
    assert blob.read_bytes() == b"kept"


def test_a_crash_is_tried_again_and_an_answer_is_not(tmp_path: Path) -> None:
    env = install(tmp_path, "raising", "dying", "eating", "sleeping", "working")
    only = ("--out", "run", "--check", "AUD901", "--check", "AUD905")
    auditor("run", "plan.yaml", *only, cwd=tmp_path, env=env)
    again = auditor("run", "plan.yaml", *only, cwd=tmp_path, env=env)
    assert "2 checks, 1 known from before" in again.err


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ("taken", "two checks carry the code AUD101"),
        ("not_a_check", "is a int, not a Check"),
        ("missing", "AttributeError"),
    ],
)
def test_a_broken_plugin_is_an_error_with_its_name(tmp_path: Path, entry: str, part: str) -> None:
    env = install(tmp_path, entry)
    ended = auditor("list", "checks", cwd=tmp_path, env=env)
    assert ended.code == 2
    assert part in ended.err
    assert len(ended.err.splitlines()) == 1
