"""`auditor language complete`: what a model says next, to read or to trace."""

from __future__ import annotations

from pathlib import Path

import rich_click as click
from rich.markup import escape

from auditor.errors import ConfigurationError
from auditor_cli.options import FILE, FOLDER, json_option, option
from auditor_cli.output import Output
from auditor_reports.sanitise import one_line


@click.command(name="complete")
@click.argument("folder", type=FOLDER)
@option("--prompt", help="One prompt; its completion is printed as it is.")
@option("--prompts", type=FILE, help="CSV or .jsonl of prompts, instead.")
@option("--prompt-column", help="Column of the prompts, if not prompt, goal or text.")
@option("--new-tokens", type=click.IntRange(1, 4_096), default=64, show_default=True,
        help="Tokens of a completion at most.")  # fmt: skip
@option("--chat/--no-chat", default=True, show_default=True,
        help="Ask through the tokenizer's chat template, where it has one.")  # fmt: skip
@option("--temperature", type=click.FloatRange(0), default=0.0, show_default=True,
        help="0 takes the likeliest token.")  # fmt: skip
@option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of sampling.")
@json_option
def complete(
    folder: Path,
    prompt: str | None,
    prompts: Path | None,
    prompt_column: str | None,
    new_tokens: int,
    chat: bool,
    temperature: float,
    seed: int,
    as_json: bool,
) -> int:
    """Complete prompts with the language model of a FOLDER: transformers, or exported to ONNX.

    Prompts are not part of what is printed. With --json each line holds a `text`: a .jsonl file
    that `auditor trace shield` reads.
    """
    from auditor.language.asking import Asking, as_asked, complete
    from auditor.language.language_model import open_language_model
    from auditor.models.first_load import try_folders

    output = Output(as_json)
    asked = _prompts(prompt, prompts, prompt_column)
    try_folders(folder)
    model = open_language_model(folder)
    output.log(f"{len(asked)} prompts, at most {new_tokens} tokens each")
    asking = Asking(new_tokens, chat, seed=seed, temperature=temperature)
    completions = complete(
        model, [as_asked(model, each, asking) for each in asked], asking,
        progress=lambda done, total: output.log(f"{done} of {total} prompts"),
    )  # fmt: skip
    pairs = list(zip(asked, completions, strict=True))
    for text, completion in pairs:
        output.record({
            "kind": "completion", "prompt": text, "text": completion.text,
            "tokens": len(completion.token_ids), "ended": completion.ended,
            "model": model.folder.digest,
        })  # fmt: skip
    if prompt is not None:
        output.text(completions[0].text)
    else:
        rows = [tuple(escape(one_line(each)) for each in (text, said.text)) for text, said in pairs]
        output.table(("prompt", "completion"), rows)
    return 0


def _prompts(prompt: str | None, prompts: Path | None, column: str | None) -> list[str]:
    from auditor.language.prompts import read_prompts

    if prompt is not None and prompts is None:
        return [prompt]
    if prompts is not None and prompt is None:
        return [each.text for each in read_prompts(prompts, text_column=column)]
    raise ConfigurationError("one of --prompt and --prompts says what to complete; give it")
