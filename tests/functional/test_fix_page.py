"""The page of a repair from the command line: beside its record, and from the record later."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor_cli.main import run_command_line
from auditor_reports.fix.json import render_fix_json
from tests.functional.command import Ended, auditor
from tests.golden.sample_fix import sample_fix
from tests.models.planted_chains import ChainWorld

SHIELD = ("fix", "decoding", "model", "--index", "index", "--prompts", "unsafe.csv",
          "--safe-prompts", "safe.csv", "--new-tokens", "20", "--shield", "rule.json")  # fmt: skip


@pytest.fixture(scope="module")
def repaired(
    chains: ChainWorld, chain_calibration: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Ended]:
    """A folder in which a real repair was measured with a page, and how it ended."""
    folder = tmp_path_factory.mktemp("repaired")
    for path in chains.folder.iterdir():
        (folder / path.name).symlink_to(path)
    shutil.copyfile(chain_calibration, folder / "rule.json")
    ended = auditor(
        *SHIELD, "--out", "record.json", "--html", "pages/page.html", "--json", cwd=folder
    )
    return folder, ended


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the invented record in it, to be run in."""
    (tmp_path / "record.json").write_bytes(render_fix_json(sample_fix()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refused(stored: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Exit 2, one line on stderr that says so, and no new file."""

    def check(message: str, *arguments: str) -> None:
        before = set(stored.rglob("*"))
        assert run_command_line(list(arguments)) == 2
        shown = capsys.readouterr()
        (line,) = shown.err.splitlines()
        assert message in line
        assert (shown.out, set(stored.rglob("*"))) == ("", before)

    return check


def test_a_repair_writes_its_page_beside_its_record(repaired: tuple[Path, Ended]) -> None:
    """Exit code and record are those without it; the page names the digest of the record's file."""
    folder, ended = repaired
    assert ended.code == 0, ended.err
    (line,) = map(json.loads, ended.out.splitlines())
    assert (line["html"], line["path"], line["decision"]) == (
        "pages/page.html", "record.json", "accepted"
    )  # fmt: skip
    content = (folder / "record.json").read_bytes()
    page = (folder / "pages/page.html").read_text("utf-8")
    assert f"<code>sha256:{hashlib.sha256(content).hexdigest()}</code>" in page
    assert '<p class="word">Accepted</p>' in page
    assert page.count("<strong>kept:</strong>") == len(json.loads(content)["reasons"])


def test_the_page_comes_out_the_same_from_the_record(repaired: tuple[Path, Ended]) -> None:
    """Without the model; Markdown with it."""
    folder, _ = repaired
    ended = auditor(
        "report", "fix", "record.json", "--html", "again.html", "--markdown", "again.md", cwd=folder
    )
    assert (ended.code, ended.out, ended.err) == (0, "again.html\nagain.md\n", "")
    assert (folder / "again.html").read_bytes() == (folder / "pages/page.html").read_bytes()
    assert (folder / "again.md").read_text("utf-8").startswith("## Repair decoding: ✅ accepted\n")


def test_a_page_of_a_rejected_repair_is_exit_0(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The decision was taken before; with --json a line for each page."""
    assert run_command_line(["report", "fix", "record.json", "--html", "p.html", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"written": "p.html"}
    assert "Rejected" in (stored / "p.html").read_text("utf-8")


def test_a_record_against_itself_is_warned_of(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = sample_fix().model_copy(update={"decision": "accepted"})
    (stored / "record.json").write_bytes(render_fix_json(changed))
    assert run_command_line(["report", "fix", "record.json", "--markdown", "p.md"]) == 0
    assert "the record contradicts itself: It says accepted" in capsys.readouterr().err


def test_bad_records_and_places_are_one_line_and_exit_2(
    stored: Path, refused: Callable[..., None]
) -> None:
    (stored / "odd.json").write_text('{"format": "auditor-fix", "version": 1, "fix": 3}')
    (stored / "old.html").write_text("mine")
    html = ("--html", "p.html")
    refused("at fix: Input should be a valid string", "report", "fix", "odd.json", *html)
    refused("record of a repair not found: no.json", "report", "fix", "no.json", *html)
    refused("nothing to write; give --html", "report", "fix", "record.json")
    refused("it exists", "report", "fix", "record.json", "--html", "old.html")
    refused("it exists", "report", "fix", "record.json", "--markdown", "record.json")
    refused("both name p.html", "report", "fix", "record.json", *html, "--markdown", "./p.html")
    refused("Missing argument 'RECORD'", "report", "fix")
    assert (stored / "old.html").read_text() == "mine"


@pytest.mark.parametrize("name", ["decoding", "deconfliction"])
def test_a_place_for_a_page_is_refused_before_any_work(
    name: str, stored: Path, refused: Callable[..., None]
) -> None:
    """No model, index or prompt of these exists, and none is looked for."""
    (stored / "old.html").write_text("mine")
    given = ["fix", name, "model", "--index", "index", "--prompts", "no.csv", "--safe-prompts",
             "no.csv", "--out", "new"]  # fmt: skip
    if name == "decoding":
        given += ["--shield", "no.json"]
    else:
        given += ["--preferences", "no.jsonl", "--clean", "no.jsonl", "--calibration", "no.json"]
        refused("--html new.fix.json is at or in new.fix.json", *given, "--html", "new.fix.json")
        refused("--html new/page.html is at or in new", *given, "--html", "new/page.html")
    refused("old.html: it exists, and a page is a new file", *given, "--html", "old.html")
    refused("old.html is no folder", *given, "--html", "old.html/page.html")
    refused("--html new is at or in new", *given, "--html", "./new")


def test_a_runs_folder_called_fix_is_still_reached(refused: Callable[..., None]) -> None:
    """As ./fix; it does not hold a run here."""
    refused("fix/ledger.jsonl", "report", "./fix")
