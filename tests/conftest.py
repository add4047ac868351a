"""What every test may use: golden files, rewritten with `--update-goldens`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

GOLDENS = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that rewrites golden files instead of comparing with them."""
    parser.addoption(
        "--update-goldens", action="store_true", help="rewrite golden files with what is produced"
    )


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
