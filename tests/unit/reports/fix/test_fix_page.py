"""The page of a repair is self-contained, accessible, bounded, safe, and hides nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from auditor.fix import Condition, FixResult
from auditor_reports.fix.effects import effect_sentences, lay_out_effects
from auditor_reports.fix.page import render_fix
from auditor_reports.fix.standing import DOES_NOT_MEAN, arrange_conditions
from auditor_reports.html_environment import DISCLAIMER, MAX_BYTES
from tests.golden.sample_fix import random_effects, sample_expert_fix, sample_fix
from tests.unit.reports.hostile_fix import enlarged_fix, poisoned_fix
from tests.unit.reports.hostile_report import HOSTILE_TEXTS
from tests.unit.reports.html_reader import Element, PageReader
from tests.unit.reports.test_style import themes

ROOT = Path(__file__).parents[4]
TEMPLATES = ROOT / "reports/auditor_reports/templates"


def read(result: FixResult) -> PageReader:
    """The elements of its page."""
    return PageReader(render_fix(result).encode())


def words(element: Element) -> str:
    """All text inside an element, on one line."""
    return " ".join(f"{element.text} {' '.join(map(words, element.children))}".split())


def changed(**update: Any) -> FixResult:
    """The sample repair with other fields."""
    return sample_fix().model_copy(update=update)


@pytest.fixture(scope="module")
def page() -> PageReader:
    """The page of the sample repair."""
    return read(sample_fix())


@pytest.fixture(scope="module")
def steered() -> PageReader:
    """The page of the sample repair that stands beside random sets."""
    return read(sample_expert_fix())


def decision_of(result: FixResult) -> tuple[str, str]:
    """The decision's word and the shape beside it."""
    (box,) = [e for e in read(result).elements if e.attributes.get("class", "")[:8] == "decision"]
    mark, text = box.children
    return words(text.children[0]), mark.children[0].attributes["href"]


def test_the_decision_has_a_word_and_a_shape() -> None:
    """Colour is not needed to tell them apart."""
    accepted = changed(decision="accepted", reasons=("kept: a",))
    assert decision_of(accepted) == ("Accepted", "#mark-holds")
    assert decision_of(sample_fix()) == ("Rejected", "#mark-violated")


def test_a_record_against_itself_is_not_shown_as_accepted() -> None:
    """It says accepted with a demand missed."""
    result = changed(decision="accepted")
    assert decision_of(result) == ("The record contradicts itself", "#mark-error")
    text = render_fix(result)
    assert "Do not rely on this record." in text
    assert "Accepted" not in text
    assert "Do not rely on this record." not in render_fix(sample_fix())


def test_every_reason_is_said_to_be_kept_or_missed(page: PageReader) -> None:
    """In words, each beside a shape."""
    (panel,) = [e for e in page.named("ul") if e.attributes.get("class") == "entries"]
    shown = [entry.children[1] for entry in panel.children]
    assert [f"{words(text.children[0])} {text.text.strip()}" for text in shown] == [
        *sample_fix().reasons
    ]
    shapes = [entry.children[0].children[0].attributes["href"] for entry in panel.children]
    assert shapes == [
        "#mark-violated" if reason.startswith("missed") else "#mark-holds"
        for reason in sample_fix().reasons
    ]


def test_a_written_model_is_named_with_its_digest() -> None:
    """And the old one is said to stay as it is."""
    result = changed(decision="accepted", reasons=("kept: a",), written="new<1>",
                     written_digest="sha256:abc")  # fmt: skip
    text = render_fix(result)
    assert "A new model was written." in text
    assert "<dd>new&lt;1&gt;</dd>" in text
    assert "<code>sha256:abc</code>" in text
    assert f"stays as it is</dt><dd><code>{result.subject}</code>" in text
    assert "Digest of the new model" not in render_fix(sample_fix())


def test_every_control_names_its_repair(page: PageReader) -> None:
    """A repair has the word repair, a control the word control and whose it is."""
    articles = {e.children[0].children[0].text: e for e in page.named("article")}
    assert set(articles) == {each.name for each in sample_fix().conditions}
    for condition in sample_fix().conditions:
        tags = words(articles[condition.name].children[0].children[1])
        decided = condition.name == "TraceShield and Prov-Decode"
        if condition.control:
            assert tags == f"control of {condition.control_of}"
        else:
            assert tags == ("repair decided on" if decided else "repair")


def test_a_control_without_its_repair_says_so() -> None:
    lost = sample_fix().conditions[1].model_copy(update={"control_of": "another"})
    text = render_fix(changed(conditions=(lost,)))
    assert "<span>of another <strong>(not in this record)</strong></span>" in text


