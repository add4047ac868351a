"""`auditor waiver`: adding, listing, and checking against a run."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from auditor.findings import Severity, Verdict
from tests.functional.command import Ended, auditor
from tests.models.written_run import DIGEST, made_result, write_run


def in_days(days: int) -> str:
    """A day from today, as the command line takes it."""
    return str(datetime.now(UTC).date() + timedelta(days=days))


def add(folder: Path, *more: str, match: str = "AUD201", days: int = 30) -> Ended:
    """Add a waiver to w.yaml."""
    return auditor(
        "waiver", "add", "w.yaml", "--match", match, "--model-digest", DIGEST, "--reason",
        "known: 'noise'", "--approved-by", "release owner", "--expires", in_days(days), *more,
        cwd=folder,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a run that fails on a high and on a critical finding."""
    high = made_result("AUD201", Verdict.VIOLATED)
    critical = made_result("AUD202", Verdict.VIOLATED, Severity.CRITICAL)
    write_run(tmp_path / "run", [high, critical, made_result("AUD301", Verdict.ERROR)])
    return tmp_path


def test_what_is_added_covers_and_its_end_is_announced(folder: Path) -> None:
    """A file that did not exist begins with it; comments in it survive the next one."""
    assert add(folder).code == 0
    file = folder / "w.yaml"
    file.write_text("# why we waive\n" + file.read_text())
    assert add(folder, match="AUD202", days=14).code == 0
    assert file.read_text().startswith("# why we waive\n- match: AUD201\n")
    gated = auditor("gate", "run", "--waivers", "w.yaml", cwd=folder)
    assert (gated.code, "gate: inconclusive (1 open, 2 waived)" in gated.out) == (3, True)
    notes = [line for line in gated.err.splitlines() if line.startswith("note: ")]
    assert notes == [
        f"note: waiver 'AUD202' expires on {in_days(14)} (in 14 days); mend the finding or renew it"
    ]


def test_a_duplicate_and_a_year_and_a_day_are_refused(folder: Path) -> None:
    """The file stays as it is."""
    add(folder)
    before = (folder / "w.yaml").read_bytes()
    for ended, part in (
        (add(folder), "already waives 'AUD201'"),
        (add(folder, match="AUD301", days=366), "more than 365 days away"),
    ):
        assert (ended.code, part in ended.err) == (2, True)
    assert (folder / "w.yaml").read_bytes() == before


def test_the_list_says_how_long_each_has_left(folder: Path) -> None:
    """In force, ending soon, expired."""
    for days, match in ((15, "a"), (14, "b"), (0, "c")):
        add(folder, match=match, days=days)
    file = folder / "w.yaml"
    file.write_text(file.read_text().replace(in_days(15), in_days(-1)))
    ended = auditor("waiver", "list", "w.yaml", "--json", cwd=folder)
    listed = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 0
    assert [(each["match"], each["days_left"], each["state"]) for each in listed] == [
        ("a", -1, "expired"), ("b", 14, "ends soon"), ("c", 0, "ends soon"),
    ]  # fmt: skip


def test_checking_says_what_each_does_and_fails_where_one_does_nothing(folder: Path) -> None:
    """Applies; a glob on a critical finding; an error; nothing at all."""
    add(folder)
    check = ("waiver", "check", "w.yaml", "run")
    assert auditor(*check, cwd=folder).code == 0
    for match in ("AUD202*", "AUD301", "AUD401"):
        add(folder, match=match)
    ended = auditor(*check, "--json", cwd=folder)
    states = {each["match"]: each["state"] for each in map(json.loads, ended.out.splitlines())}
    assert ended.code == 1
    assert states == {
        "AUD201": "applies", "AUD202*": "glob on critical", "AUD301": "no answer",
        "AUD401": "stale",
    }  # fmt: skip


def test_a_waiver_ends_with_its_model(folder: Path) -> None:
    """Fails closed, and says why."""
    add(folder)
    file = folder / "w.yaml"
    file.write_text(file.read_text().replace(DIGEST, "sha256:" + "b" * 64))
    ended = auditor("waiver", "check", "w.yaml", "run", cwd=folder)
    assert (ended.code, "was granted for another model" in ended.err) == (1, True)
    assert auditor("gate", "run", "--waivers", "w.yaml", cwd=folder).code == 1


def test_a_refused_model_cannot_be_waived(tmp_path: Path) -> None:
    """Whatever the file says."""
    write_run(tmp_path / "run", [made_result("AUD201", Verdict.VIOLATED)], refused="a pickle")
    add(tmp_path)
    ended = auditor("gate", "run", "--waivers", "w.yaml", cwd=tmp_path)
    assert (ended.code, "a refused model cannot be waived" in ended.err) == (6, True)


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--expires", "soon", "is no day; write it as YYYY-MM-DD"),
        ("--reason", "  ", "--reason is empty"),
        ("--model-digest", "latest", "neither 'any' nor sha256:"),
    ],
)
def test_a_wrong_option_is_one_line(folder: Path, option: str, value: str, part: str) -> None:
    """Nothing is written."""
    ended = add(folder, option, value)
    assert (ended.code, part in ended.err, len(ended.err.splitlines())) == (2, True, 1)
    assert not (folder / "w.yaml").exists()
