"""Formats are found by name."""

from __future__ import annotations

import pytest

from auditor.errors import UnknownName
from auditor_reports.registry import WRITERS, Writer, render, writer
from tests.golden.sample_report import sample_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, poisoned

BY_NAME = {each.name: each for each in WRITERS}


def test_names_and_files_are_unique() -> None:
    """No format overwrites another's file."""
    assert len({w.name for w in WRITERS}) == len({w.filename for w in WRITERS}) == len(WRITERS)


@pytest.mark.parametrize("each", WRITERS, ids=BY_NAME)
def test_render_is_a_pure_function_of_the_report(each: Writer) -> None:
    """Same report, same bytes, in every format."""
    assert render(each.name, sample_report()) == each.render(sample_report())


@pytest.mark.parametrize("each", WRITERS, ids=BY_NAME)
@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_no_terminal_escape_and_no_nul_in_any_format(each: Writer, text: str) -> None:
    """Printing any file to a terminal is harmless."""
    content = each.render(poisoned(text))
    assert not set(content) & {0x00, 0x1B, 0x07, 0x08, 0x7F}
    content.decode("utf-8")


def test_unknown_format_names_the_known_ones() -> None:
    """A misspelt format is answered with a hint."""
    with pytest.raises(UnknownName, match="did you mean 'sarif'"):
        writer("sariff")
