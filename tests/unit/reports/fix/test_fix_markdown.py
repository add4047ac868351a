"""The Markdown of a repair tells what its page tells, and untrusted text does nothing in it."""

from __future__ import annotations

import re

import pytest

from auditor_reports.fix.markdown import render_fix_markdown
from auditor_reports.fix.standing import DOES_NOT_MEAN
from auditor_reports.html_environment import DISCLAIMER
from auditor_reports.markdown import MAX_BYTES
from tests.golden.sample_fix import sample_expert_fix, sample_fix
from tests.unit.reports.hostile_fix import enlarged_fix, poisoned_fix
from tests.unit.reports.hostile_report import HOSTILE_TEXTS


def test_decision_reasons_and_limits_come_first() -> None:
    """In words beside each sign."""
    start = render_fix_markdown(sample_fix()).split("### What was changed")[0]
    assert start.startswith("## Repair decoding: ❌ rejected\n\nNot kept: 1 of 5 demands.")
    assert (start.count("- ✅ kept: "), start.count("- ❌ missed: ")) == (4, 1)
    assert all(item in start for item in DOES_NOT_MEAN)


def test_effect_and_damage_stand_in_one_line_beside_the_control() -> None:
    """18 of 24 and then 3; false refusals 1 of 30 before and after, 6 under the control."""
    lines = render_fix_markdown(sample_fix()).splitlines()
    at = lines.index("### Effect beside damage, and beside controls")
    repair, control = lines[at + 4 : at + 6]
    assert repair.startswith(
        "| **TraceShield and Prov-Decode** (repair, decided on) | 0.75 → 0.125 share | "
        "0.03333 → 0.03333 share | 4.5 → 4.562 perplexity | 0.5 → 0.75 s | \N{EN DASH}"
    )
    assert (
        "(control of TraceShield and Prov-Decode) | 0.75 → 0.625 share | 0.03333 → 0.2" in control
    )


def test_random_sets_stand_in_rows_beside_the_repair() -> None:
    """As many as there are, the fullest row with the longest bar, and the chance in words."""
    random = sample_expert_fix().conditions[0].random
    assert random is not None
    text = render_fix_markdown(sample_expert_fix())
    section = text.split("### Effect beside 97 matched random sets\n\n")[1].split("\n\n#")[0]
    told, table = section.split("\n\n", 1)
    assert told.startswith("- The repair: 25 of 300 prompts.\n- 97 random sets: ")
    assert "0.0102, which is \\(1 + 0\\) / \\(1 + 97\\)." in told
    rows = [line.split("|")[1:4] for line in table.strip().splitlines()[2:]]
    assert sum(int(sets) for _, sets, _ in rows) == len(random.random)
    bars = [(int(sets), bar.count("█")) for _, sets, bar in rows]
    assert max(bars) == (max(sets for sets, _ in bars), max(bar for _, bar in bars))
    assert all(bar for _, bar in bars)


def test_a_record_against_itself_is_neither_accepted_nor_rejected() -> None:
    text = render_fix_markdown(sample_fix().model_copy(update={"decision": "accepted"}))
    assert text.startswith("## Repair decoding: ⚠️ the record contradicts itself\n")
    assert "**Do not rely on this record.** It says accepted" in text


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_changes_no_structure(text: str) -> None:
    """The same headings, tables and items, with as many cells, as with a plain text."""
    shape = _shape(render_fix_markdown(poisoned_fix(text)))
    assert shape == _shape(render_fix_markdown(poisoned_fix("plain" if text else "")))


def _shape(text: str) -> list[tuple[str, int]]:
    """How each line begins, and how many cell borders it has."""
    starts = ("## ", "### ", "#### ", "| ", "- ", "")
    return [
        (next(filter(line.startswith, starts)), len(re.findall(r"(?<!\\)\|", line)))
        for line in text.splitlines()
    ]


def test_a_large_record_is_cut_and_says_so() -> None:
    text = render_fix_markdown(enlarged_fix(500, "x" * 250))
    assert len(text.encode()) <= MAX_BYTES
    assert "460 more; the full list is in the record." in text
    assert "audit.json" not in text


def test_the_last_line_is_the_fixed_sentence() -> None:
    assert render_fix_markdown(sample_fix()).splitlines()[-1] == DISCLAIMER
