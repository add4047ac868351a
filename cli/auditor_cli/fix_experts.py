"""`auditor fix experts`: a routing intervention, measured before it is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import rich_click as click

from auditor.errors import ConfigurationError, InvalidText, NothingToAudit
from auditor_cli.options import FILE, option
from auditor_cli.trace_options import gathered, resolved_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.fixes.expert_steering import ExpertSteering
    from auditor.fixes.expert_trial import HeldOut
    from auditor.language.prompts import Prompt
    from auditor.language.refusal import RefusalJudge

METHODS: Final = ("mask_logit", "zero_weight", "zero_output", "force_tok", "force_select")
DIRECTIONS: Final = ("suppress", "strengthen")
MARKERS_BYTES: Final = 2**20


@dataclass(frozen=True)
class Steering:
    """What `steering_options` were given."""

    direction: str
    method: str
    harmful: Path
    harmless: Path
    held_out_harmful: tuple[Path, ...]
    held_out_harmless: Path
    plain_text: Path | None
    questions: Path | None
    prompt_column: str | None
    markers: Path | None
    judge: Path | None
    size: tuple[int, ...]
    controls: int
    margin: float
    all_tokens: bool
    new_tokens: int
    batch_size: int
    chat: bool
    seed: int
    device: str

    def work(self) -> ExpertSteering:
        """What is asked for, with every file read.

        Raises:
            ConfigurationError: No held-out harmful prompts, two strata of one name, or a method
                that does not fit the direction.
            FileMissing, InvalidText, NothingToAudit: A file is not there, wrong, or empty.
        """
        from auditor.experts.intervention import Method
        from auditor.experts.routing_maps import TokenSet
        from auditor.fixes.expert_proposal import SIZES
        from auditor.fixes.expert_steering import ExpertSteering
        from auditor.language.asking import Asking

        return ExpertSteering(
            "suppress" if self.direction == "suppress" else "strengthen", Method(self.method),
            self._read(self.harmful), self._read(self.harmless), self._held_out(),
            self._judge(), Asking(self.new_tokens, self.chat, self.batch_size),
            sizes=tuple(sorted(set(self.size))) or SIZES, controls=self.controls,
            token_set=TokenSet.PROMPT if self.all_tokens else TokenSet.LAST,
            margin=self.margin, seed=self.seed,
        )  # fmt: skip

    def _held_out(self) -> HeldOut:
        from auditor.fixes.expert_trial import HeldOut
        from auditor.json_lines import read_json_lines
        from auditor.language.multiple_choice import read_questions

        if not self.held_out_harmful:
            raise ConfigurationError(
                f"'{self.direction}' without held-out harmful prompts; give --held-out-harmful, "
                "once for each stratum"
            )
        names = [path.stem for path in self.held_out_harmful]
        if len(set(names)) < len(names):
            raise ConfigurationError(
                "two files of --held-out-harmful have one name; each is a stratum of its own"
            )
        texts = [] if self.plain_text is None else [
            line.text("text") for line in read_json_lines(self.plain_text, "plain texts")
        ]  # fmt: skip
        if self.plain_text is not None and not texts:
            raise NothingToAudit(f"{self.plain_text} holds no text")
        return HeldOut(
            {path.stem: self._read(path) for path in self.held_out_harmful},
            self._read(self.held_out_harmless), texts,
            [] if self.questions is None else read_questions(self.questions),
        )  # fmt: skip

    def _judge(self) -> RefusalJudge:
        from auditor.files import read_text_file
        from auditor.language.embedding_judge import load_judge
        from auditor.language.marker_limits import compile_marker
        from auditor.language.refusal import MarkerJudge
        from auditor.language.sentence_embedding import SentenceEmbedder

        if self.markers is not None and self.judge is not None:
            raise ConfigurationError("--markers and --judge; give one of them")
        if self.judge is not None:
            return load_judge(self.judge, SentenceEmbedder.open(None, device=self.device))
        if self.markers is None:
            return MarkerJudge()
        lines = read_text_file(self.markers, "markers", MARKERS_BYTES).splitlines()
        kept = {number: line for number, line in enumerate(lines, 1) if line.strip()}
        if not kept:
            raise NothingToAudit(f"{self.markers} holds no marker; give one on each line")
        for number, line in kept.items():
            try:
                compile_marker(line)
            except ValueError as error:
                raise InvalidText(f"{self.markers}:{number}", str(error)) from None
        return MarkerJudge(tuple(kept.values()))

    def _read(self, path: Path) -> list[Prompt]:
        from auditor.language.prompts import read_prompts

        return read_prompts(path, text_column=self.prompt_column)


def steering_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Everything that a routing intervention is made of, given as one `steering`."""
    function = gathered(Steering, "steering")(function)
    for decorate in reversed((
        option("--direction", type=click.Choice(DIRECTIONS), required=True,
               help="Suppress over-refusal, or strengthen refusals of harmful prompts."),
        option("--method", type=click.Choice(METHODS), required=True,
               help="How experts are switched: five meanings that differ (specs/experts.md)."),
        option("--harmful", type=FILE, required=True,
               help="Prompts that should be refused, to rank and choose on."),
        option("--harmless", type=FILE, required=True,
               help="Prompts that deserve an answer, likewise; a `group` column makes pairs."),
        option("--held-out-harmful", type=FILE, multiple=True,
               help="Harmful prompts to report on; each file is a stratum. Required."),
        option("--held-out-harmless", type=FILE, required=True,
               help="Harmless prompts to report on."),
        option("--plain-text", type=FILE,
               help="Plain text for perplexity, .jsonl with a text field."),
        option("--questions", type=FILE,
               help="Multiple-choice questions: .jsonl of question, choices, answer (position)."),
        option("--prompt-column", help="Column of the prompts, if it has an unusual name."),
        option("--markers", type=FILE,
               help="Regular expressions that mark a refusal, one on each line, over answers in "
               "lower case."),
        option("--judge", type=FILE, help="Judge that `auditor language train-judge` wrote."),
        option("--size", type=click.IntRange(1, 1_000), multiple=True,
               help="How many experts to try; repeatable (default 1, 2, 5, 10, 20)."),
        option("--controls", type=click.IntRange(20, 100_000), default=99, show_default=True,
               help="Matched random sets."),
        option("--margin", type=click.FloatRange(0.001, 0.05), default=0.02, show_default=True,
               help="Share of refusals that may be lost, and that over-refusal may rise by."),
        option("--all-tokens", is_flag=True,
               help="Rank by all tokens of a prompt instead of its last one."),
        option("--new-tokens", type=click.IntRange(1, 4_096), default=64, show_default=True,
               help="Tokens of an answer at most."),
        option("--batch-size", type=click.IntRange(1, 1_024), default=32, show_default=True,
               help="Prompts at once."),
        option("--chat/--no-chat", default=True, show_default=True,
               help="Ask through the tokenizer's chat template, where it has one."),
        option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of chance."),
        option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="cpu",
               show_default=True, callback=resolved_device, help="Where the model runs."),
    )):  # fmt: skip
        function = decorate(function)
    return function
