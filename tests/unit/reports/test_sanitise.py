"""Nothing in a text acts, and nothing is hidden."""

from __future__ import annotations

import pytest

from auditor_reports.sanitise import block, clip, inert_block, inert_line, one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "⟨U+001B⟩[31m"),
        ("a\x00b", "a⟨U+0000⟩b"),
        ("\u202eabc", "⟨U+202E⟩abc"),
        ("\u200bx", "⟨U+200B⟩x"),
        ("\U000e0041", "⟨U+E0041⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("\x85", "⟨U+0085⟩"),
        ("\u2028", "⟨U+2028⟩"),
    ],
)
def test_acting_character_is_spelt_out(text: str, shown: str) -> None:
    """Escapes, overrides, separators and invisible characters are named."""
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "two\nlines\tand a tab",
        "\u0639\u0631\u0628",
        "\u0645\u06cc\u200c\u062e",
        "日本語",
        "é",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """Letters of every script, newlines and tabs are left alone."""
    assert visible(text) == text


def test_windows_line_ends_become_line_ends() -> None:
    """A carriage return before a newline is part of the line end."""
    assert visible("a\r\nb\rc") == "a\nb⟨U+000D⟩c"


def test_one_line_has_no_line_end() -> None:
    """Line ends and runs of blanks become one blank."""
    assert one_line(" a\n\n b\t c ") == "a b c"


def test_clip_keeps_the_limit() -> None:
    """A cut text has the limit's length and says that it is cut."""
    assert clip("abcdef", 4) == "abc…"
    assert clip("abcd", 4) == "abcd"


def test_block_keeps_line_ends_and_the_limit() -> None:
    """Blocks keep their lines."""
    assert block("a\nb") == "a\nb"
    assert block("x" * 50, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    "text", ["::error::x", "  ::set-output name=a::b", "a\n::error::x", "##[group]x"]
)
def test_inert_line_starts_no_command(text: str) -> None:
    """A build log takes nothing in it for a command."""
    line = inert_line(text)
    assert "\n" not in line
    assert not line.lstrip().startswith("::")
    assert "##[" not in line


def test_inert_block_starts_no_command_on_any_line() -> None:
    """The first line, a later one, one with blanks before it; other colons stay."""
    shown = inert_block("::error::a\nb\n  ::set-output x\nc ::d ##[group]e")
    assert shown == "⟨::⟩error::a\nb\n  ⟨::⟩set-output x\nc ::d ##⟨[⟩group]e"
