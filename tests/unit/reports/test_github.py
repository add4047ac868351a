"""Annotations, summary and outputs keep GitHub's syntax and limits whatever the text."""

from __future__ import annotations

import re

import pytest

from auditor_reports import github
from auditor_reports.github import (
    LEAST_SUMMARY_BYTES,
    NO_ROOM,
    PER_KIND,
    escape_data,
    escape_property,
    render_annotations,
    render_outputs,
    render_step_summary,
)
from auditor_reports.markdown import MAX_BYTES, render_markdown
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


def test_hostile_plan_file_stays_in_its_property() -> None:
    """A file name with commas, colons, percent signs and line ends is one property."""
    name = "a,line=9::b%0A\r\n::error::c.yaml"
    (result, *_) = [r for r in sample_report().results if r.answer.findings]
    renamed = result.model_copy(
        update={"declared_at": result.declared_at.model_copy(update={"file": name})}
    )
    report = sample_report().model_copy(update={"results": (renamed,)})
    found = [line for line in render_annotations(report).splitlines() if "file=a%2C" in line]
    assert found
    for line in found:
        assert COMMAND.fullmatch(line)
        assert "file=a%2Cline=9%3A%3Ab%250A %3A%3Aerror%3A%3Ac.yaml,line=" in line


def test_the_count_of_what_is_left_out_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shown and counted annotations of a kind are all there are."""
    shown = render_annotations(enlarged(300))
    monkeypatch.setattr(github, "PER_KIND", 10_000)
    every = render_annotations(enlarged(300)).splitlines()
    for kind in ("error", "warning", "notice"):
        (rest,) = re.findall(rf"and (\d+) more of kind {kind}", shown)
        assert int(rest) + PER_KIND == sum(line.startswith(f"::{kind} ") for line in every)


def test_nothing_to_say_gives_nothing() -> None:
    """A run where all holds has no annotation."""
    report = sample_report()
    passed = tuple(result for result in report.results if result.verdict == "holds")
    gate = report.gate.model_copy(update={"rows": ()})
    assert render_annotations(report.model_copy(update={"results": passed, "gate": gate})) == ""


def test_summary_of_a_step_of_its_own_is_the_markdown_report() -> None:
    """Nothing is cut that fits."""
    assert render_step_summary(sample_report()) == render_markdown(sample_report())


@pytest.mark.parametrize("room", [LEAST_SUMMARY_BYTES, 5_000, 100_000])
def test_summary_leaves_room_for_what_the_step_holds(room: int) -> None:
    """Whole lines, and a last one that counts the lines that are missing."""
    report = enlarged(300).model_copy(update={"not_assessed": ("é" * 200,) * 600})
    whole = render_markdown(report).decode().splitlines()
    cut = render_step_summary(report, MAX_BYTES - room)
    assert len(cut) <= room
    *kept, blank, note = cut.decode().splitlines()
    found = re.fullmatch(
        r"Cut here at the size limit: the last (\d+) of (\d+) lines are left out\. "
        r"The full list is in audit\.json\.",
        note,
    )
    assert found
    assert (kept, blank) == (whole[: len(kept)], "")
    assert (int(found[1]), int(found[2])) == (len(whole) - len(kept), len(whole))


def test_summary_without_room_says_so_once() -> None:
    """Up to GitHub's own limit; beyond it a byte more would lose the whole summary."""
    assert render_step_summary(sample_report(), MAX_BYTES) == NO_ROOM.encode()
    assert render_step_summary(sample_report(), 1024 * 1024) == b""


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_outputs_hold_words_of_ours_only(text: str) -> None:
    """No name in a report can add an output."""
    assert render_outputs(poisoned(text)) == "verdict=fail\n"
