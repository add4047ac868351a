"""Texts of a model: by its name a text is configuration, template, YAML, index, code or words."""

from __future__ import annotations

import json

import pytest

from auditor.models.limits import FolderLimits
from auditor.models.scan.decision import Content, Decision
from auditor.models.scan.texts import has_rules, read_text

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
HOSTILE = "{{ ''.__class__ }}"


def read(name: str, content: bytes | str | dict[str, object]) -> Content:
    """The answer to a text by this name."""
    if isinstance(content, dict):
        content = json.dumps(content)
    whole = content.encode() if isinstance(content, str) else content
    return read_text(whole, name, FolderLimits())


def rules(content: Content) -> list[str]:
    """Of its problems, in order."""
    return [problem.rule for problem in content.problems]


@pytest.mark.parametrize(
    ("name", "content", "format_"),
    [
        ("config.json", {"model_type": "gpt2", "auto_map": {}}, "configuration"),
        ("a/tokenizer_config.json", {"chat_template": "{{ messages[0].role }}"}, "configuration"),
        ("Config.JSON", {}, "configuration"),
        ("chat_template.json", {"chat_template": "{{ messages }}"}, "configuration"),
        ("model.safetensors.index.json", {"weight_map": {"w": "a.safetensors"}}, "index"),
        ("model.safetensors.index.json", {"weight_map": 1}, "index"),
        ("params.yaml", "a: 1\n", "yaml"),
        ("a.YML", "a: 1\n", "yaml"),
        ("chat_template.jinja", "{{ messages[0].role }}", "template"),
        ("words.txt", "any words", "text"),
        ("data_config.json", [1], "text"),
    ],
)
def test_ordinary_texts_are_accepted(name: str, content: object, format_: str) -> None:
    """Each as what its name says, and with what was looked at."""
    text = content if isinstance(content, str) else json.dumps(content)
    found = read(name, text)
    assert (found.format, found.problems) == (format_, ())
    assert found.parts


@pytest.mark.parametrize(
    ("name", "content", "rule", "place"),
    [
        ("config.json", {"a": [{"auto_map": {"A": "b"}}]}, "custom-code", ""),
        ("config.json", {"custom_op_library": "lib/ops.so"}, "config-reference", ""),
        ("genai_config.json", {"a": [{"b": ["ops.so.1.2"]}]}, "config-reference", ""),
        ("config.json", {"path": "X.DLL"}, "config-reference", ""),
        ("config.json", {"_name_or_path": "https://a.example/m"}, "config-reference", ""),
        ("config.json", {"attn_implementation": ["a/b"]}, "config-reference", ""),
        ("config.json", {"chat_template": HOSTILE}, "chat-template", "key 'chat_template'"),
        ("config.json", {"chat_template": {"a": "x", "b": HOSTILE}}, "chat-template",
         "key 'chat_template'"),
        ("config.json", {"chat_template": [{"name": "a", "template": HOSTILE}]}, "chat-template",
         "key 'chat_template'"),
        ("config.json", {"a": {"b": [{"default_chat_template": HOSTILE}]}}, "chat-template",
         "key 'default_chat_template'"),
        ("chat_template.json", {"chat_template": HOSTILE}, "chat-template",
         "key 'chat_template'"),
        ("config.json", "{", "malformed", ""),
        ("config.json", '{"a": 1, "a": 2}', "duplicate-field", ""),
        ("adapter_config.json", {}, "adapter", ""),
        ("x.index.json", {"weight_map": {"w": "../a.safetensors"}}, "index-escape",
         "key 'weight_map'"),
        ("x.index.json", "[]", "malformed", ""),
        ("a.jinja2", HOSTILE, "chat-template", ""),
        ("a.j2", "{% include 'b' %}", "chat-template", ""),
        ("a.yaml", "_target_: a.b\n", "custom-code", "line 1"),
    ],
)  # fmt: skip
def test_texts_that_ask_for_more_are_refused(
    name: str, content: object, rule: str, place: str
) -> None:
    """With the rule and the place in the text; the file is named by the caller."""
    text = content if isinstance(content, str) else json.dumps(content)
    (problem,) = read(name, text).problems
    assert (problem.rule, problem.place, problem.decision) == (rule, place, Decision.REFUSED)
    assert problem.way_out


@pytest.mark.parametrize(
    "content",
    [{"_name_or_path": "org/model"}, {"_name_or_path": "/home/someone/m"}, {"auto_map": None},
     {"trust_remote_code": False}, {"text": "is it so?"}, {"file": "a.sort"},
     {"custom_op_library": ""}],
)  # fmt: skip
def test_harmless_values_of_these_keys_are_accepted(content: dict[str, object]) -> None:
    """Nothing is fetched for a name, and an empty value asks for nothing."""
    assert read("config.json", content).problems == ()


def test_many_templates_are_not_read() -> None:
    """A configuration may not keep the scan busy with one long template after another."""
    long = "a" * 200_000
    found = read("config.json", {"chat_template": {str(n): long for n in range(9)}})
    assert rules(found) == ["text-limit"]
    assert rules(read("config.json", {"chat_template": ["a"] * 101})) == ["text-limit"]
    assert rules(read("config.json", {"chat_template": ["a"] * 100})) == []


@pytest.mark.parametrize("name", ["a.py", "b.sh", "c.ipynb", "kernel.cu", "run"])
def test_code_is_not_decided(name: str) -> None:
    """By its name or its first line; it is not judged."""
    found = read(name, "#!/bin/sh\necho\n")
    assert (found.format, rules(found)) == ("code", ["custom-code"])
    assert found.decision is Decision.INCONCLUSIVE


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "a.py", "b.yaml"])
def test_a_pointer_of_git_lfs_is_not_the_file(name: str) -> None:
    """Whatever it will be; the way out fetches it."""
    found = read(name, LFS)
    assert (rules(found), found.decision) == (["not-downloaded"], Decision.INCONCLUSIVE)
    assert "git lfs pull" in found.problems[0].way_out


@pytest.mark.parametrize(
    ("name", "start", "expected"),
    [
        ("config.json", b"{}", True),
        ("sub/generation_config.json", b"{}", True),
        ("model.safetensors.index.json", b"{}", True),
        ("chat_template.json", b"{}", True),
        ("a.yaml", b"a:", True),
        ("a.jinja", b"{{", True),
        ("setup.PY", b"im", True),
        ("README", b"#!", True),
        ("anything", LFS[:2], True),
        ("tokenizer.json", b"{}", False),
        ("vocab.txt", b"a\n", False),
        ("README.md", b"# ", False),
    ],
)
def test_which_texts_are_read_as_a_whole(name: str, start: bytes, expected: bool) -> None:
    """Only those for which there are rules."""
    assert has_rules(name, start) is expected
