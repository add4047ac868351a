"""`auditor language refusals`: what a model does with harmful and with harmless prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from rich.markup import escape

from auditor.errors import ConfigurationError
from auditor_cli.options import FILE, FOLDER, MODEL, json_option, option, quiet_option
from auditor_cli.output import Output
from auditor_cli.trace_options import gathered
from auditor_reports.sanitise import one_line

if TYPE_CHECKING:
    from auditor.language.judge_agreement import Agreement
    from auditor.language.judges import JudgeChoice
    from auditor.language.prompt_sets import AskedPrompt
    from auditor.language.refusal_record import Flips, RefusalBehaviour
    from auditor.language.text_model import TextModel


@dataclass(frozen=True)
class Sets:
    """What the options on prompts were given."""

    harmful: Path
    harmless: Path
    set_column: str | None
    harmful_value: tuple[str, ...]
    harmless_value: tuple[str, ...]
    prompt_column: str | None
    category_column: str | None
    limit: int | None

    def read(self) -> list[AskedPrompt]:
        """The prompts of both sets."""
        from auditor.language.prompt_sets import PromptFiles, PromptSet, read_prompt_sets

        files = PromptFiles(
            {PromptSet.HARMFUL: self.harmful, PromptSet.HARMLESS: self.harmless},
            {PromptSet.HARMFUL: frozenset(self.harmful_value),
             PromptSet.HARMLESS: frozenset(self.harmless_value)},
            self.set_column, self.prompt_column, self.category_column,
        )  # fmt: skip
        return read_prompt_sets(files, self.limit)


def _set_options(function: Any) -> Any:
    """Options on prompts, given as one `sets`."""
    function = gathered(Sets, "sets")(function)
    for decorate in reversed((
        option("--harmful", type=FILE, required=True,
               help="CSV or .jsonl of prompts that should be refused."),
        option("--harmless", type=FILE, required=True,
               help="CSV or .jsonl of prompts that should be answered; may be the same file."),
        option("--set-column", help="Column that tells the sets apart in a file of both."),
        option("--harmful-value", multiple=True, default=("harmful", "unsafe"), show_default=True,
               help="What it says of harmful prompts; may be given more than once."),
        option("--harmless-value", multiple=True, default=("harmless", "safe"), show_default=True,
               help="What it says of harmless prompts."),
        option("--prompt-column", help="Column of the prompts, if not prompt, goal or text."),
        option("--category-column", help="Column of their type, if not category or type."),
        option("--limit", type=click.IntRange(1), help="Only the first so many of each set."),
    )):  # fmt: skip
        function = decorate(function)
    return function


@click.command(name="refusals")
@click.argument("folder", type=FOLDER)
@_set_options
@option("--judge", default="markers", show_default=True,
        metavar="markers|first-token|FILE|FOLDER",
        help="What says whether a completion refuses: keywords, the model's own first token, "
        "a trained judge's file, or a classifier's folder.")  # fmt: skip
@option("--labelled", type=FILE, help="CSV of completions that people labelled (`completion`, "
        "`final_label`): the judge's agreement with them.")  # fmt: skip
@option("--base", type=MODEL, help="Another model, asked the same: flips are counted.")
@option("--deflection/--no-deflection", default=True, show_default=True,
        help="Tell completions that evade from answers.")  # fmt: skip
@option("--noise-floor", is_flag=True, help="Ask twice, in other batches, and count flips.")
@option("--new-tokens", type=click.IntRange(1, 4_096), default=128, show_default=True,
        help="Tokens of a completion at most.")  # fmt: skip
@option("--batch-size", type=click.IntRange(1, 1_024), default=16, show_default=True,
        help="Prompts at once.")  # fmt: skip
@option("--chat/--no-chat", default=True, show_default=True,
        help="Ask through the tokenizer's chat template, where it has one.")  # fmt: skip
@option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="cpu", show_default=True,
        help="Where models run.")  # fmt: skip
@json_option
@quiet_option
def refusals(
    folder: Path,
    sets: Sets,
    judge: str,
    labelled: Path | None,
    base: Path | None,
    deflection: bool,
    noise_floor: bool,
    new_tokens: int,
    batch_size: int,
    chat: bool,
    device: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Count what the model of a transformers FOLDER does with harmful and harmless prompts.

    Prompts are completed greedily. Prints counts by set and type; exits 0 whatever they are: the
    check AUD302 holds them against limits.
    """
    from auditor.language.asking import Asking, other_composition
    from auditor.language.deflection import DeflectionRules
    from auditor.language.judge_agreement import (
        PEOPLES_LABELS,
        measure_agreement,
        read_labelled_completions,
    )
    from auditor.language.judges import open_refusal_judge
    from auditor.language.language_model import open_language_model
    from auditor.language.opening import choose_device
    from auditor.language.refusal_behaviour import measure_behaviour
    from auditor.language.refusal_record import compare_runs
    from auditor.language.sentence_embedding import SentenceEmbedder
    from auditor.models.first_load import try_folders

    output, device = Output(as_json, quiet), choose_device(device)
    asked, choice = sets.read(), _choice(judge)
    labels = None if labelled is None else read_labelled_completions(
        labelled, "completion", "final_label", PEOPLES_LABELS
    )  # fmt: skip
    rules = None
    if deflection:
        embedder = SentenceEmbedder.open(device=device)
        rules = DeflectionRules(embedder.embed, embedder.digest)
    asking = Asking(new_tokens, chat, batch_size)
    folders = [each for each in (folder, base) if each is not None]
    try_folders(*folders, *([choice.folder] if choice.folder is not None else []))
    models = [open_language_model(each, device) for each in folders]
    output.log(f"{len(asked)} prompts, at most {new_tokens} tokens each")

    def ask(model: TextModel, how: Asking) -> RefusalBehaviour:
        return measure_behaviour(
            model, asked, open_refusal_judge(choice, model, device), how, rules=rules,
            progress=lambda done, total: output.log(f"{done} of {total} prompts"),
        )  # fmt: skip

    measured = ask(models[0], asking)
    _show(measured, output)
    if labels is not None:
        decides = open_refusal_judge(choice, models[0], device)
        _show_agreement(measure_agreement(decides, labels), output)
    else:
        output.data("how far the judge agrees with people was not measured; give --labelled")
    if noise_floor:
        again = ask(models[0], other_composition(asking))
        _show_flips("other batches", compare_runs(measured, again), output)
    if base is not None:
        _show_flips("base", compare_runs(ask(models[1], asking), measured), output)
    return 0


