"""A prompt in the format a model was trained to be asked in.

Chat templates are Jinja programs that come with a model, so a stranger may have written them.
transformers renders them in Jinja's immutable sandbox, which lets no attribute of Python's
internals be reached; the tests here hold it to that. A template can still waste time and memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from jinja2.exceptions import SecurityError, TemplateError

from auditor.errors import ConfigurationError, RefusedModel

MAX_CHARACTERS: Final = 256 * 1024
# Some templates write a date into every prompt; the same prompt must stay the same tomorrow.
DATE: Final = "26 Jul 2024"
# What Python raises for a template that adds numbers to texts, and its like.
_FAILURES: Final = (
    TemplateError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RuntimeError
)  # fmt: skip


def render_chat(tokenizer: Any, folder: Path, prompt: str, system: str | None) -> str:
    """The prompt up to where the answer begins, by the tokenizer's chat template if it has one.

    Without one it is the prompt as it is, after the system text and an empty line if there is
    a system text. A template that takes `date_string` gets a fixed one; one that asks for
    today's date still gets today's.

    Raises:
        RefusedModel: The template tries to leave the sandbox, or is too long.
        ConfigurationError: The template does not take this conversation.
    """
    template = tokenizer.chat_template
    if not template:
        return prompt if system is None else f"{system}\n\n{prompt}"
    if len(str(template)) > MAX_CHARACTERS:
        raise _refused(folder, f"a template of {len(str(template))} characters")
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": prompt})
    try:
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, date_string=DATE
            )
        )
    except SecurityError as error:
        raise _refused(folder, _one_line(error)) from error
    except _FAILURES as error:
        raise ConfigurationError(
            f"{folder}: its chat template does not take this conversation: "
            f"{_one_line(error)}; leave the system text out or give the prompt as it is"
        ) from error


def _refused(folder: Path, problem: str) -> RefusedModel:
    return RefusedModel(
        folder, "chat-template", problem, place="chat template", way_out="remove or mend it"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
