"""What every test may use: golden files, rewritten with `--update-goldens`, and a traced world."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.models.planted_chains import ChainWorld
    from tests.models.planted_refusals import RefusalWorld

GOLDENS = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that rewrites golden files instead of comparing with them."""
    parser.addoption(
        "--update-goldens", action="store_true", help="rewrite golden files with what is produced"
    )


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is remembered in the home of whoever runs the tests, nor believed from there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def chains(tmp_path_factory: pytest.TempPathFactory) -> ChainWorld:
    """A model that says planted texts, and an index that holds them; do not write to it."""
    from tests.models.planted_chains import write_world  # imports torch, which few tests need

    return write_world(tmp_path_factory.mktemp("chains"))


@pytest.fixture(scope="session")
def chain_calibration(chains: ChainWorld) -> Path:
    """A calibration of `unsafe_source` for that index; do not write to it."""
    from auditor.trace.calibration import write_calibration
    from auditor.trace.labelled_texts import calibrate_texts, read_labelled_texts
    from auditor.trace.tracing import open_tracer

    path = chains.folder / "calibration.json"
    texts = read_labelled_texts(chains.labelled)
    write_calibration(path, calibrate_texts(
        open_tracer(chains.index), texts, "unsafe_source", "false_alarms", 0.05
    ))  # fmt: skip
    return path


@pytest.fixture(scope="session")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> RefusalWorld:
    """Two models of which it is known what they refuse; do not write to it."""
    from tests.models.planted_refusals import write_world  # imports torch, which few tests need

    return write_world(tmp_path_factory.mktemp("refusals"))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, bytes], None]:
    """Compare bytes with a golden file, a path below tests/golden or an absolute one."""

    def compare(path: Path, produced: bytes) -> None:
        target = GOLDENS / path
        if request.config.getoption("--update-goldens"):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(produced)
        assert target.is_file(), f"{target} is missing; write it with --update-goldens"
        assert produced.decode() == target.read_text("utf-8"), (
            f"{target.name} differs; look at the change, then accept it with --update-goldens"
        )

    return compare
