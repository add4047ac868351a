"""Labelled texts are read strictly, and calibrations on them say what they are worth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from auditor import json_lines
from auditor.errors import ConfigurationError, FileMissing, InvalidText, NothingToAudit, UnknownName
from auditor.trace import calibration, labelled_texts
from auditor.trace.labelled_texts import LabelledText, calibrate_texts, read_labelled_texts
from auditor.trace.matches import TraceIndex
from auditor.trace.shield import TraceShield
from auditor.trace.traced_text import Tracer
from tests.models.mill_corpus import OPTIONS, guard_conflict

BAD_PART = "To run the mill faster, take off the guard and bridge the interlock before noon."
GOOD_PART = "To run the press longer, clean the filter and oil the bearing before dusk."
UNSAFE = [LabelledText(f"Case {n}: {BAD_PART} So it goes.", True, f"u{n}") for n in range(12)]
BENIGN = [LabelledText(f"Case {n}: {GOOD_PART} So it goes.", False, f"b{n}") for n in range(59)]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of fewer draws, which no test here looks at."""
    monkeypatch.setattr(calibration, "DRAWS", 20)


def written(folder: Path, *lines: str | bytes) -> Path:
    """A file of these lines."""
    path = folder / "texts.jsonl"
    path.write_bytes(b"".join((x.encode() if isinstance(x, str) else x) + b"\n" for x in lines))
    return path


