"""Every format for every check, with every hostile text, and for a run that is very large."""

from __future__ import annotations

import json
import re

import pytest

from auditor.findings import Verdict
from auditor.registry import BUILT_IN_CHECKS
from auditor_reports import in_toto
from auditor_reports.audit_places import MAX_BYTES
from auditor_reports.cyclonedx import document as cyclonedx
from auditor_reports.model_card import card as model_card
from auditor_reports.oscal import document as oscal
from auditor_reports.registry import WRITERS, Writer
from auditor_reports.sarif import log as sarif
from tests.golden.sample_report import every_check_report, sample_report, single_result_report
from tests.unit.reports.every_reader import READERS, read_html, read_markdown, read_model_card
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, enlarged, poisoned

EVERY = {writer.name: writer for writer in WRITERS}
RESULTS = every_check_report().results
# Formats that leave out what does not fit; `audit.json` is whole, and others say elsewhere how
# they end.
BOUNDED = [EVERY[name] for name in ("cyclonedx", "intoto", "modelcard", "oscal", "sarif")]
# Controls but tab and line break, marks of direction, invisible marks, the tag block.
ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufffe\uffff\U000e0000-\U000e0fff]"
)
COMMAND = re.compile(r"(?m)^\s*(?:::|##\[)")


def test_every_format_has_a_reader_here() -> None:
    """A new format is read by something before it is written for anybody."""
    assert set(READERS) == set(EVERY)


def test_every_built_in_check_has_a_golden_result() -> None:
    """A new check is not forgotten by the reports."""
    assert {check.code for check in BUILT_IN_CHECKS} == {result.code for result in RESULTS}


def test_the_golden_results_know_every_verdict() -> None:
    """Otherwise the matrix below would say less than it seems to."""
    assert len({result.verdict for result in RESULTS}) == 5


@pytest.mark.parametrize("writer", WRITERS, ids=EVERY)
@pytest.mark.parametrize("number", range(len(RESULTS)), ids=[result.id for result in RESULTS])
def test_every_format_renders_every_result(writer: Writer, number: int) -> None:
    """A run of one check can be read by the format's own reader, and tells of that check."""
    content = writer.render(single_result_report(number))
    READERS[writer.name](content)
    result = RESULTS[number]
    named = result.id if writer.name == "intoto" else result.code
    # What passes is no alert.
    silent = writer.name == "sarif" and result.verdict is Verdict.HOLDS
    assert (named in content.decode()) != silent


@pytest.mark.parametrize("writer", WRITERS, ids=EVERY)
@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_is_inert_in_every_format(writer: Writer, text: str) -> None:
    """Its own reader takes the file; nothing in it acts on a terminal or a build log."""
    content = writer.render(poisoned(text))
    READERS[writer.name](content)
    shown = content.decode("utf-8")
    assert not ACTING.search(shown)
    assert not COMMAND.search(shown)


@pytest.mark.parametrize("writer", WRITERS, ids=EVERY)
def test_only_the_whole_record_keeps_what_acts(writer: Writer) -> None:
    """`audit.json` keeps the text, escaped; a program that prints another's values is safe."""
    plain = writer.render(poisoned(HOSTILE_TEXTS["direction"])).decode()
    assert ("\\u202e" in plain) == (writer.name == "json")


@pytest.mark.parametrize(
    ("text", "found"),
    [("a\u202eb", True), ("a\x1b", True), ("a\tb\nc\u200db", False)],
)
def test_the_search_for_what_acts_can_fail(text: str, found: bool) -> None:
    """Tabs, line breaks and joiners are harmless."""
    assert bool(ACTING.search(text)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [("a\n ::error::x", True), ("##[group]x", True), ("a ::error::x", False)],
)
def test_the_search_for_commands_can_fail(text: str, found: bool) -> None:
    """Only the beginning of a line is taken for one."""
    assert bool(COMMAND.search(text)) == found


def test_the_readers_refuse_what_a_text_could_become() -> None:
    """They would notice a text that got out of its place."""
    with pytest.raises(AssertionError):
        read_markdown(b"a <img src=x> b")
    with pytest.raises(AssertionError):
        read_markdown(b"[a](https://a.example)")
    with pytest.raises(AssertionError):
        read_html(b"<p onclick='x'>a</p>")
    card = EVERY["modelcard"].render(sample_report())
    with pytest.raises(AssertionError):
        read_model_card(card.replace(b"---\ntags:", b"---\nlicense: mit\ntags:", 1))


@pytest.mark.parametrize("writer", BOUNDED, ids=lambda writer: writer.name)
def test_a_cut_file_is_whole(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the limit, what is left is read by the format's own reader and names the rest."""
    limits = {"cyclonedx": cyclonedx, "modelcard": model_card, "oscal": oscal, "sarif": sarif}
    for module in limits.values():
        monkeypatch.setattr(module, "MAX_RESULTS", 3)
    monkeypatch.setattr(in_toto, "MAX_NAMES", 3)
    content = writer.render(enlarged(60, copies=3))
    READERS[writer.name](content)
    assert "audit.json" in content.decode()
    assert len(content) < len(writer.render(sample_report())) + 20_000


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("cyclonedx", 1_900, "auditor:results-left-out"),
        ("oscal", 350, "results-left-out"),
        ("sarif", 1_400, "less severe results were left out"),
    ],
)
def test_long_texts_stay_within_bounds(name: str, count: int, said: str) -> None:
    """Texts that grow when they are escaped count with the size that they then have."""
    report = poisoned("\U0001f600<|`" * 150)
    many = tuple(
        report.results[number % 12].model_copy(update={"id": f"r{number}"})
        for number in range(count)
    )
    content = EVERY[name].render(report.model_copy(update={"results": many}))
    assert MAX_BYTES / 3 < len(content) <= MAX_BYTES
    assert said in content.decode()


@pytest.mark.slow
@pytest.mark.parametrize("writer", BOUNDED, ids=lambda writer: writer.name)
def test_a_very_large_run_stays_within_bounds(writer: Writer) -> None:
    """Ten thousand results with a hundred thousand findings; the file says where the rest is."""
    report = enlarged(10_000, copies=24)
    assert sum(len(result.answer.findings) for result in report.results) > 99_000
    content = writer.render(report)
    assert len(content) <= MAX_BYTES
    assert "audit.json" in content.decode()


def test_a_large_in_toto_statement_lists_the_failing_tests() -> None:
    """Whatever is left out, what fails is there."""
    report = enlarged(120)
    failing = {row.result for row in report.gate.rows if row.status == "fail"}
    listed = json.loads(EVERY["intoto"].render(report))["predicate"]["failedTests"]
    assert failing <= set(listed)
