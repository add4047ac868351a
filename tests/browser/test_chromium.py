"""The browser reports what a bad page does, so that silence about a good one means something."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium, ChromiumMissing, Look, Opened, find_chromium

BAD = """<!doctype html><html><head><title>bad</title></head><body>
<img src="picture.png"><p style="color: #ccc; width: 3000px">pale and wide</p>
<script>console.error("written to the console"); fetch("http://a.example/x").catch(() => {});
setTimeout(() => { throw new Error("not caught"); });</script></body></html>"""


@pytest.fixture(scope="module")
def bad(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A page that does what a report must not do."""
    file = tmp_path_factory.mktemp("bad") / "bad.html"
    file.write_text(BAD)
    with chromium.open(file, Look(width=390)) as opened:
        opened.page.wait_for_timeout(100)
        yield opened


def test_messages_are_heard(bad: Opened) -> None:
    """The console, and errors that nobody caught."""
    said = " ".join(bad.messages)
    assert "written to the console" in said
    assert "not caught" in said


def test_requests_are_seen(bad: Opened) -> None:
    """Of other files and of the network."""
    assert [address.rsplit("/", 1)[1] for address in sorted(bad.requests)] == ["picture.png", "x"]


def test_barriers_are_found(bad: Opened) -> None:
    """A picture without words, pale text, and a page without its language."""
    rules = {barrier.split(":")[0] for barrier in bad.barriers()}
    assert rules == {"image-alt", "color-contrast", "html-has-lang"}


def test_what_is_too_wide_is_named(bad: Opened) -> None:
    """The element that makes the page scroll sideways."""
    assert any("width: 3000px" in element for element in bad.overflow())


def test_a_missing_browser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which variable helps."""
    monkeypatch.setenv("AUDITOR_CHROMIUM", str(Path("/nowhere/chromium")))
    with pytest.raises(ChromiumMissing, match=r"/nowhere/chromium is not .*AUDITOR_"):
        find_chromium()
