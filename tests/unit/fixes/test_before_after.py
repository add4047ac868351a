"""Paired counts and intervals of two ways to complete prompts, against values made by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from auditor.fix import Comparison, Condition
from auditor.fixes.before_after import (
    INSTEAD,
    Measured,
    Trial,
    as_control,
    compare,
    compare_perplexities,
    groups_of,
    mean_interval,
    measure,
    text_digest,
)
from auditor.intervals import wilson_interval
from auditor.language.prompts import Prompt
from auditor.trace.drift import reduction_interval


class WordJudge:
    """Unsafe is what has the word `bad`."""

    name = "word"

    def unsafe(self, completions: Sequence[str]) -> list[bool]:
        """Whether each has it."""
        return ["bad" in text.split() for text in completions]


def no_answer(completions: Sequence[str]) -> list[bool]:
    """Whether each is `no`."""
    return [text == "no" for text in completions]


def trial(
    unsafe: int, safe: int, surprise: Callable[[Sequence[str]], Sequence[float]] | None = None
) -> Trial:
    """A trial with so many prompts of each kind, called u0, u1, ... and s0, s1, ..."""
    return Trial(
        [Prompt(f"u{number}") for number in range(unsafe)],
        [Prompt(f"s{number}") for number in range(safe)], WordJudge(), no_answer, surprise,
    )  # fmt: skip


def saying(*texts: str) -> Callable[[Sequence[str]], list[str]]:
    """A way to complete that gives these texts."""
    return lambda prompts: list(texts[: len(prompts)])


def named(condition: Condition, name: str) -> Comparison:
    """The comparison of this name."""
    return next(each for each in condition.comparisons if each.name == name)


def measured(drifted: Sequence[bool], refused: Sequence[bool] = ()) -> Measured:
    """What was measured, without perplexities."""
    return Measured(tuple(drifted), tuple(refused), (), 1.0, 50, ())


def test_completions_are_judged_by_the_prompts_they_belong_to() -> None:
    """Drift is of the unsafe prompts, refusals are of the safe ones."""
    found = measure(trial(2, 2), saying("bad thing", "no", "bad thing", "no"))
    assert (found.drifted, found.refused, found.words) == ((True, False), (False, True), 6)


@pytest.mark.parametrize("silent", ["", "  \n"])
def test_silence_on_a_safe_prompt_counts_as_a_refusal(silent: str) -> None:
    """A model that says nothing would else look as if it kept every demand."""
    assert measure(trial(0, 2), saying(silent, "yes")).refused == (True, False)


def test_surprise_is_asked_of_answers_only() -> None:
    """What refuses or is empty has no perplexity, and places stay aligned."""
    asked: list[str] = []

    def surprise(texts: Sequence[str]) -> list[float]:
        asked.extend(texts)
        return [float(len(text)) for text in texts]

    found = measure(trial(1, 4, surprise), saying("bad", "no", "abc", "", "abcde"))
    assert asked == ["abc", "abcde"]
    assert [each if each == each else None for each in found.nats] == [None, 3.0, None, 5.0]


def test_drift_is_compared_prompt_by_prompt() -> None:
    """Shares with Wilson intervals, and McNemar of 4 flips one way and 1 the other: 12 / 32."""
    before = measured([True] * 5 + [False] * 3)
    after = measured([False] * 4 + [True] + [True] + [False] * 2)
    drift = named(compare("x", trial(8, 0), before, after), "drift rate")
    assert (drift.before.value, drift.after.value) == (5 / 8, 2 / 8)
    assert drift.after.interval == wilson_interval(2, 8)
    # Two-sided: 2 * (C(5, 0) + C(5, 1)) / 2**5
    assert drift.chance == pytest.approx(12 / 32)


def test_false_refusals_are_counted_on_safe_prompts() -> None:
    """Three new refusals and no answer won back: 2 / 2**3."""
    before, after = measured((), [False] * 6), measured((), [True] * 3 + [False] * 3)
    found = named(compare("x", trial(0, 6), before, after), "false refusals")
    assert (found.before.value, found.after.value, found.chance) == (0, 0.5, 2 / 8)


@pytest.mark.parametrize(("mended", "lower"), [(1, 0.025), (2, 0.025**0.5), (6, 0.025 ** (1 / 6))])
def test_few_prompts_show_little_even_if_all_are_mended(mended: int, lower: float) -> None:
    """Resampling alone would say 100 % to 100 %: the exact bound of 0 of n stands instead."""
    found = reduction_interval([True] * mended, [False] * mended, [str(n) for n in range(mended)])
    assert [found.lower, found.upper] == pytest.approx([lower, 1.0])


def test_prompts_of_one_group_count_as_one() -> None:
    """Fifty prompts that hang together show what one shows."""
    assert reduction_interval([True] * 50, [False] * 50, ["a"] * 50).lower == pytest.approx(0.025)


def test_a_reduction_of_independent_prompts_has_the_interval_of_its_bootstrap() -> None:
    """Of 200 prompts 80 drift no more; about normal, 0.4 +- 1.96 sqrt(0.4 * 0.6 / 200)."""
    found = reduction_interval(
        [True] * 200, [False] * 80 + [True] * 120, [str(n) for n in range(200)]
    )
    half = 1.96 * math.sqrt(0.4 * 0.6 / 200)
    assert found.lower == pytest.approx(0.4 - half, abs=0.02)
    assert found.upper == pytest.approx(0.4 + half, abs=0.02)


def test_no_drift_before_shows_no_reduction() -> None:
    """There is nothing to reduce."""
    found = reduction_interval([False] * 9, [False] * 9, [str(n) for n in range(9)])
    assert (found.lower, found.upper) == (0, 0)


def test_prompts_without_a_group_are_groups_of_their_own() -> None:
    """An empty name is no name that they share."""
    names = groups_of([Prompt("a"), Prompt("b"), Prompt("c", group="x"), Prompt("d", group="x")])
    assert len(set(names)) == 3
    assert names[2] == names[3]


def test_perplexities_are_means_over_texts_that_have_both() -> None:
    """exp of the nats, text by text; a text without nats on one side is left out."""
    nan = float("nan")
    found = compare_perplexities(
        "p", [math.log(2), nan, math.log(4), 1.0], [math.log(3), 1.0, math.log(9), nan],
        ["a", "b", "c", "d"],
    )  # fmt: skip
    assert found is not None
    assert [found.before.value, found.after.value] == pytest.approx([3, 6])
    assert found.before.sample_size == 2
    # Resamples of two texts with rises of 1 and 5 have means of 1, 3 or 5.
    assert found.change is not None
    assert [found.change.lower, found.change.upper] == pytest.approx([1, 5])


def test_perplexities_of_no_common_text_are_not_compared() -> None:
    """There is no number to show."""
    nan = float("nan")
    assert compare_perplexities("p", [nan, 1.0], [1.0, nan], ["a", "b"]) is None


def test_one_group_has_no_interval_of_its_mean() -> None:
    """An interval of width 0 would claim certainty."""
    assert mean_interval(np.array([1.0, 2.0]), ["a", "a"]) is None


def test_a_control_says_what_the_repair_buys_beyond_it() -> None:
    """Two of the three prompts that the control leaves drifting are mended by the repair."""
    control, repair = measured([True, True, True, False]), measured([True, False, False, False])
    base = compare("control", trial(4, 0), measured([True] * 4), control)
    found = as_control(base, trial(4, 0), control, repair, "repair")
    assert (found.control, found.control_of) == (True, "repair")
    beyond = named(found, INSTEAD)
    assert (beyond.before.value, beyond.after.value, beyond.chance) == (0.75, 0.25, 0.5)
    assert named(found, "drift rate").before.value == 1


def test_digests_tell_texts_apart() -> None:
    """Also where the joined characters are the same."""
    assert len({text_digest(each) for each in (["ab", "c"], ["a", "bc"], ["c", "ab"], [])}) == 4


def test_speed_of_no_words_is_a_number() -> None:
    """Nothing is divided by zero."""
    found = compare("x", trial(1, 0), Measured((True,), (), (), 2.0, 0, ()), measured([True]))
    assert named(found, "seconds for 100 words").before.value == 200
    assert named(found, "seconds for 100 words").after.value == 2
