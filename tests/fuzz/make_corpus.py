"""Writes the seeds that fuzzing starts from: `python -m tests.fuzz.make_corpus`.

A few tiny files for each target, most of them such as its reader accepts, all made from one seed
and from nothing else. What libraries write (Parquet, gzip) may differ in a byte from version to
version, so the files are kept in the repository.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.fuzz.model_seeds import model_seeds, number_seeds
from tests.fuzz.record_seeds import record_seeds
from tests.fuzz.scan_seeds import scan_seeds
from tests.fuzz.text_seeds import text_seeds
from tests.fuzz.torch_seeds import torch_seeds

CORPUS: Final = Path(__file__).parent / "corpus"

Files = dict[str, bytes]

PARTS: Final[tuple[Callable[[Path], dict[str, Files]], ...]] = (
    text_seeds, model_seeds, number_seeds, record_seeds, scan_seeds, torch_seeds,
)  # fmt: skip


def made_corpus() -> dict[str, Files]:
    """Every seed by target and name."""
    found: dict[str, Files] = {}
    for make in PARTS:
        with tempfile.TemporaryDirectory() as folder:
            found |= make(Path(folder))
    return found


def main() -> None:
    """Write the corpus anew."""
    made = made_corpus()
    shutil.rmtree(CORPUS, ignore_errors=True)
    for target, files in made.items():
        for name, content in files.items():
            path = CORPUS / target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


if __name__ == "__main__":
    main()
