"""Opening what a trace needs, with the default embedder where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import ConfigurationError, FileMissing
from auditor.trace.matches import TraceIndex
from auditor.trace.traced_text import TraceOptions
from auditor.trace.tracing import open_tracer, refusal_scores


def test_an_index_alone_is_enough(mill_index: TraceIndex) -> None:
    """Then nothing is held against a policy."""
    tracer = open_tracer(mill_index.folder, options=TraceOptions(least_tokens=5))
    assert tracer.conflict is None
    assert tracer.options.least_tokens == 5
    assert tracer.index.manifest == mill_index.manifest


def test_missing_files_are_named(mill_index: TraceIndex, tmp_path: Path) -> None:
    """Index and policy."""
    with pytest.raises(FileMissing, match="index"):
        open_tracer(tmp_path / "none")
    with pytest.raises(FileMissing, match="content policy"):
        open_tracer(mill_index.folder, tmp_path / "none.yaml")


def test_a_policy_without_exemplars_needs_a_model(mill_index: TraceIndex, tmp_path: Path) -> None:
    """The way out is named."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "version: 1\nname: p\nclauses:\n  - {id: a, statement: No fire., violation: Fire.}\n"
    )
    with pytest.raises(ConfigurationError, match=r"'a' has 0 violating .*, or give an NLI model"):
        open_tracer(mill_index.folder, policy)


def test_a_policy_without_clauses_conflicts_with_nothing(
    mill_index: TraceIndex, tmp_path: Path
) -> None:
    """And needs no exemplars."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nname: p\nclauses: []\n")
    conflict = open_tracer(mill_index.folder, policy).conflict
    assert conflict is not None
    assert conflict.of(["take off the guard"])[0].score == 0.0


def test_refusals_are_scored_text_by_text() -> None:
    """By keywords: 1 or 0."""
    assert refusal_scores(["I cannot help with that.", "Sure.", ""]) == [1.0, 0.0, 0.0]
