"""The HTML report in a real browser: quiet, self-contained, for everybody, with any device."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pypdf
import pytest
from playwright.sync_api import Page

from tests.browser.chromium import Chromium, Look, Opened
from tests.golden.sample_report import sample_report

PAGES = ("sample_page", "hostile_page")
RESULTS = "table.results tbody tr:visible"


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> Path:
    """Either page."""
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def opened(chromium: Chromium, sample_page: Path) -> Iterator[Opened]:
    """The sample report, just opened."""
    with chromium.open(sample_page) as found:
        yield found


def shown(page: Page) -> list[str]:
    """The verdicts of the rows of results that can be seen, in their order."""
    return [row.get_attribute("data-verdict") or "" for row in page.locator(RESULTS).all()]


def tab_to(page: Page, name: str) -> None:
    """Press the tabulator until the button of this name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == name:
            return
    raise AssertionError(f"no button {name!r} can be reached with the keyboard")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barrier_no_request_and_no_message(chromium: Chromium, page: Path, scheme: str) -> None:
    """WCAG 2.2 AA in both themes, with nothing fetched and nothing complained of."""
    look = Look(scheme="dark") if scheme == "dark" else Look()
    with chromium.open(page, look) as found:
        assert found.barriers() == []
        assert found.requests == []
        assert found.messages == []


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_scrolls_one_way_only(chromium: Chromium, page: Path, width: int) -> None:
    """Success criterion 1.4.10, reflow; and nothing gets in the way of a finger there."""
    with chromium.open(page, Look(width=width, height=800)) as found:
        assert found.overflow() == []
        assert width == 390 or found.barriers() == []


def test_without_script_everything_is_there(chromium: Chromium, sample_page: Path) -> None:
    """Every chapter, every result and every finding can be read, and nothing is hidden."""
    report = sample_report()
    with chromium.open(sample_page, Look(script=False)) as found:
        page = found.page
        chapters = page.locator("h2").all_inner_texts()
        assert {"Scope", "All checks", "Gate reasoning", "Waivers", "Reproduction"} <= set(chapters)
        assert page.locator(RESULTS).count() == len(report.results)
        assert page.locator("article.result:visible").count() == len(report.results)
        findings = [f for result in report.results for f in result.answer.findings]
        assert page.locator("section.finding:visible").count() == len(findings)
        assert page.locator("button").count() == 0
        assert page.locator("details:not([open]) > summary").first.is_visible()


def test_headings_are_in_order(opened: Opened) -> None:
    """As the browser shows them: one of the first level, and no level skipped."""
    levels = opened.page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')]"
        ".filter(h => h.checkVisibility()).map(h => +h.tagName[1])"
    )
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_verdict_and_scope_are_on_the_first_screen(opened: Opened) -> None:
    """No scrolling to see what was decided about which model."""
    for place in (".decision", ".tally", "#scope", ".subjects", ".columns h2"):
        box = opened.page.locator(place).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 900


def test_the_filter_works_with_the_keyboard(opened: Opened) -> None:
    """Only results of the verdict are left, it is announced, and all come back."""
    page = opened.page
    everything = shown(page)
    violated = everything.count("violated")
    tab_to(page, f"violated {violated}")
    page.keyboard.press("Enter")
    assert shown(page) == ["violated"] * violated
    assert page.get_by_role("status").inner_text() == (
        f"verdict violated; {violated} of {len(everything)} rows shown"
    )
    page.get_by_role("button", name="all").click()
    assert shown(page) == everything


def test_sorting_works_with_mouse_and_keyboard(opened: Opened) -> None:
    """Up, down, and back to worst first; the head says which."""
    page = opened.page
    before = shown(page)
    head = page.locator("table.results thead th", has_text="Time")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    seconds = sorted(result.timing.seconds for result in sample_report().results)
    cells = page.locator("table.results td[data-label=Time]")
    assert [float(cell.get_attribute("data-sort") or "") for cell in cells.all()] == seconds
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "descending"
    assert [float(cell.get_attribute("data-sort") or "") for cell in cells.all()] == seconds[::-1]
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "none"
    assert shown(page) == before


def test_sorting_by_check_compares_text(opened: Opened) -> None:
    """A column without numbers goes by its words."""
    page = opened.page
    page.locator("table.results thead th", has_text="Check").get_by_role("button").click()
    codes = [text[:6] for text in page.locator("table.results tbody th").all_inner_texts()]
    assert codes == sorted(result.code for result in sample_report().results)


def test_focus_is_seen_wherever_it_goes(opened: Opened) -> None:
    """Every element the tabulator reaches has an outline of at least two pixels."""
    page = opened.page
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        name, style, width = page.evaluate(
            "(one => [one.tagName, getComputedStyle(one).outlineStyle,"
            " parseFloat(getComputedStyle(one).outlineWidth)])(document.activeElement)"
        )
        seen.add(name)
        assert (style, width) == ("solid", 2)
    assert {"A", "BUTTON"} <= seen


def test_print_shows_what_is_folded_and_filtered(chromium: Chromium, sample_page: Path) -> None:
    """Paper has no button: folded parts are open, hidden rows are back, contents are gone."""
    with chromium.open(sample_page) as found:
        page = found.page
        page.get_by_role("button", name="holds").click()
        assert len(shown(page)) < len(sample_report().results)
        page.emulate_media(media="print")
        assert len(shown(page)) == len(sample_report().results)
        inside = page.locator("details.run dl").all()
        assert inside
        assert all(each.is_visible() for each in inside)
        assert not page.locator(".contents").is_visible()
        assert not page.locator(".filter").is_visible()


def test_printing_puts_every_result_on_paper(chromium: Chromium, sample_page: Path) -> None:
    """The browser's own PDF has what was folded, in the words of every result."""
    with chromium.open(sample_page) as found:
        document = pypdf.PdfReader(io.BytesIO(found.page.pdf(prefer_css_page_size=True)))
    text = " ".join(page.extract_text() for page in document.pages)
    assert text.count("Key of the answer") == len(sample_report().results)
    assert "Dated and signed by" in text


def test_print_is_light_in_a_dark_browser(chromium: Chromium, sample_page: Path) -> None:
    """Ink is not spent on a background."""
    with chromium.open(sample_page, Look(scheme="dark", media="print")) as found:
        colours = found.page.evaluate(
            "[getComputedStyle(document.querySelector('main')).backgroundColor,"
            " getComputedStyle(document.body).color]"
        )
        assert colours[0] == "rgb(255, 255, 255)"
        assert colours[1] == "rgb(21, 24, 29)"


@pytest.mark.parametrize("reduced", [True, False])
def test_motion_is_left_out_where_it_is_unwelcome(
    chromium: Chromium, sample_page: Path, reduced: bool
) -> None:
    """Jumps inside the page are smooth only for those who like it."""
    with chromium.open(sample_page, Look(reduced_motion=reduced)) as found:
        behaviour = found.page.evaluate("getComputedStyle(document.documentElement).scrollBehavior")
        assert behaviour == ("auto" if reduced else "smooth")