def _choice(judge: str) -> JudgeChoice:
    from auditor.language.judges import JudgeChoice

    if judge == "markers":
        return JudgeChoice("markers")
    if judge == "first-token":
        return JudgeChoice("first-token")
    if Path(judge).is_file():
        return JudgeChoice("embedding", file=Path(judge))
    if Path(judge).is_dir():
        return JudgeChoice("classifier", folder=Path(judge))
    raise ConfigurationError(
        f"judge '{judge}' is neither markers nor first-token, and no file or folder of that name "
        "is there; train one with auditor language train-judge"
    )


def _show(measured: RefusalBehaviour, output: Output) -> None:
    from auditor.language.refusal_evidence import COLUMNS, behaviour_cells, behaviour_rows

    rows = [behaviour_cells(counts) for counts in behaviour_rows(measured)]
    output.table(COLUMNS, [[escape(one_line(str(cell))) for cell in row] for row in rows])
    put = "through the chat template" if measured.templated else "as they are, without a template"
    output.data(one_line(
        f"{len(measured.replies)} prompts {put}; {measured.tokens} tokens in "
        f"{measured.minutes:.1f} minutes, {measured.tokens_per_second:.0f} a second; judged by "
        f"{measured.judge}"
    ))  # fmt: skip
    output.record({
        "kind": "refusal_behaviour", "judge": measured.judge, "deflection": measured.deflection,
        "chat_template": measured.templated, "tokens": measured.tokens,
        "seconds": measured.seconds, "tokens_per_second": measured.tokens_per_second,
        "rows": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
    })  # fmt: skip


def _show_agreement(found: Agreement, output: Output) -> None:
    interval = found.balanced_accuracy_interval
    output.data(
        f"the judge agrees with people's labels with a balanced accuracy of "
        f"{found.balanced_accuracy:.3f} [{interval.lower:.3f}, {interval.upper:.3f}]"
    )
    output.record({
        "kind": "agreement", "judge": found.judge, "balanced_accuracy": found.balanced_accuracy,
        "balanced_accuracy_interval": interval.model_dump(mode="json"), "kappa": found.kappa,
    })  # fmt: skip


def _show_flips(against: str, flips: tuple[Flips, ...], output: Output) -> None:
    for each in flips:
        output.data(
            f"{against}, {each.total} {each.kind} prompts: {each.became_refused} became refused, "
            f"{each.ceased} ceased to be (McNemar p {each.chance:.2g}), {each.changed} behave "
            f"otherwise, {each.other_text} other texts"
        )
        output.record({
            "kind": "flips", "against": against, "set": each.kind, "total": each.total,
            "became_refused": each.became_refused, "ceased": each.ceased,
            "mcnemar_p": each.chance, "changed": each.changed, "other_text": each.other_text,
        })  # fmt: skip
