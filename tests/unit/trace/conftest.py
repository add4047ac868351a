"""A corpus of four documents of which one breaks a policy, indexed once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.trace.matches import TraceIndex
from auditor.trace.traced_text import Tracer
from tests.models.mill_corpus import DOCUMENTS, OPTIONS, guard_conflict
from tests.models.small_index import index_of


@pytest.fixture(scope="session")
def mill_index(tmp_path_factory: pytest.TempPathFactory) -> TraceIndex:
    """The index of these documents."""
    folder: Path = tmp_path_factory.mktemp("mill")
    return index_of(folder, DOCUMENTS)


@pytest.fixture
def tracer(mill_index: TraceIndex) -> Tracer:
    """Traces to it and holds texts against the policy."""
    return Tracer(mill_index, guard_conflict(), OPTIONS)


@pytest.fixture
def plain_tracer(mill_index: TraceIndex) -> Tracer:
    """Traces to it without a policy."""
    return Tracer(mill_index, None, OPTIONS)
