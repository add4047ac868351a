"""One browser for every test here, and the pages they open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor_reports.html import render_html
from tests.browser.chromium import Chromium, ChromiumMissing, running_chromium
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, poisoned


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """A running browser; tests that need one are skipped where there is none."""
    try:
        with running_chromium() as browser:
            yield browser
    except ChromiumMissing as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def sample_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the sample report."""
    path = tmp_path_factory.mktemp("sample") / "report.html"
    path.write_bytes(render_html(sample_report()))
    return path


@pytest.fixture(scope="session")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a report whose every text would act, reorder or stretch the page."""
    names = ("script", "attribute", "end of script", "end of style", "markdown", "direction")
    text = " ".join(HOSTILE_TEXTS[name] for name in names) + HOSTILE_TEXTS["long"][:300]
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    path.write_bytes(render_html(poisoned(text)))
    return path