def test_a_row_has_before_after_change_interval_and_chance(page: PageReader) -> None:
    """Of drift under the repair decided on, computed from its counts: 18 and then 3 of 24."""
    (article,) = [e for e in page.named("article") if words(e).count("decided on")]
    table = next(e for e in page.named("table") if e.parent and e.parent.parent is article)
    row = table.children[2].children[0]
    assert [words(cell) for cell in row.children] == [
        "drift rate lower is better",
        "0.75 share 0.5459 to 0.9541 (95 %, Wilson) n 24",
        "0.125 share 0 to 0.3291 (95 %, Wilson) n 24",
        "-0.625 relative reduction: 0.6833 to 0.8833 (95 %, bootstrap)",
        "6.1e-05",
    ]


def test_what_has_no_interval_or_chance_shows_as_such(page: PageReader) -> None:
    """Seconds are measured once: nothing is made up."""
    rows = [e for e in page.named("tr") if words(e).startswith("seconds for 100 words")]
    assert {" ".join(words(cell) for cell in row.children[3:]) for row in rows} == {
        "+0.25 no interval \N{EN DASH}", "+0.125 no interval \N{EN DASH}"
    }  # fmt: skip


def test_each_measure_is_drawn_under_every_condition_on_one_axis(page: PageReader) -> None:
    """Also a bare number, for the others stand beside it; 0.5, 0.75 and 0.625 s from 0 to 1."""
    tables = [e for e in page.named("table") if e.attributes.get("class") == "measure"]
    assert [words(table.children[0]) for table in tables][:2] == [
        "drift rate lower is better", "false refusals lower is better"
    ]  # fmt: skip
    drawn = [[e for e in page.named("circle") if _within(e, table)] for table in tables]
    assert [len(dots) for dots in drawn] == [5, 5, 5, 5, 4]
    seconds = [float(dot.attributes["cx"]) for dot in drawn[3]]
    assert seconds == [8 + 164 * value for value in (0.5, 0.75, 0.625, 0.75, 0.625)]


def _within(element: Element, table: Element) -> bool:
    here = element.parent
    while here is not None and here is not table:
        here = here.parent
    return here is table


def test_random_sets_are_drawn_beside_the_effect(steered: PageReader) -> None:
    """A bar for each bin, the repair and the same turned around as lines with words, the chance."""
    (figure,) = [e for e in steered.named("figure") if "effects" in e.attributes["class"]]
    assert words(figure.children[0]) == "Effect beside 97 matched random sets: chance 0.0102"
    (drawing,) = [e for e in steered.named("svg") if _within(e, figure)]
    shapes = {e.attributes.get("class"): e for e in drawing.children}
    random = sample_expert_fix().conditions[0].random
    assert random is not None
    (chart,) = lay_out_effects(arrange_conditions(sample_expert_fix()))
    assert shapes["bars"].attributes["d"].count("Z") == len(chart.bars) > 1
    assert {"own", "dot", "turned", "turned-end"} <= set(shapes)
    told = [words(e) for e in drawing.children if e.name in ("text", "desc")]
    assert told[0] == " ".join(effect_sentences(random))
    assert told[1:3] == ["the repair: 25", "turned around: -190"]
    assert random.effect in told


def test_a_control_of_random_sets_points_to_the_drawing(steered: PageReader) -> None:
    """It has no one value before and after."""
    (article,) = [e for e in steered.named("article") if words(e).startswith("97 matched")]
    assert words(article).count("drawn beside the effect") == 1


def test_a_repair_that_cannot_be_turned_around_is_drawn_without(steered: PageReader) -> None:
    control, *rest = sample_expert_fix().conditions
    alone = control.model_copy(update={"random": random_effects(97, turned=None)})
    text = render_fix(sample_expert_fix().model_copy(update={"conditions": (alone, *rest)}))
    assert 'class="turned"' not in text
    assert "The repair turned around cannot be applied." in text
    assert 'class="own"' in text


def test_the_limits_are_those_of_the_specification(page: PageReader) -> None:
    """The last section of the written specification stands on the page, item by item."""
    text = (ROOT / "specs/fix-record.md").read_text("utf-8")
    section = text.split("## What acceptance does not mean\n")[1]
    items = [" ".join(item.split()) for item in section.split("\n- ")[1:]]
    assert list(DOES_NOT_MEAN) == items
    lines = [words(e) for e in page.named("li")]
    assert all(item in lines for item in items)


