"""The list of runs is well formed, inert with any text, and cut into pages."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from auditor_reports.run_list_page import PER_PAGE, RunLine, render_run_list, run_list_policy
from tests.unit.reports.hostile_report import HOSTILE_TEXTS
from tests.unit.reports.html_reader import PageReader

MOMENT = datetime(2026, 11, 23, tzinfo=UTC)


def line(number: int, text: str = "run") -> RunLine:
    """A run in which every text is this one."""
    return RunLine(
        key=f"{number:016x}", name=f"{text}{number}", files=("report.html", "audit.json"),
        title=text, subjects=(text,) * 7, verdict="fail", counts={text: 3}, complete=False,
        finished=MOMENT,
    )  # fmt: skip


def broken(number: int, text: str) -> RunLine:
    """A run that cannot be read."""
    return RunLine(key=f"{number:016x}", name=text, problem=text or "it cannot be read")


def read(text: str) -> PageReader:
    """The page of three runs."""
    found = [line(1, text), line(2, text), broken(3, text)]
    return PageReader(render_run_list(found, text))


def test_tags_ids_heads_and_links_are_sound() -> None:
    """Balanced, unique, with captions and scopes."""
    page = read("run")
    assert page.flaws() == []
    labels = {e.attributes["for"] for e in page.named("label")}
    fields = [e for e in page.named("input") if e.attributes["type"] != "radio"]
    assert {e.attributes["id"] for e in fields} == labels
    radios = [e for e in page.named("input") if e.attributes["type"] == "radio"]
    assert all(e.attributes["aria-label"] for e in radios)


def test_a_run_can_be_chosen_as_old_or_new_unless_it_cannot_be_read() -> None:
    """The two newest are chosen beforehand."""
    radios = [e for e in read("run").named("input") if e.attributes["type"] == "radio"]
    chosen = [
        (e.attributes["name"], e.attributes["value"], "checked" in e.attributes) for e in radios
    ]
    first, second = line(1).key, line(2).key
    assert chosen == [
        ("old", first, False), ("new", first, True), ("old", second, True), ("new", second, False)
    ]  # fmt: skip


def test_one_run_is_not_compared() -> None:
    """There is nothing to choose."""
    page = PageReader(render_run_list([line(1)], "runs"))
    assert [e for e in page.named("input") if e.attributes["type"] == "radio"] == []


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_changes_no_structure(text: str) -> None:
    """Whatever stands in names, plans, subjects and problems."""
    plain, shown = read("plain"), read(text)
    assert shown.unbalanced == []
    assert [e.name for e in shown.elements] == [e.name for e in plain.elements]
    assert [set(e.attributes) for e in shown.elements] == [
        set(e.attributes) for e in plain.elements
    ]


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_words_that_were_looked_for_are_inert(text: str) -> None:
    """They come back in a field, in a sentence and in links of pages."""
    many = [line(number, f"{text}-run") for number in range(PER_PAGE + 1)]
    for found in (many, []):
        page = PageReader(render_run_list(found, "runs", words=text))
        plain = PageReader(render_run_list(found, "runs", words="run" if text else ""))
        assert page.unbalanced == []
        assert [e.name for e in page.elements] == [e.name for e in plain.elements]


def test_policy_admits_one_style_its_own_form_and_no_script() -> None:
    """In the page as in the header."""
    page = read("run")
    own = page.own_style_only.replace("form-action 'none'", "form-action 'self'")
    assert page.policy == run_list_policy() == own


def test_runs_are_cut_into_pages_that_hold_each_once() -> None:
    """And a page beyond the last is the last."""
    runs = [line(number) for number in range(2 * PER_PAGE + 1)]
    seen = []
    for page in (1, 2, 3):
        links = PageReader(render_run_list(runs, "runs", page=page)).named("a")
        seen += [e.text for e in links if e.parent and e.parent.name == "th"]
    assert seen == [each.name for each in runs]
    assert render_run_list(runs, "runs", page=9) == render_run_list(runs, "runs", page=3)
