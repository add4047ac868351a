"""The command on hostile input of every kind: one line, the right exit code, nothing leaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.functional.command import Ended, auditor
from tests.models.small_audit import PROPERTY, write_small_audit

SECRETS = {
    "HF_TOKEN": "hf_" + "q7Zk" * 9,
    "AWS_SECRET_ACCESS_KEY": "s3cr3t" + "Wx9" * 11,
    "HTTP_AUTHORIZATION": "Bearer " + "eyJ" + "Tm4" * 12,
    "OPENAI_API_KEY": "sk-" + "aB8" * 14,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good model, property and plan."""
    return write_small_audit(tmp_path)


def assert_ends_in_one_line(ended: Ended, code: int) -> str:
    """No traceback, no escape, the code; returns the line."""
    assert ended.code == code, ended
    (line,) = ended.err.splitlines()
    assert line.isprintable()
    assert "Traceback" not in line
    assert "internal error" not in line
    return line


def test_no_secret_of_the_environment_is_written_or_said(folder: Path) -> None:
    """Every file of a run and of its reports, and all that is printed, with tracebacks on."""
    environment = {**SECRETS, "AUDITOR_DEBUG": "1"}
    ended = auditor("run", "plan.yaml", "--out", "run", cwd=folder, env=environment)
    assert ended.code == 0, ended
    listed = auditor("runs", "show", "run", cwd=folder, env=environment)
    failed = auditor("verify", "plan.yaml", "property.yaml", cwd=folder, env=environment)
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert {"ledger.jsonl", "audit.json", "report.html"} <= {path.name for path in written}
    said = [text for each in (ended, listed, failed) for text in (each.out, each.err)]
    texts = [path.read_bytes() for path in written] + [text.encode() for text in said]
    for name, secret in SECRETS.items():
        assert not any(secret.encode() in text for text in texts), name
        assert not any(secret[8:24].encode() in text for text in texts), name


def test_a_hostile_plan_ends_in_one_line(folder: Path) -> None:
    """The place and the way out are named, and nothing is written."""
    (folder / "plan.yaml").write_text('version: 1\n"\\e[31mred\\u202e": 1\n')
    before = sorted(folder.rglob("*"))
    ended = auditor("run", "plan.yaml", "--out", "run", cwd=folder)
    assert "unknown key" in assert_ends_in_one_line(ended, 2)
    assert sorted(folder.rglob("*")) == before


def test_a_property_beyond_the_range_of_floats_ends_in_one_line(folder: Path) -> None:
    """Such a number is read, and no engine computes with it."""
    (folder / "property.yaml").write_text(PROPERTY.replace("value: 0", "value: 1.0e+400"))
    ended = auditor("verify", "model.onnx", "property.yaml", cwd=folder)
    assert "beyond 2 to the" in assert_ends_in_one_line(ended, 3)


def test_a_run_with_a_linked_ledger_leaves_the_linked_file_alone(folder: Path) -> None:
    """A file of one line elsewhere is no torn ledger."""
    victim = folder / "victim"
    victim.write_text("one line without an end")
    (folder / "run").mkdir()
    (folder / "run" / "ledger.jsonl").symlink_to(victim)
    ended = auditor("run", "plan.yaml", "--out", "run", cwd=folder)
    assert "no link" in assert_ends_in_one_line(ended, 4)
    assert victim.read_text() == "one line without an end"


def test_nothing_that_was_planted_in_a_run_folder_leads_out_of_it(folder: Path) -> None:
    """Links where a run writes, and one that is removed with it: what they lead to stays."""
    home = folder / "home"
    home.mkdir()
    victim = home / "precious"
    victim.write_text("precious")
    run = folder / "run"
    (run / "evidence").mkdir(parents=True)
    (run / "evidence" / "home").symlink_to(home)
    for name in ("plan.yaml", "audit.json", "report.html", ".write-test"):
        (run / name).symlink_to(victim)
    ended = auditor("run", "plan.yaml", "--out", "run", cwd=folder)
    assert ended.code == 0, ended
    assert victim.read_text() == "precious"
    (run / ".write-test").unlink()
    assert auditor("runs", "rm", "run", "--yes", cwd=folder).code == 0
    assert not run.exists()
    assert victim.read_text() == "precious"


def test_an_argument_that_is_an_escape_is_spelt_out(folder: Path) -> None:
    """A file of such a name may come from a glob of the shell."""
    assert_ends_in_one_line(auditor("\x1b[31m\u202ered", cwd=folder), 2)
