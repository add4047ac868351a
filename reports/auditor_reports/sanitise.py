"""One sanitiser for every text output: names and texts in a report may be hostile.

Control characters, terminal escapes, bidirectional overrides and invisible
characters become visible as `⟨U+202E⟩`, so that nothing is hidden and nothing acts.
Zero-width joiners are kept: several scripts need them. Escaping for a format (HTML,
XML, Markdown, workflow commands) comes on top, in the writer of that format.
"""

from __future__ import annotations

import re

# Cc but newline and tab, Cf but the joiners U+200C and U+200D, surrogates, the
# Unicode line separators, noncharacters, and the invisible tag block.
_ACTIVE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)
_COMMAND_START = re.compile(r"(?m)^(\s*)::")
_LEGACY_COMMAND = "##["


def visible(text: str) -> str:
    """The text with every acting or invisible character spelt out; newlines and tabs stay."""
    return _ACTIVE.sub(lambda match: f"⟨U+{ord(match.group()):04X}⟩", text.replace("\r\n", "\n"))


def encodable(text: str) -> str:
    """The text with lone surrogates, which no encoding admits, replaced by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def clip(text: str, limit: int) -> str:
    """The text, cut to `limit` characters with an ellipsis where it is longer."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_line(text: str, limit: int = 2_000) -> str:
    """The text as a single visible line of at most `limit` characters."""
    start = text[: 4 * limit]  # nothing beyond can matter, and the text may be huge
    return clip(" ".join(visible(start).split()), limit)


def block(text: str, limit: int = 20_000) -> str:
    """The text with its line breaks, visible, at most `limit` characters."""
    return clip(visible(text[: limit + 1]), limit)


def inert_line(text: str, limit: int = 2_000) -> str:
    """A single line that no build log takes for a command (`::error`, `##[group]`)."""
    line = one_line(text, limit)
    return _COMMAND_START.sub(r"\1⟨::⟩", line).replace(_LEGACY_COMMAND, "##⟨[⟩")


def inert_block(text: str, limit: int = 20_000) -> str:
    """Text with its line breaks, no line of which a build log takes for a command."""
    lines = _COMMAND_START.sub(r"\1⟨::⟩", block(text, limit))
    return lines.replace(_LEGACY_COMMAND, "##⟨[⟩")
