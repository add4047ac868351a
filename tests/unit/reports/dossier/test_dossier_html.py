"""The page of a dossier is self-contained, accessible, bounded, honest and inert."""

from __future__ import annotations

import re

import pytest

from auditor_reports.dossier.build import build_dossier
from auditor_reports.dossier.html import render_dossier_html
from auditor_reports.dossier.mapping import Applicability, Declaration
from auditor_reports.html_environment import DISCLAIMER, MAX_BYTES
from tests.golden.sample_report import sample_report
from tests.unit.reports.dossier_runs import FRAMEWORKS, mapping, recognised, run_of
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, enlarged
from tests.unit.reports.html_reader import PageReader


@pytest.fixture(scope="module", params=FRAMEWORKS)
def page(request: pytest.FixtureRequest) -> PageReader:
    """The dossier of the sample report, one for each framework."""
    dossier = build_dossier(sample_report(), mapping(request.param))
    return PageReader(render_dossier_html(dossier))


def test_structure_is_sound(page: PageReader) -> None:
    """Balanced, unique ids, links with targets, one first heading and no gap, tables with heads."""
    assert page.flaws() == []
    assert len(page.named("h1")) == 1


def test_every_address_stays_inside_the_page(page: PageReader) -> None:
    """There is no reference to a network or another file."""
    addresses = [
        value
        for element in page.elements
        for name, value in element.attributes.items()
        if name in ("src", "href", "srcset", "data", "action")
    ]
    assert all(address.startswith("#") for address in addresses)


def test_no_script_and_no_inline_style(page: PageReader) -> None:
    """The page needs none, and its policy allows none."""
    assert page.named("script") == []
    names = {name for element in page.elements for name in element.attributes}
    assert not {name for name in names if name == "style" or name.startswith("on")}


def test_content_policy_admits_exactly_our_style(page: PageReader) -> None:
    """The policy's hash is that of the one style sheet."""
    assert page.policy == page.own_style_only
    (style,) = page.named("style")
    assert not re.search(r"url\(|@import|http", style.text)


def test_gaps_stand_before_everything_else(page: PageReader) -> None:
    """Every row that does not pass is linked to before the first table."""
    names = [element.name for element in page.elements]
    start = page.elements[: names.index("table")]
    linked = {element.attributes.get("href", "")[1:] for element in start}
    rows = [e for e in page.named("article") if "slot" in e.attributes["class"].split()]
    open_rows = {e.attributes["id"] for e in rows if "slot-pass" not in e.attributes["class"]}
    assert open_rows
    assert open_rows <= linked


def test_a_status_is_said_in_words_beside_its_mark(page: PageReader) -> None:
    """Colour and shape never stand alone."""
    said = [e for e in page.named("span") if e.attributes.get("class", "").startswith("verdict ")]
    assert said
    assert all(any(child.text.strip() for child in each.children) for each in said)


def test_the_signature_is_an_empty_field(page: PageReader) -> None:
    """Nothing in it is generated."""
    (signature,) = [e for e in page.elements if e.attributes.get("class") == "signature"]
    assert [child.text for child in signature.children] == ["Dated and signed by:", ""]


def test_the_fixed_sentence_stands_at_both_ends(page: PageReader) -> None:
    """A reader of the first or of the last page meets it."""
    assert [element.text for element in page.named("p")].count(DISCLAIMER) == 2


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_no_share_of_fulfilment_is_given(name: str) -> None:
    """No number says how much of a framework is fulfilled: shares come from results only."""
    text = render_dossier_html(build_dossier(run_of([]), mapping(name))).decode()
    body = text[text.index("<body>") :]
    assert "%" not in body
    assert not re.search(r"\d+ of \d+ rows", body)


def test_the_same_dossier_gives_the_same_bytes() -> None:
    """Rendering is a pure function."""
    first, second = (
        render_dossier_html(build_dossier(sample_report(), mapping("eu-ai-act"))) for _ in range(2)
    )
    assert first == second


def read_hostile(words: str) -> PageReader:
    """The page of a run and a declaration that say only this."""
    words_of_a_file = words.encode("utf-8", "replace").decode()  # YAML holds no lone surrogate
    declared = Declaration.model_validate({
        "framework": "iso-24029-2", "row": "stage", "reason": f"r{words_of_a_file}",
        "declared_by": f"d{words_of_a_file}",
    })  # fmt: skip
    dossier = build_dossier(
        recognised(words), mapping("iso-24029-2"), Applicability(not_applicable=(declared,))
    )
    return PageReader(render_dossier_html(dossier))


@pytest.fixture(scope="module")
def harmless() -> dict[bool, PageReader]:
    """The same page with plain text, and with none."""
    return {True: read_hostile("plain"), False: read_hostile("")}


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_changes_no_structure(text: str, harmless: dict[bool, PageReader]) -> None:
    """Whatever stands in a report or a declaration, the page's elements stay the same."""
    plain, hostile = harmless[bool(text)], read_hostile(text)
    assert hostile.unbalanced == []
    assert [e.name for e in hostile.elements] == [e.name for e in plain.elements]
    assert [set(e.attributes) for e in hostile.elements] == [
        set(e.attributes) for e in plain.elements
    ]


@pytest.mark.parametrize("name", ["escape", "nul", "direction", "hidden", "surrogate"])
def test_acting_characters_never_reach_the_page(name: str) -> None:
    """Control, direction and invisible characters are spelt out."""
    dossier = build_dossier(recognised(HOSTILE_TEXTS[name]), mapping("eu-ai-act"))
    text = render_dossier_html(dossier).decode("utf-8")
    acting = re.compile(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\U000e0041]"
    )
    assert acting.findall(text) == []


def test_the_hostile_run_is_seen_by_the_mapping() -> None:
    """The test above has something to test: results, numbers, facts and properties are shown."""
    dossier = build_dossier(recognised("x"), mapping("iso-24029-2"))
    assert dossier.properties
    assert dossier.results
    assert any(cell.facts for cell in dossier.cells())


def test_thousands_of_results_fit_and_are_counted() -> None:
    """A large run gives a small page that says how much it does not show."""
    dossier = build_dossier(enlarged(1_500), mapping("eu-ai-act"))
    text = render_dossier_html(dossier)
    assert len(text) <= MAX_BYTES < 1_500_000
    assert f"of {len(dossier.results):,} shown, worst first".encode() in text
    reader = PageReader(text)
    assert reader.unbalanced == []
    ids = {element.attributes.get("id") for element in reader.elements}
    assert {link.attributes["href"][1:] for link in reader.named("a")} <= ids
