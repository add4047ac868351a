"""Dossiers as a user asks for them: of the demo, by name, with declarations, and refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from tests.functional.command import Ended, auditor

DECLARED = """\
not_applicable:
  - framework: eu-ai-act
    row: article-53-base
    reason: the model is not a general-purpose model
    declared_by: product owner
  - framework: eu-ai-act
    row: attack-adversarial-examples
    reason: nobody would attack it
    declared_by: product owner
"""


@pytest.fixture
def run(demo: tuple[Path, Ended], tmp_path: Path) -> Path:
    """A copy of the demo's folder that a test may write to."""
    return shutil.copytree(demo[0] / "run", tmp_path / "run")


def statuses(path: Path) -> dict[str, str]:
    dossier = json.loads(path.read_text())
    return {cell["row"]: cell["status"] for part in dossier["sections"] for cell in part["cells"]}


def test_a_dossier_is_written_into_the_runs_folder(run: Path) -> None:
    """HTML and Markdown by default, with the report whose digest they name."""
    for name in ("report.html", "audit.json"):
        (run / name).unlink()
    ended = auditor("report", "run", "--framework", "eu-ai-act", cwd=run.parent)
    assert (ended.code, ended.err) == (0, "")
    names = ["audit.json", "dossier-eu-ai-act.html", "dossier-eu-ai-act.md"]
    assert ended.out.split() == [f"run/{name}" for name in names]
    assert not (run / "report.html").exists()
    digest = hashlib.sha256((run / "audit.json").read_bytes()).hexdigest()
    assert f"sha256:{digest}" in (run / names[1]).read_text()
    assert f"sha256:{digest}" in (run / names[2]).read_text()
    assert (run / names[1]).stat().st_size < 1_500_000


def test_the_violated_property_fails_its_rows_and_nothing_else(run: Path) -> None:
    """The demo's planted violation is told in every row that its check answers."""
    ended = auditor("report", "run", "--framework", "eu-ai-act", "--framework", "iso-24029-2",
                    "--framework-format", "json", cwd=run.parent)  # fmt: skip
    assert ended.code == 0
    act = statuses(run / "dossier-eu-ai-act.json")
    assert act["attack-adversarial-examples"] == "evidence fail"
    assert act["attack-confidentiality"] == "not assessed"
    assert act["article-53-digest"] == "evidence pass"
    formal = statuses(run / "dossier-iso-24029-2.json")
    assert [row for row, status in formal.items() if status == "evidence fail"] == [
        "written-properties"
    ]
    entries = json.loads((run / "dossier-iso-24029-2.json").read_text())["properties"]
    assert {entry["name"]: entry["verdict"] for entry in entries if entry["code"] == "AUD201"} == {
        "steady-three": "holds", "smudged-zero": "holds", "noisy-eight": "violated",
    }  # fmt: skip
    assert all("real arithmetic" in entry["arithmetic"] for entry in entries if
               entry["code"] != "AUD204")  # fmt: skip


def test_a_declaration_is_shown_and_hides_no_failure(run: Path) -> None:
    """One row is out, the other fails all the same."""
    (run.parent / "applicability.yaml").write_text(DECLARED)
    ended = auditor("report", "run", "--framework", "eu-ai-act", "--framework-format", "json",
                    "--applicability", "applicability.yaml", cwd=run.parent)  # fmt: skip
    assert ended.code == 0
    found = statuses(run / "dossier-eu-ai-act.json")
    assert found["article-53-base"] == "not applicable"
    assert found["attack-adversarial-examples"] == "evidence fail"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("article-53-bas", "unknown row of eu-ai-act 'article-53-bas'; did you mean"),
        ("article-53-base\n    reasn: x", "unknown key 'reasn'; did you mean 'reason'"),
    ],
)
def test_a_declaration_that_is_wrong_writes_nothing(run: Path, written: str, told: str) -> None:
    """One line with the way out, and no file."""
    text = DECLARED.replace("article-53-base", written)
    (run.parent / "applicability.yaml").write_text(text)
    ended = auditor("report", "run", "--framework", "eu-ai-act", "--applicability",
                    "applicability.yaml", cwd=run.parent)  # fmt: skip
    assert ended.code == 2
    assert told in ended.err
    assert not list(run.glob("dossier-*"))


def test_options_of_dossiers_need_a_framework(run: Path) -> None:
    """An option without effect is an error, and so is a framework nobody knows."""
    alone = auditor("report", "run", "--framework-format", "json", cwd=run.parent)
    assert (alone.code, "--framework ID" in alone.err) == (2, True)
    unknown = auditor("report", "run", "--framework", "eu-ai-ac", cwd=run.parent)
    assert (unknown.code, "did you mean 'eu-ai-act'?" in unknown.err) == (2, True)


def test_output_keeps_its_meaning_beside_a_framework(run: Path) -> None:
    """`-o` writes the format it names to the file it names."""
    ended = auditor("report", "run", "-o", "html=mine.html", "--framework", "iso-42001",
                    cwd=run.parent)  # fmt: skip
    assert ended.code == 0
    assert (run.parent / "mine.html").read_bytes() == (run / "report.html").read_bytes()
    assert (run / "dossier-iso-42001.md").is_file()


def test_an_interrupted_run_is_told_as_one(run: Path) -> None:
    """Of a run that ended early only what was answered is evidence."""
    ledger = run / "ledger.jsonl"
    ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:3]))
    ended = auditor("report", "run", "--framework", "eu-ai-act", "--framework-format", "json",
                    cwd=run.parent)  # fmt: skip
    assert (ended.code, "This run is not complete" in ended.err) == (0, True)
    found = statuses(run / "dossier-eu-ai-act.json")
    assert found["attack-adversarial-examples"] == "not assessed"
    assert "evidence fail" not in found.values()


def test_a_rescinded_name_leads_to_its_replacement_and_says_so(run: Path) -> None:
    """SR 11-7 is no longer in force."""
    ended = auditor("report", "run", "--framework", "sr-11-7", cwd=run.parent)
    assert (ended.code, "SR 11-7 was rescinded" in ended.err) == (0, True)
    assert (run / "dossier-sr-26-2.html").is_file()


def test_frameworks_are_listed_with_their_age(tmp_path: Path) -> None:
    """Name, version and days since the last review."""
    ended = auditor("list", "frameworks", "--json", cwd=tmp_path)
    found = [json.loads(line) for line in ended.out.splitlines()]
    assert [each["name"] for each in found] == [
        "eu-ai-act", "iso-24029-2", "iso-42001", "nist-ai-rmf", "sr-26-2",
    ]  # fmt: skip
    assert all(each["rows"] and isinstance(each["review_age_days"], int) for each in found)
    table = auditor("list", "frameworks", cwd=tmp_path).out
    assert all(f"{each['last_reviewed']}" in table for each in found)
    assert "days" in table
