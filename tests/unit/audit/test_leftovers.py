"""What a killed audit left unfinished is removed, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from auditor.audit.ledger import EvidenceFolder
from auditor.audit.leftovers import remove_unfinished
from auditor.audit.plan import expand_subjects, load_plan

KILLED_WHILE_WRITING = """\
import os, signal, sys
from pathlib import Path
from auditor.audit.ledger import EvidenceFolder

os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
EvidenceFolder(Path(sys.argv[1])).put(b"half", "text/plain")
"""


def test_unfinished_evidence_goes_and_finished_stays(tmp_path: Path) -> None:
    folder = tmp_path / "evidence"
    kept = EvidenceFolder(folder).put(b"whole", "text/plain")
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(folder)]
    assert subprocess.run(command, check=False).returncode != 0
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 2
    remove_unfinished(tmp_path)
    left = [path for path in folder.rglob("*") if path.is_file()]
    assert left == [EvidenceFolder(folder).path(kept.digest)]


def test_a_folder_without_evidence_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".other.tmp").write_text("not ours")
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".other.tmp"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("models/*", ["models/whole"]),
        ("*/*", ["models/whole"]),
        ("models/.*", ["models/.new.12ab.unfinished"]),
        (".hidden/*", [".hidden/whole"]),
    ],
)
def test_a_glob_names_nothing_that_is_hidden_unless_it_says_so(
    pattern: str, found: list[str], tmp_path: Path
) -> None:
    """A repair that was killed leaves a hidden folder with half a model."""
    for name in ("models/whole", "models/.new.12ab.unfinished", ".hidden/whole"):
        (tmp_path / name).mkdir(parents=True)
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        f"version: 1\nname: globs\nsubjects: [{{path: '{pattern}', kind: transformers}}]\n"
        "checks: [{check: AUD101}]\n"
    )
    paths = [path for _, path, _ in expand_subjects(load_plan(plan, {}))]
    assert [str(path.relative_to(tmp_path)) for path in paths] == found