def test_suppression_is_never_called_deletion() -> None:
    """Nor is a repair said to take safety away."""
    text = render_fix(sample_fix())
    told = re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    assert re.findall(r"(?i)\w+ \w+ delet\w*", told) == ["is not deletion"]
    assert not re.search(r"(?i)uncensor|removed? (?:the )?(?:safety|drift|refusal)|erase", told)


def test_page_is_self_contained_and_has_no_script(page: PageReader) -> None:
    """The policy admits its one style, and no script whatever."""
    assert page.named("script", "link", "img", "iframe", "form") == []
    links = [e.attributes["href"] for e in page.named("a", "use")]
    assert all(link.startswith("#") for link in links)
    assert page.policy == page.own_style_only
    assert {e.name for e in page.elements if any(a[:2] == "on" for a in e.attributes)} == set()


@pytest.mark.parametrize("sample", [sample_fix, sample_expert_fix])
def test_structure_is_sound(sample: Callable[[], FixResult]) -> None:
    """Balanced, unique ids, links with targets, headings without gaps, tables with heads."""
    page = read(sample())
    assert page.flaws() == []


def test_every_scrolled_part_can_be_reached_by_keyboard(page: PageReader) -> None:
    """And names itself."""
    parts = [e for e in page.elements if e.attributes.get("class") == "scroll"]
    assert parts
    assert all(e.attributes["tabindex"] == "0" and e.attributes["aria-label"] for e in parts)


@pytest.mark.parametrize("sample", [sample_fix, sample_expert_fix])
def test_every_drawing_has_title_and_description(sample: Callable[[], FixResult]) -> None:
    page = read(sample())
    drawings = [svg for svg in page.named("svg") if svg.attributes.get("aria-hidden") != "true"]
    assert drawings
    for drawing in drawings:
        texts = {child.name: child.text.strip() for child in drawing.children}
        assert texts["title"]
        assert texts["desc"]


def test_footer_has_the_fixed_sentence_an_empty_signature_and_the_records_digest() -> None:
    text = render_fix(sample_fix())
    assert DISCLAIMER in text
    assert 'Dated and signed by:</span><span class="blank"></span>' in text
    assert all(str(escape(name)) in text for name in sample_fix().parameters)


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_changes_no_structure(text: str) -> None:
    """Whatever stands in a record, the page has the elements of a page with plain text."""
    names = [e.name for e in read(poisoned_fix(text)).elements]
    plain = [e.name for e in read(poisoned_fix("plain" if text else "")).elements]
    assert names == plain
    assert read(poisoned_fix(text)).unbalanced == []


@pytest.mark.parametrize("name", ["escape", "nul", "direction", "hidden", "surrogate"])
def test_acting_characters_never_reach_the_page(name: str) -> None:
    text = render_fix(poisoned_fix(HOSTILE_TEXTS[name])).encode().decode()
    acting = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069]")
    assert acting.findall(text) == []


def test_a_record_of_nothing_is_a_page() -> None:
    """No reason, no condition, no parameter: each is said."""
    result = changed(reasons=(), conditions=(), parameters={})
    text = render_fix(result)
    for words_ in ("The record gives no reason.", "Nothing was measured.",
                   "No condition was measured.", "The record names none."):  # fmt: skip
        assert words_ in text
    assert read(result).unbalanced == []


def test_what_is_left_out_is_counted_and_the_repair_decided_on_stays() -> None:
    """Of 500 repairs the last one is shown, and how many there are."""
    text = render_fix(enlarged_fix(500))
    assert len(text.encode()) <= MAX_BYTES
    assert "of 500 shown; the full list is in the record." in text
    assert "<h3>condition 499 </h3>" in text
    assert PageReader(text.encode()).unbalanced == []


def test_a_condition_of_notes_alone_points_to_them() -> None:
    """As a control of many sets, which has no one value after."""
    sets = Condition(name="99 random sets", comparisons=(), notes=("4 of 99 did as much",))
    text = render_fix(changed(conditions=(sets,)))
    assert "No measure before and after; what was found stands in the notes." in text
    assert "<li>4 of 99 did as much</li>" in text


@pytest.mark.slow
def test_even_a_monstrous_record_fits() -> None:
    """Whatever the texts are: each character is spelt out or escaped."""
    result = enlarged_fix(300, "\x00'" * 4_000)
    assert len(render_fix(result).encode()) <= MAX_BYTES


def test_own_style_uses_declared_variables_only() -> None:
    """It imports nothing, and its colours follow the theme."""
    style = (TEMPLATES / "fix.css").read_text("utf-8")
    assert set(re.findall(r"var\(--([\w-]+)\)", style)) <= themes()["light"].keys()
    assert not re.search(r"url\(|@import|@font-face|http|#[0-9a-fA-F]{3,8}\b", style)
