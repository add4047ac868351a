"""The tutorial does what it says: its files are written and its commands run, in order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.functional.tutorial_page import ROOT, blocks, environment, lines, run


@pytest.mark.slow
def test_every_command_ends_as_the_tutorial_says(tmp_path: Path) -> None:
    """Exit codes and files are those of the page."""
    env = environment(tmp_path / "bin")
    folder = tmp_path / "work"
    folder.mkdir()
    expires = str(datetime.now(UTC).date() + timedelta(days=90))
    commands = 0
    for block in blocks("tutorial.md"):
        if "file" in block.options:
            text = block.text.replace("@IN_90_DAYS@", expires)
            (folder / block.options["file"]).write_text(text)
            continue
        assert block.language == "sh"
        where = ROOT if block.options.get("run") == "clone" else folder
        for line in lines(block):
            run(line, where, env)
            commands += 1
    assert commands > 10
    workflow = yaml.safe_load((folder / "workflow.yaml").read_text())
    steps = workflow["jobs"]["audit"]["steps"]
    (given,) = [step["with"] for step in steps if step["uses"].startswith("OWNER/auditor@")]
    known = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    assert set(given) <= set(known)
    command = "auditor run {plan} --out {run-folder} --waivers {waivers}".format(**given)
    assert f"\n{command}\n" in (ROOT / "docs" / "tutorial.md").read_text()
