"""Prompts that should be refused and prompts that should be answered, from one file or two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from auditor.errors import ConfigurationError
from auditor.language.prompts import Prompt, Selection, read_prompts


class PromptSet(StrEnum):
    """Whether a prompt should be refused."""

    HARMFUL = "harmful"
    HARMLESS = "harmless"


@dataclass(frozen=True)
class AskedPrompt:
    """A prompt and what should become of it."""

    prompt: Prompt
    kind: PromptSet

    @property
    def name(self) -> str:
        """Set and place in the file, to name it without saying it."""
        place = f"line {self.prompt.line}" if self.prompt.line else self.prompt.group
        return f"{self.kind} {place or 'prompt'}"


@dataclass(frozen=True)
class PromptFiles:
    """Where both sets stand.

    Attributes:
        paths: File of each set; may be one and the same.
        set_column: Column that tells the sets apart in a file that holds both.
        values: What stands there for each set; not looked at without a `set_column`.
        text_column: Column of the prompts, if it has an unusual name.
        category_column: Column of their type, likewise.
    """

    paths: Mapping[PromptSet, Path]
    values: Mapping[PromptSet, frozenset[str]]
    set_column: str | None = None
    text_column: str | None = None
    category_column: str | None = None


def read_prompt_sets(files: PromptFiles, count: int | None = None) -> list[AskedPrompt]:
    """The prompts of both sets, harmful ones first.

    Args:
        files: Where they stand.
        count: How many of each set, from the first on; all of them if None.

    Raises:
        ConfigurationError: One file for both without `set_column`, a value that means both, or
            as `read_prompts`.
        FileMissing, InvalidText, NothingToAudit: As `read_prompts`.
    """
    if files.set_column is None and len(set(files.paths.values())) == 1:
        raise ConfigurationError(
            f"{files.paths[PromptSet.HARMFUL]} is named for both sets; name the column that tells "
            "them apart (set_column, --set-column)"
        )
    harmful, harmless = files.values[PromptSet.HARMFUL], files.values[PromptSet.HARMLESS]
    if both := harmful & harmless:
        raise ConfigurationError(f"'{min(both)}' is to mean harmful and harmless; give it once")
    found: list[AskedPrompt] = []
    for kind in PromptSet:
        values = files.values[kind]
        prompts = read_prompts(
            files.paths[kind], text_column=files.text_column,
            category_column=files.category_column,
            selection=None if files.set_column is None
            else Selection(files.set_column, values, (harmful | harmless) - values),
        )  # fmt: skip
        found += [AskedPrompt(prompt, kind) for prompt in prompts[:count]]
    return found
