"""Texts of a model: configuration, templates, YAML, and code, which is not judged.

Names say here what a text is for, because that is how the tools choose that read it.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final

from auditor.errors import RefusedModel
from auditor.models.chat_template_rules import (
    MAX_TEMPLATES,
    RULE,
    TEMPLATE_KEYS,
    WAY_OUT,
    check_template,
    template_problem,
)
from auditor.models.folder_config import (
    check_module_list,
    is_config,
    is_module_list,
    read_config,
    template_texts,
)
from auditor.models.limits import FolderLimits
from auditor.models.scan.decision import Content, Decision, Problem
from auditor.models.scan.yaml_events import yaml_problems
from auditor.models.strict_json import read_json, read_object
from auditor.models.weight_index import leaves_folder

_CODE_ENDINGS: Final = frozenset({
    ".py", ".pyw", ".ipynb", ".sh", ".bash", ".ps1", ".bat", ".cmd", ".js", ".cu", ".cpp", ".c",
})  # fmt: skip
_YAML_ENDINGS: Final = frozenset({".yaml", ".yml"})
_TEMPLATE_ENDINGS: Final = frozenset({".jinja", ".jinja2", ".j2"})
# No library looks for templates there; some tools are told to.
_OTHER_TEMPLATE_ENDINGS: Final = frozenset({".template", ".tmpl", ".tpl"})
_QUOTED_KEYS: Final = tuple(f'"{key}"'.encode() for key in TEMPLATE_KEYS)
_INDEX_ENDING: Final = ".index.json"
_LFS: Final = b"version https://git-lfs.github.com/spec/"


def has_rules(name: str, start: bytes) -> bool:
    """Whether a text by this name and with this start is more than words to read."""
    last, ending = PurePosixPath(name).name.lower(), PurePosixPath(name.lower()).suffix
    named = is_config(last) or is_module_list(last) or last.endswith(_INDEX_ENDING)
    ended = ending in _CODE_ENDINGS | _YAML_ENDINGS | _TEMPLATE_ENDINGS
    return named or ended or start in (_LFS[:2], b"#!")


def may_hold_template(name: str) -> bool:
    """Whether a text without rules of its own may still be a template, or hold one."""
    return PurePosixPath(name.lower()).suffix in {".json", *_OTHER_TEMPLATE_ENDINGS}


def read_stray_templates(content: bytes, name: str, limits: FolderLimits) -> Content:
    """Judge the chat templates of a text in which no library looks for any."""
    if PurePosixPath(name.lower()).suffix in _OTHER_TEMPLATE_ENDINGS:
        found = [("", content.decode(errors="replace"))]
    elif any(key in content for key in _QUOTED_KEYS):
        try:
            value = read_json(Path(), name, content, limits)
        except RefusedModel:
            return Content("text", (), ("text",))
        inside = template_texts(value) if isinstance(value, dict | list) else ()
        found = [(f"key {key!r}", text) for key, text in islice(inside, MAX_TEMPLATES + 1)]
        if len(found) > MAX_TEMPLATES:
            return _open_question(
                "text", "text-limit", f"more than {MAX_TEMPLATES} chat templates",
                "leave only those that are used",
            )  # fmt: skip
    else:
        return Content("text", (), ("text",))
    judged = ((place, template_problem(text, has_to_parse=False)) for place, text in found)
    problems = tuple(Problem(RULE, each, place, WAY_OUT) for place, each in judged if each)
    return Content("text", problems, ("text", "chat templates"))


def read_text(content: bytes, name: str, limits: FolderLimits) -> Content:
    """Judge a text.

    Args:
        content: All of it.
        name: Its file name, which says what it is for.
        limits: Of JSON.
    """
    ending, last = PurePosixPath(name.lower()).suffix, PurePosixPath(name).name
    if content.startswith(_LFS):
        return _open_question(
            "git-lfs pointer", "not-downloaded", "a pointer of Git LFS, not the file itself",
            "fetch the file: git lfs pull",
        )  # fmt: skip
    if ending in _CODE_ENDINGS or content.startswith(b"#!"):
        return _open_question(
            "code", "custom-code", "code, which is not judged here",
            "keep code apart from models, and read it before it is run",
        )  # fmt: skip
    if ending in _YAML_ENDINGS:
        return Content("yaml", yaml_problems(content), ("keys", "tags", "aliases"))
    try:
        if ending in _TEMPLATE_ENDINGS:
            check_template(Path(), "", content.decode(errors="replace"))
            return Content("template", (), ("template",))
        if is_config(last):
            read_config(Path(), last, content, limits)
            return Content("configuration", (), ("keys", "chat templates"))
        if is_module_list(last):
            check_module_list(Path(), last, content, limits)
            return Content("list of parts", (), ("names",))
        if last.lower().endswith(_INDEX_ENDING):
            return _index(content, last, limits)
    except RefusedModel as refusal:
        where = refusal.place.removeprefix(last).removeprefix(", ")
        problem = Problem(refusal.rule, refusal.problem, where, refusal.way_out)
        return Content("configuration", (problem,))
    return Content("text", (), ("text",))


def _open_question(what: str, rule: str, problem: str, way_out: str) -> Content:
    return Content(what, (Problem(rule, problem, "", way_out, Decision.INCONCLUSIVE),))


def _index(content: bytes, name: str, limits: FolderLimits) -> Content:
    """An index of weights may name files of its own folder alone."""
    found = read_object(Path(), name, content, limits).get("weight_map")
    files = sorted({str(file) for file in found.values()}) if isinstance(found, dict) else []
    problems = tuple(
        Problem(
            "index-escape", f"{file[:80]!r} is not a file of the folder itself",
            "key 'weight_map'", "fetch the model again",
        )
        for file in files if leaves_folder(file)
    )  # fmt: skip
    return Content("index", problems, ("names of files",))
