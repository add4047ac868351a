"""Dossiers, comparisons, repairs and the run list in a real browser, as the report is held to."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor_reports.run_list_page import render_run_list
from tests.browser.chromium import Chromium, Look
from tests.unit.reports.test_run_list_page import line

GOLDENS = Path(__file__).parents[1] / "golden" / "reports"
PAGES = (
    "dossier-eu-ai-act.html", "dossier-iso-24029-2.html", "comparison.html", "fix.html",
    "fix-experts.html", "runs.html",
)  # fmt: skip
LOOKS = {"light": Look(), "dark": Look(scheme="dark"), "phone": Look(width=320, height=800)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages: golden files, byte for byte what is rendered today, and a run list."""
    made = tmp_path_factory.mktemp("pages")
    for name in PAGES[:-1]:
        (made / name).write_bytes((GOLDENS / name).read_bytes())
    (made / "runs.html").write_bytes(render_run_list([line(n) for n in range(3)], "runs"))
    return made


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", PAGES)
def test_no_barrier_no_request_no_message_and_no_sideways_scrolling(
    chromium: Chromium, folder: Path, name: str, look: str
) -> None:
    """WCAG 2.2 AA in both themes and at 320 px."""
    with chromium.open(folder / name, LOOKS[look]) as found:
        assert found.barriers() == []
        assert found.requests == []
        assert found.messages == []
        assert found.overflow() == []