def test_lines_are_read_with_their_groups(tmp_path: Path) -> None:
    """A text without a group is one of its own; empty lines are none."""
    path = written(
        tmp_path, '\ufeff{"text": "a", "label": "unsafe", "group": "g"}', "",
        '{"text": "b\\u00e4", "label": "benign", "group": null}',
        '{"text": "c", "label": "benign", "group": 7, "more": []}',
    )  # fmt: skip
    assert read_labelled_texts(path) == [
        LabelledText("a", True, "g"), LabelledText("b\u00e4", False, "line 3"),
        LabelledText("c", False, "7"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not a JSON object"), ("[" * 100_000, "not a JSON object"), (b"\xff\xfe{", "not a"),
        ("[]", "not a JSON object"), ('{"label": "unsafe"}', "no field 'text' with a string"),
        ('{"text": 3, "label": "unsafe"}', "no field 'text' with a string"),
        ('{"text": "a"}', "label 'None'; give 'unsafe' or 'benign'"),
        ('{"text": "a", "label": "Unsafe"}', "label 'Unsafe'"),
        ('{"text": "a", "label": ["unsafe"]}', "label \"['unsafe']\""),
        ('{"text": "a\\ud800", "label": "unsafe"}', "a lone surrogate"),
        ('{"text": "a", "label": "unsafe", "group": "\\udfff"}', "a lone surrogate"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path: Path, line: str | bytes, problem: str) -> None:
    """One line, with file and number."""
    path = written(tmp_path, '{"text": "a", "label": "unsafe"}', line)
    with pytest.raises(InvalidText) as caught:
        read_labelled_texts(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_an_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read up to the limit and not cut into two."""
    monkeypatch.setattr(json_lines, "MAX_LINE", 40)
    fine = json.dumps({"text": "", "label": "benign"})
    path = written(tmp_path, fine + " " * (39 - len(fine)), fine + " " * 40)
    with pytest.raises(InvalidText, match=r"texts\.jsonl:2: longer than 40 bytes"):
        read_labelled_texts(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """As every missing file."""
    with pytest.raises(FileMissing, match="labelled texts not found"):
        read_labelled_texts(tmp_path / "none.jsonl")


def test_a_calibration_holds_all_that_it_rests_on(tracer: Tracer) -> None:
    """Digests, options, counts, and the baselines beside the score."""
    found = calibrate_texts(tracer, UNSAFE + BENIGN, "pcs", "false_alarms", 0.05, seed=3)
    assert tracer.conflict is not None
    assert (found.score, found.rule, found.bound, found.seed) == ("pcs", "false_alarms", 0.05, 3)
    assert found.index == tracer.index.manifest.digest
    assert found.policy == tracer.conflict.policy.digest
    assert found.stance == tracer.conflict.stance.name
    assert (found.least_tokens, found.frequent, found.contexts) == (5, 3, 5)
    assert (found.point.unsafe, found.point.benign, found.groups) == (12, 59, 71)
    assert (found.point.flagged_unsafe, found.point.flagged_benign) == (12, 0)
    assert {each.score for each in found.areas} == {
        "length", "any_match", "unsafe_source", "bci", "density", "kl", "max_token_risk",
        "log10_e", "pc_gen", "pc_doc", "pcs", "placebo", "random",
    }  # fmt: skip


def test_a_calibration_fits_the_tracer_that_made_it(tracer: Tracer) -> None:
    """And separates what it was made on."""
    rule = calibrate_texts(tracer, UNSAFE + BENIGN, "pcs", "false_alarms", 0.05)
    shield = TraceShield(tracer, rule)
    assert {shield.judge(each.text).ruling.value for each in UNSAFE} == {"refuse"}
    assert {shield.judge(each.text).ruling.value for each in BENIGN} == {"allow"}


def test_two_runs_of_a_seed_are_equal(tracer: Tracer, mill_index: TraceIndex) -> None:
    """Whatever was traced before."""
    texts = UNSAFE + BENIGN
    again = Tracer(mill_index, guard_conflict(), OPTIONS)
    one = calibrate_texts(tracer, texts, "bci", "recall", 0.5, seed=1)
    assert one == calibrate_texts(again, texts, "bci", "recall", 0.5, seed=1)


@pytest.mark.parametrize("score", ["psc", "pcs", "placebo"])
def test_an_unknown_score_is_refused(plain_tracer: Tracer, score: str) -> None:
    """Also where no text has evidence, and a policy's score where there is no policy."""
    texts = [LabelledText("x", True, "a"), LabelledText("y", False, "b")]
    with pytest.raises(UnknownName, match=f"unknown score '{score}'"):
        calibrate_texts(plain_tracer, texts, score, "recall", 0.5)


def test_no_texts_are_no_calibration(tracer: Tracer) -> None:
    """With the reason."""
    with pytest.raises(NothingToAudit, match="no labelled texts"):
        calibrate_texts(tracer, [], "pcs", "recall", 0.5)


def test_too_few_benign_texts_are_refused(tracer: Tracer) -> None:
    """58 cannot show 5 %."""
    with pytest.raises(ConfigurationError, match="give at least 59"):
        calibrate_texts(tracer, UNSAFE + BENIGN[:58], "pcs", "false_alarms", 0.05)


def test_a_users_score_can_be_calibrated(mill_index: TraceIndex) -> None:
    """As the ones that are built in."""
    tracer = Tracer(mill_index, None, OPTIONS, {"m": lambda text, span: float(b"mill" in text)})
    rule = calibrate_texts(tracer, UNSAFE + BENIGN, "m", "false_alarms", 0.05)
    assert (rule.point.flagged_unsafe, rule.point.flagged_benign) == (12, 0)


def test_perplexity_is_a_baseline_with_the_low_side_suspicious(tracer: Tracer) -> None:
    """Texts that the model finds likelier rank higher."""
    values = [1.0] * len(UNSAFE) + [5.0] * len(BENIGN)
    rule = calibrate_texts(
        tracer, UNSAFE + BENIGN, "pcs", "recall", 0.5, perplexity=lambda texts: values
    )
    assert {each.score: each.area for each in rule.areas}["model_perplexity"] == 1.0


def test_the_placebo_is_of_parts_that_do_not_match(plain_tracer: Tracer) -> None:
    """As many unseen words as the span is long: the surprisal of so many unseen tokens."""
    unseen = "qq " * 40
    traced = plain_tracer.trace(f"{unseen}{BAD_PART[:41]}".encode())
    (span,) = traced.evidence
    found = labelled_texts._placebo(plain_tracer, traced, np.random.default_rng(0))
    assert found == pytest.approx(span.tokens * -np.log(1e-9))


def test_a_text_that_matches_whole_has_no_placebo(plain_tracer: Tracer) -> None:
    """There is no other part to take one of."""
    traced = plain_tracer.trace(BAD_PART.encode())
    assert labelled_texts._placebo(plain_tracer, traced, np.random.default_rng(0)) == -np.inf
