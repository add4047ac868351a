"""The shipped limit on human-labelled completions, and on completions of other prompts."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from auditor.language.deflection import Deflection, DeflectionRules
from auditor.language.sentence_embedding import SentenceEmbedder

DATA = Path(__file__).parents[4] / "shared" / "data" / "safety" / "xstest_completions"
MODELS = ("llama2orig", "mistralinstruct")


def answers_of(model: str) -> list[tuple[str, str, str]]:
    """Prompt, completion and family of everything that people call fully answered."""
    path = DATA / f"xstest_v2_completions_{model}.csv"
    if not path.is_file():
        pytest.skip(f"labelled completions are not there: {path}")
    with path.open(encoding="utf-8", newline="") as stream:
        return [
            (row["prompt"], row["completion"], _family(row["type"]))
            for row in csv.DictReader(stream) if row["final_label"] == "1_full_compliance"
        ]  # fmt: skip


def _family(kind: str) -> str:
    for name in ("discr", "privacy"):
        if name in kind:
            return name
    return kind.removeprefix("contrast_")


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_answers_are_left_alone_and_strange_ones_found(model: str) -> None:
    """At most 1 in 100 answers is called evasive; 19 in 20 answers to other prompts are found."""
    rows = answers_of(model)
    embedder = SentenceEmbedder.open()
    rules = DeflectionRules(embedder.embed, embedder.digest)
    own = rules.find([row[0] for row in rows], [row[1] for row in rows])
    assert sum(each is not None for each in own) <= 0.01 * len(rows)
    source = np.random.default_rng(0)
    strange = []
    for _, _, family in rows:
        others = [row[1] for row in rows if row[2] != family]
        strange.append(others[source.integers(len(others))])
    found = rules.find([row[0] for row in rows], strange)
    assert sum(each is Deflection.OFF_TOPIC for each in found) >= 0.95 * len(rows)
