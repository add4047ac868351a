"""Annotations keep the syntax of workflow commands whatever the text."""

from __future__ import annotations

import re

import pytest

from auditor_reports.github import PER_KIND, escape_data, escape_property, render_annotations
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, enlarged, poisoned

COMMAND = re.compile(r"::(error|warning|notice) file=[^,:]*,line=\d+,title=[^,:]*::.*")
REST = re.compile(r"and \d+ more of kind (error|warning|notice); the full list is in audit\.json")


def test_escapes_follow_the_documentation() -> None:
    """Percent first, then line ends; properties also colon and comma."""
    assert escape_data("50%\r\na:b,c") == "50%25%0D%0Aa:b,c"
    assert escape_property("50%\na:b,c") == "50%25%0Aa%3Ab%2Cc"


def test_kinds_of_the_sample() -> None:
    """Failures are errors, open questions warnings, what does not gate notices."""
    lines = render_annotations(sample_report()).splitlines()
    kinds = [line.split(" ")[0] for line in lines]
    assert kinds == ["::error"] * 2 + ["::warning"] * 5 + ["::notice"] * 4
    assert "AUD201" in lines[0]


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_adds_no_command(text: str) -> None:
    """Each line is one of our commands or our count."""
    plain = render_annotations(poisoned("plain")).split("\n")
    lines = render_annotations(poisoned(text)).split("\n")
    assert len(lines) == len(plain)
    assert lines[-1] == ""
    assert all(COMMAND.fullmatch(line) or REST.fullmatch(line) for line in lines[:-1])


def test_ten_worst_per_kind_then_a_count() -> None:
    """What the build would drop silently is counted in a line of its own."""
    lines = render_annotations(enlarged(300)).splitlines()
    for kind in ("error", "warning", "notice"):
        assert sum(line.startswith(f"::{kind} ") for line in lines) == PER_KIND
        assert any(REST.fullmatch(line) and f"kind {kind}" in line for line in lines)


def test_nothing_to_say_gives_nothing() -> None:
    """A run where all holds has no annotation."""
    report = sample_report()
    passed = tuple(result for result in report.results if result.verdict == "holds")
    gate = report.gate.model_copy(update={"rows": ()})
    assert render_annotations(report.model_copy(update={"results": passed, "gate": gate})) == ""
