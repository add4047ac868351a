"""Prompts in a model's own chat format, and templates that a stranger wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import ConfigurationError, RefusedModel
from auditor.language.causal_lm import CausalLM
from tests.models.language_models import random_model, save_folder, word_tokenizer

PLAIN = (
    "{% for message in messages %}{{ '<' + message['role'] + '> ' + message['content'] + ' ' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    + PLAIN
)
DATED = "{{ date_string }} {{ messages[0]['content'] }}"


def _with_template(folder: Path, template: str | None) -> CausalLM:
    tokenizer = word_tokenizer(template=template)
    return CausalLM.open(save_folder(folder, random_model("llama"), tokenizer))


def _given_template(folder: Path, template: str) -> CausalLM:
    """A model whose tokenizer has this template, whatever the check of its folder would say."""
    model = _with_template(folder, PLAIN)
    model.tokenizer.chat_template = template
    return model


def test_a_template_is_applied_up_to_the_answer(tmp_path: Path) -> None:
    """System and user text in the model's format, and the opening of the answer."""
    model = _with_template(tmp_path, PLAIN)
    assert model.chat("the cat") == "<user> the cat <assistant>"
    assert (
        model.chat("the cat", system="be small") == "<system> be small <user> the cat <assistant>"
    )


def test_without_a_template_the_text_stays(tmp_path: Path) -> None:
    """The prompt as it is, after the system text if there is one."""
    model = _with_template(tmp_path, None)
    assert model.chat("the cat") == "the cat"
    assert model.chat("the cat", system="be small") == "be small\n\nthe cat"


def test_a_date_in_a_template_does_not_move(tmp_path: Path) -> None:
    """A template that takes a date gets a fixed one."""
    model = _with_template(tmp_path, DATED)
    assert model.chat("the cat") == "26 Jul 2024 the cat"


def test_a_template_without_system_text_says_so(tmp_path: Path) -> None:
    """The template's own complaint, with what to do."""
    model = _with_template(tmp_path, NO_SYSTEM)
    assert model.chat("the cat") == "<user> the cat <assistant>"
    with pytest.raises(ConfigurationError, match=r"no system here.*leave the system text out"):
        model.chat("the cat", system="be small")


HOSTILE = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ raise_exception.__globals__['jinja2'] }}",
    "{{ strftime_now.__globals__ }}{{ strftime_now.__globals__.x }}",
    "{{ cycler.__init__.__globals__.os.popen('touch TARGET').read() }}",
    "{{ (messages | attr('__class__')).mro() }}",
    "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "{% set ns = namespace(__class__=1) %}{{ ns }}",
)


@pytest.mark.parametrize("template", HOSTILE)
def test_a_folder_with_a_hostile_template_is_not_opened(tmp_path: Path, template: str) -> None:
    """Its syntax alone says enough."""
    with pytest.raises(RefusedModel, match="chat-template"):
        _with_template(tmp_path / "model", template)


@pytest.mark.parametrize("template", [*HOSTILE, "{{ messages.append(1) }}"])
def test_a_hostile_template_reaches_no_attributes(tmp_path: Path, template: str) -> None:
    """Rendered all the same, it is refused by the sandbox and touches nothing."""
    target = tmp_path / "touched"
    model = _given_template(tmp_path / "model", template.replace("TARGET", str(target)))
    with pytest.raises(RefusedModel, match="chat-template") as caught:
        model.chat("the cat")
    assert "\n" not in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize(
    "template", ["{% for %}", "{{ 1 + 'a' }}", "{{ missing.part }}", "{{ 1 / 0 }}"]
)
def test_a_broken_template_is_one_line(tmp_path: Path, template: str) -> None:
    """Whatever a template breaks on, the folder is named."""
    model = _given_template(tmp_path, template)
    with pytest.raises(ConfigurationError, match="chat template") as caught:
        model.chat("the cat")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_template_of_a_megabyte_is_refused(tmp_path: Path) -> None:
    """Before it is compiled."""
    model = _given_template(tmp_path, "{# " + "x" * 2**20 + " #}")
    with pytest.raises(RefusedModel, match="a template of"):
        model.chat("the cat")
