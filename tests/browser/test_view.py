"""`auditor view` in a real browser: from the list to a report and to a comparison."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.chromium import Chromium
from tests.functional.viewed_runs import viewing, write_run
from tests.golden.sample_comparison import sample_successor
from tests.golden.sample_report import sample_report

WAIT_MS = 60_000


def test_a_browser_goes_from_the_list_to_a_report_and_a_comparison(
    chromium: Chromium, tmp_path: Path
) -> None:
    """By clicking; nothing is written to the console and nothing is asked of another origin."""
    write_run(tmp_path / "v1", sample_report(), "html")
    write_run(tmp_path / "deeper/v2", sample_successor())
    with viewing(tmp_path) as viewed, chromium.open(viewed.url) as opened:
        page = opened.page
        assert page.url == f"{viewed.origin}/"
        page.get_by_role("link", name="v1", exact=True).click()
        expect(page).to_have_title(re.compile("^Gate failed: "), timeout=WAIT_MS)
        page.go_back()
        page.get_by_role("radio", name="old: v1", exact=True).check()
        page.get_by_role("radio", name="new: deeper/v2", exact=True).check()
        page.get_by_role("button", name="Compare old with new").click()
        expect(page).to_have_title(
            re.compile("^Gate failed before and failed now"), timeout=WAIT_MS
        )
        assert page.locator("svg.interval").count() == 4
        assert opened.messages == []
        assert len(opened.requests) >= 3
        elsewhere = [each for each in opened.requests
                     if not each.startswith((f"{viewed.origin}/", "data:"))]  # fmt: skip
        assert elsewhere == []
