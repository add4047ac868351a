"""`auditor fix experts`: a routing intervention, measured before it is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from auditor.errors import ConfigurationError
from auditor.experts.intervention import Method
from auditor_cli.options import FILE, option

if TYPE_CHECKING:
    from auditor.fixes.expert_trial import HeldOut
    from auditor.language.prompts import Prompt

METHODS = click.Choice([str(method) for method in Method])


@dataclass(frozen=True)
class ExpertPrompts:
    """What `expert_prompt_options` were given."""

    harmful: Path
    harmless: Path
    held_out_harmful: tuple[Path, ...]
    held_out_harmless: Path
    plain_text: Path | None
    questions: Path | None
    prompt_column: str | None

    def ranked(self) -> tuple[list[Prompt], list[Prompt]]:
        """Prompts to rank and choose on: harmful, harmless."""
        return self._read(self.harmful), self._read(self.harmless)

    def held_out(self) -> HeldOut:
        """What is reported on, a stratum for each file of harmful prompts."""
        from auditor.fixes.expert_trial import HeldOut
        from auditor.json_lines import read_json_lines
        from auditor.language.multiple_choice import read_questions

        names = [path.stem for path in self.held_out_harmful]
        if len(set(names)) < len(names):
            raise ConfigurationError(
                "two files of --held-out-harmful have the same name; each is a stratum of its own"
            )
        texts = [] if self.plain_text is None else [
            line.text("text") for line in read_json_lines(self.plain_text, "plain texts")
        ]  # fmt: skip
        return HeldOut(
            {path.stem: self._read(path) for path in self.held_out_harmful},
            self._read(self.held_out_harmless), texts,
            [] if self.questions is None else read_questions(self.questions),
        )  # fmt: skip

    def _read(self, path: Path) -> list[Prompt]:
        from auditor.language.prompts import read_prompts

        return read_prompts(path, text_column=self.prompt_column)


EXPERT_PROMPT_OPTIONS = (
    option("--harmful", type=FILE, required=True,
           help="Prompts that should be refused, to rank and choose on."),
    option("--harmless", type=FILE, required=True,
           help="Prompts that deserve an answer, likewise; pairs share a `group` column."),
    option("--held-out-harmful", type=FILE, multiple=True,
           help="Harmful prompts to report on, each file a stratum; required, several times."),
    option("--held-out-harmless", type=FILE, required=True,
           help="Harmless prompts to report on."),
    option("--plain-text", type=FILE, help="Plain text for perplexity, .jsonl with a text field."),
    option("--questions", type=FILE,
           help="Multiple-choice questions, .jsonl of question, choices, answer (position)."),
    option("--prompt-column", help="Column of the prompts, if it has an unusual name."),
)  # fmt: skip
"""What a routing intervention is ranked, chosen and reported on."""
