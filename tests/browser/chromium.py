"""Opens files in the Chromium of this machine, headless and offline, and says what they did there.

Playwright drives the installed browser, so that nothing is downloaded; axe-core, which looks for
barriers, comes with its package. `AUDITOR_CHROMIUM` names another executable.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

VARIABLE: Final = "AUDITOR_CHROMIUM"
NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
# No name resolves, and nothing but the page asks for anything.
_ARGUMENTS: Final = (
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
WCAG_AA: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa")


class ChromiumMissing(Exception):
    """There is no browser to drive."""


@dataclass(frozen=True)
class Look:
    """How a page is looked at; sizes in CSS pixels."""

    width: int = 1280
    height: int = 900
    scheme: Literal["light", "dark"] = "light"
    media: Literal["screen", "print"] = "screen"
    reduced_motion: bool = False
    script: bool = True


@dataclass(frozen=True)
class Opened:
    """An open page.

    Attributes:
        page: Playwright's own, for whatever is not here.
        messages: What it wrote to the console, and errors that nobody caught.
        requests: Every address it asked for, the file itself left out.
    """

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def barriers(self) -> list[str]:
        """What axe-core finds against WCAG 2.2, levels A and AA, a line for each element."""
        options = {
            "resultTypes": ["violations"],
            "runOnly": {"type": "tag", "values": list(WCAG_AA)},
            "rules": {"target-size": {"enabled": True}},
        }
        found: Any = Axe().run(self.page, options=options).response["violations"]
        return [
            f"{rule['id']}: {node['html'][:200]}: {node.get('failureSummary', '')}"
            for rule in found
            for node in rule["nodes"]
        ]

    def overflow(self) -> list[str]:
        """Elements that make the page scroll sideways, as their opening tags."""
        found: list[str] = self.page.evaluate(
            """() => {
              const root = document.documentElement, wide = root.clientWidth;
              if (root.scrollWidth <= wide) return [];
              return [...document.querySelectorAll("body *")]
                .filter((one) => one.getBoundingClientRect().right > wide + 1)
                .map((one) => one.cloneNode(false).outerHTML);
            }"""
        )
        return found

    def screenshot(self, target: Path, *, whole: bool = False) -> None:
        """A PNG of the first screen, or of the whole page."""
        self.page.screenshot(path=target, full_page=whole, animations="disabled")


@dataclass(frozen=True)
class Chromium:
    """A running browser."""

    browser: Browser

    @contextmanager
    def open(self, file: Path | str, look: Look | None = None) -> Iterator[Opened]:
        """Open a file, or an address of this machine, in a profile of its own, until leaving."""
        chosen = look or Look()
        context = self.browser.new_context(
            viewport={"width": chosen.width, "height": chosen.height},
            color_scheme=chosen.scheme,
            reduced_motion="reduce" if chosen.reduced_motion else "no-preference",
            java_script_enabled=chosen.script,
            offline=isinstance(file, Path),
        )
        try:
            page = context.new_page()
            if chosen.media == "print":  # otherwise left alone, so that printing is in print style
                page.emulate_media(media="print")
            opened = Opened(page)
            address = file.absolute().as_uri() if isinstance(file, Path) else file
            page.on("console", lambda message: opened.messages.append(message.text))
            page.on("pageerror", lambda error: opened.messages.append(str(error)))
            page.on(
                "request",
                lambda asked: opened.requests.append(asked.url) if asked.url != address else None,
            )
            page.goto(address, wait_until="load")
            yield opened
        finally:
            context.close()


def find_chromium() -> str:
    """The browser's executable.

    Raises:
        ChromiumMissing: No name is on the path, or the variable names no executable.
    """
    named = os.environ.get(VARIABLE)
    names = (named,) if named else NAMES
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise ChromiumMissing(
        f"no browser: {' or '.join(names)} is not an executable; install Chromium, or let "
        f"{VARIABLE} name it"
    )


@contextmanager
def running_chromium() -> Iterator[Chromium]:
    """A headless browser, ended on leaving.

    Raises:
        ChromiumMissing: There is none on this machine.
    """
    executable = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable,
            args=list(_ARGUMENTS),
            chromium_sandbox=os.geteuid() != 0,
        )
        try:
            yield Chromium(browser)
        finally:
            browser.close()
