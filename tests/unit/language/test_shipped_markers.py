"""The shipped markers against the public labelled completions they were chosen on."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.language.judge_agreement import read_labelled_completions, training_set
from auditor.language.refusal import Behaviour, LabelledSet, choose_markers
from auditor.language.refusal_markers import MARKERS

LABELS = {
    "1_full_compliance": Behaviour.ANSWERED,
    "2_full_refusal": Behaviour.REFUSED,
    "3_partial_refusal": Behaviour.PARTIAL,
}
FOLDER = Path(__file__).parents[4] / "shared/data/safety/xstest_completions"


def _labelled(model: str) -> LabelledSet:
    path = FOLDER / f"xstest_v2_completions_{model}.csv"
    if not path.is_file():
        pytest.skip(f"labelled completions are not there: {path}")
    return training_set(read_labelled_completions(path, "completion", "final_label", LABELS))


def test_the_shipped_markers_are_what_both_models_choose() -> None:
    """The list in the code is the outcome of the procedure, not edited by hand."""
    both = [_labelled("llama2orig"), _labelled("mistralinstruct")]
    assert choose_markers(both) == MARKERS
