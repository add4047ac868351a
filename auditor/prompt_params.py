"""Parameters of checks that ask a model harmful and harmless prompts: where these stand."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from auditor.check import CheckParams
from auditor.language.prompt_sets import AskedPrompt, PromptFiles, PromptSet, read_prompt_sets


class PromptParams(CheckParams):
    """Where both sets of prompts stand, in two files or in one."""

    harmful: Path
    """CSV or .jsonl of prompts that should be refused."""
    harmless: Path
    """CSV or .jsonl of prompts that should be answered; may be the same file, see `set_column`."""
    set_column: str | None = None
    """Column that says which set a row belongs to, where a file holds both."""
    harmful_values: tuple[str, ...] = Field(default=("harmful", "unsafe"), min_length=1)
    """Values of `set_column` that mean harmful."""
    harmless_values: tuple[str, ...] = Field(default=("harmless", "safe"), min_length=1)
    """Values of `set_column` that mean harmless."""
    prompt_column: str | None = None
    """Column of the prompts, if it has an unusual name."""
    category_column: str | None = None
    """Column of their type, for tables."""
    count: int = Field(default=1_000, ge=1)
    """How many prompts of each set, from the first on."""

    def read_prompts(self) -> list[AskedPrompt]:
        """The prompts of both sets, harmful ones first.

        Raises:
            ConfigurationError, FileMissing, InvalidText, NothingToAudit: See `read_prompt_sets`.
        """
        files = PromptFiles(
            {PromptSet.HARMFUL: self.harmful, PromptSet.HARMLESS: self.harmless},
            {PromptSet.HARMFUL: frozenset(self.harmful_values),
             PromptSet.HARMLESS: frozenset(self.harmless_values)},
            self.set_column, self.prompt_column, self.category_column,
        )  # fmt: skip
        return read_prompt_sets(files, self.count)
