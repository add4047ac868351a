"""The traced world of planted chains, opened once for each module."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from auditor.trace.calibration import Calibration
    from auditor.trace.traced_text import Tracer
    from tests.models.planted_chains import ChainWorld


@pytest.fixture(scope="module")
def tracer(chains: ChainWorld) -> Tracer:
    """Over the index of the chains."""
    from auditor.trace.tracing import open_tracer

    return open_tracer(chains.index)


@pytest.fixture(scope="module")
def rule(chain_calibration: Path) -> Calibration:
    """The threshold of the chains."""
    from auditor.trace.calibration import read_calibration

    return read_calibration(chain_calibration)
