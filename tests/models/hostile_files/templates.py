"""Chat templates that reach for Python, in each of the places where a model may keep one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.models.hostile_files.case import Content, HostileCase, file, refused, steer
from tests.models.hostile_files.weights import gguf, gguf_string
from tests.models.model_folders import safetensors_bytes

RULE = "chat-template"
ADVISORIES = "CVE-2024-34359, CVE-2026-5760"
CLASS = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
GLOBALS = "{{ cycler.__init__.__globals__.os.popen('touch MARKER').read() }}"
ATTR = "{{ messages | attr('__cla' ~ 'ss__') }}"
ESCAPED = r"{{ ''['\x5f\x5fclass\x5f\x5f'] }}"
MAPPED = "{{ messages | map(attribute='__class__') | list }}"
IMPORT = "{% import 'outside/secret.bin' as stolen %}{{ stolen }}"
INCLUDE = "{% include '../../outside/secret.bin' %}"
LOADER = "{{ self._TemplateReference__context.environment.loader.get_source('x') }}"
BUILT = "{% set u = '_' %}{{ ''[u ~ u ~ 'class' ~ u ~ u] }}"
MULTIPLIED = "{{ ''['_' * 2 ~ 'class' ~ '_' * 2] }}"
FILLED = "{{ ''['%c%cclass%c%c' | format(95, 95, 95, 95)] }}"
FORMAT = "{{ '{0.__class__}'.format(messages) }}"
ORDINARY = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def _alone(template: str) -> Content:
    """A file that is a template."""
    return lambda marker: (ORDINARY + template).replace("MARKER", str(marker)).encode()


def _in_gguf(key: str, template: str) -> Content:
    return lambda marker: gguf({
        "general.architecture": gguf_string("llama"),
        key: gguf_string(template.replace("MARKER", str(marker))),
    })  # fmt: skip


def _in_metadata(marker: Path) -> bytes:
    text = GLOBALS.replace("MARKER", str(marker))
    return safetensors_bytes({"__metadata__": {"format": "pt", "chat_template": text}})


def _alone_case(name: str, template: str, shown: str = "") -> HostileCase:
    build = file("chat_template.jinja", _alone(template))
    return refused(f"template-{name}", ADVISORIES, build, RULE, shown)


def _in_json(name: str, template: Callable[[str], object]) -> HostileCase:
    value = {"chat_template": template(GLOBALS)}
    where = f"template-in-{name.replace('_', '-').replace('.', '-')}"
    where += "-list" if isinstance(value["chat_template"], list) else ""
    return steer(where, ADVISORIES, name, value, RULE, "__globals__")


def changed_template(folder: Path, text: str) -> Path:
    """A sound model whose chat template is this text."""
    folder.mkdir(parents=True)
    (folder / "chat_template.jinja").write_text(text)
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 8}))
    return folder


CASES: tuple[HostileCase, ...] = (
    _alone_case("class", CLASS, "__"),
    _alone_case("globals", GLOBALS, "__globals__"),
    _alone_case("attr-filter", ATTR, "attr"),
    _alone_case("escaped-name", ESCAPED),
    _alone_case("mapped-attribute", MAPPED),
    _alone_case("name-put-together", BUILT),
    _alone_case("name-multiplied", MULTIPLIED),
    _alone_case("name-filled-in", FILLED),
    _alone_case("import", IMPORT),
    _alone_case("include", INCLUDE),
    _alone_case("its-own-context", LOADER),
    _alone_case("format", FORMAT),
    _alone_case("that-does-not-parse", "{% for %}{{ ''.__class__ }}"),
    _in_json("tokenizer_config.json", lambda text: text),
    _in_json("tokenizer_config.json", lambda text: [
        {"name": "default", "template": ORDINARY}, {"name": "tool_use", "template": text}]),
    _in_json("chat_template.json", lambda text: text),
    _in_json("processor_config.json", lambda text: text),
    refused("template-in-gguf", f"{ADVISORIES}, CycloneDX specification#862", file(
        "m.gguf", _in_gguf("tokenizer.chat_template", GLOBALS)), RULE, "__globals__"),
    refused("template-in-gguf-for-tools", ADVISORIES, file("m.gguf", _in_gguf(
        "tokenizer.chat_template.tool_use", CLASS)), RULE, "__"),
    refused("template-in-other-json", ADVISORIES, file("settings.json", lambda marker: json.dumps(
        {"model": {"chat_template": GLOBALS.replace("MARKER", str(marker))}}).encode()), RULE,
        "__globals__"),
    refused("template-in-yaml", ADVISORIES, file("model.yaml", lambda marker: (
        "model:\n  chat_template: |\n    " + GLOBALS.replace("MARKER", str(marker))
        + "\n").encode()), RULE, "__globals__"),
    refused("template-of-another-ending", ADVISORIES, file("chat.template", _alone(GLOBALS)), RULE,
            "__globals__"),
    refused("template-in-weights-metadata", ADVISORIES, file("m.safetensors", _in_metadata), RULE,
            "__globals__"),
)  # fmt: skip
