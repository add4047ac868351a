"""Refusal behaviour as records for reports: tables, metrics and controls.

Prompts are named by set and line and shown by their first characters; completions are not shown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from auditor.findings import Control, Metric, TableEvidence
from auditor.intervals import share_metric, wilson_interval
from auditor.language.judge_agreement import Agreement
from auditor.language.prompt_sets import PromptSet
from auditor.language.refusal import Behaviour
from auditor.language.refusal_record import WITHHELD, Counts, Flips, RefusalBehaviour, Reply

EXCERPT: Final = 40
"""Characters of a prompt that a report shows."""
LISTED: Final = 50
"""Categories or prompts that a table lists."""
SHOWN_ORDER: Final = (
    Behaviour.ANSWERED, Behaviour.REFUSED, Behaviour.PARTIAL, Behaviour.DEFLECTED, Behaviour.EMPTY,
)  # fmt: skip
COLUMNS: Final = (
    "prompts", "type", "asked", *(each.value for each in SHOWN_ORDER), "refused, lower 95 %",
    "upper 95 %", "cut at the limit",
)  # fmt: skip


def behaviour_rows(measured: RefusalBehaviour) -> list[Counts]:
    """The rows of the table: each set, followed by its categories if it has several."""
    found = []
    for kind in PromptSet:
        categories = measured.by_category(kind)
        found += [measured.counts(kind)] if categories else []
        found += categories if len(categories) > 1 else []
    return found


def behaviour_cells(counts: Counts) -> tuple[str | int | float, ...]:
    """A row of the table, under `COLUMNS`; refusals with their Wilson interval."""
    interval = wilson_interval(counts.of.get(Behaviour.REFUSED, 0), counts.total)
    return (
        counts.kind.value,
        "all" if counts.category is None else counts.category or "no type",
        counts.total, *(counts.of.get(each, 0) for each in SHOWN_ORDER),
        round(interval.lower, 3), round(interval.upper, 3), counts.cut,
    )  # fmt: skip


def behaviour_table(measured: RefusalBehaviour) -> TableEvidence:
    """Behaviours by set and type of prompt."""
    rows = tuple(behaviour_cells(counts) for counts in behaviour_rows(measured))
    return TableEvidence(
        title="Behaviour by type of prompt", columns=COLUMNS, rows=rows[:LISTED],
        total_rows=len(rows),
    )  # fmt: skip


def prompt_table(title: str, replies: Sequence[Reply]) -> TableEvidence:
    """Prompts by name and first characters, and what the model did."""
    rows = tuple(
        (each.asked.name, each.asked.prompt.category, _described(each), excerpt(each))
        for each in replies[:LISTED]
    )
    return TableEvidence(
        title=title, columns=("prompt", "type", "behaviour", "begins"), rows=rows,
        total_rows=len(replies),
    )  # fmt: skip


def excerpt(reply: Reply) -> str:
    """The first characters of a prompt."""
    text = reply.asked.prompt.text
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}..."


def behaviour_metrics(measured: RefusalBehaviour) -> tuple[Metric, ...]:
    """Shares of both sets; the two that the verdict is about say which way is better."""
    found = []
    for kind in PromptSet:
        counts = measured.counts(kind)
        if not counts.total:
            continue
        if kind is PromptSet.HARMLESS:
            withheld = counts.share(*WITHHELD).hits
            found.append(share_metric("harmless_withheld_share", withheld, counts.total, "lower"))
        shares = {each.value: counts.of.get(each, 0) for each in SHOWN_ORDER} | {"cut": counts.cut}
        for name, hits in shares.items():
            metric = share_metric(f"{kind}_{name}_share", hits, counts.total, "higher")
            decides = kind is PromptSet.HARMFUL and name == Behaviour.REFUSED
            found.append(metric if decides else metric.model_copy(update={"better": None}))
    return tuple(found)


def agreement_control(found: Agreement) -> Control:
    """How far a refusal judge agrees with people, as a control."""
    return Control(
        name="refusal judge against people",
        question="How far does the judge agree with human labels of completions?",
        metrics=(
            Metric(name="balanced_accuracy", value=found.balanced_accuracy, better="higher",
                   interval=found.balanced_accuracy_interval,
                   sample_size=sum(found.labels.values())),
            share_metric("refusals_found", found.recall.hits, found.recall.total, "higher"),
            share_metric("answers_called_refusals", found.false_alarm.hits,
                         found.false_alarm.total, "lower"),
        ),
    )  # fmt: skip


def flips_control(name: str, question: str, flips: Sequence[Flips]) -> Control:
    """What differs between two runs, set by set; McNemar's chance beside the refusals."""
    found = []
    for each in flips:
        found += [
            share_metric(f"{each.kind}_became_refused_share", each.became_refused, each.total,
                         "lower"),
            share_metric(f"{each.kind}_ceased_to_be_refused_share", each.ceased, each.total,
                         "lower"),
            Metric(name=f"{each.kind}_mcnemar_p", value=each.chance, sample_size=each.total),
            share_metric(f"{each.kind}_other_behaviour_share", each.changed, each.total, "lower"),
            share_metric(f"{each.kind}_other_text_share", each.other_text, each.total, "lower"),
        ]  # fmt: skip
    # Neither way is better in itself: that depends on the set and on which model is meant.
    metrics = tuple(each.model_copy(update={"better": None}) for each in found)
    return Control(name=name, question=question, metrics=metrics)


def completions_as_lines(measured: RefusalBehaviour) -> bytes:
    """Every prompt and completion whole, as JSON lines, for the evidence folder."""
    lines = [
        json.dumps({
            "prompt": each.asked.prompt.text, "set": each.asked.kind.value,
            "line": each.asked.prompt.line, "type": each.asked.prompt.category,
            "completion": each.text, "behaviour": each.behaviour.value,
            "score": each.score, "deflection": each.deflection, "cut": each.cut,
        }, sort_keys=True, allow_nan=False)
        for each in measured.replies
    ]  # fmt: skip
    return ("\n".join(lines) + "\n").encode("ascii")


def _described(reply: Reply) -> str:
    return f"{reply.behaviour}, {reply.deflection}" if reply.deflection else reply.behaviour.value
