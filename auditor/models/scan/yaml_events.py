"""What a YAML text asks for, from its events; nothing is built from it.

Configurations of training frameworks name the classes to make (`_target_`, CVE-2025-23304), tags
name Python objects, and aliases of aliases grow without end when they are followed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml

from auditor.models.chat_template_rules import (
    MAX_TEMPLATES,
    RULE,
    TEMPLATE_KEYS,
    WAY_OUT,
    template_problem,
)
from auditor.models.scan.decision import Decision, Problem

MOST_BYTES: Final = 2**20
MOST_DEPTH: Final = 200
MOST_VALUES: Final = 1_000_000
MOST_PROBLEMS: Final = 100
_CODE_KEYS: Final = frozenset({"_target_", "auto_map", "trust_remote_code"})
_PLAIN_TAGS: Final = frozenset({"!", *(f"tag:yaml.org,2002:{kind}" for kind in (
    "map", "seq", "str", "int", "float", "bool", "null", "timestamp", "set", "omap", "pairs",
    "binary", "merge", "value",
))})  # fmt: skip


def yaml_problems(content: bytes) -> tuple[Problem, ...]:
    """Every key and tag that names code, and aliases that expand to more than `MOST_VALUES`.

    The first `MOST_PROBLEMS` of them; each key and tag counts once.
    """
    if len(content) > MOST_BYTES:
        return (_open("text-limit", f"{len(content)} bytes of YAML; {MOST_BYTES} are looked at"),)
    found: dict[tuple[str, str], Problem] = {}
    try:
        for problem in _walk(content):
            found.setdefault((problem.rule, problem.problem), problem)
            if len(found) >= MOST_PROBLEMS:
                break
    # PyYAML turns some numbers (of a character, a version) into Python's without looking.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        first = " ".join(str(error).split())[:200]
        return (*found.values(), _open("malformed", f"not valid YAML: {first}"))
    except RecursionError:
        return (*found.values(), _nesting())
    return tuple(found.values())


@dataclass
class _Collection:
    """A mapping or a list whose end has not been met.

    Attributes:
        anchor: Its name for aliases.
        mapping: Whether it is a mapping.
        size: Values in it so far, aliases expanded.
        at_key: Whether the next value is a key, in a mapping.
        key: The last key.
        in_template: Whether its texts are chat templates.
    """

    anchor: str | None
    mapping: bool
    size: int = 1
    at_key: bool = True
    key: str = ""
    in_template: bool = False

    def holds_template(self) -> bool:
        """Whether the next value is a chat template, or holds some."""
        return self.in_template or (self.mapping and not self.at_key and self.key in TEMPLATE_KEYS)


def _walk(content: bytes) -> Iterator[Problem]:
    sizes, waiting, words = dict[str, int](), list[_Collection](), dict[str, str]()
    templates = 0
    for event in yaml.parse(content, Loader=yaml.SafeLoader):
        line = f"line {event.start_mark.line + 1}" if event.start_mark else ""
        yield from _tag(event, line)
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            is_template = bool(waiting) and waiting[-1].holds_template()
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            waiting.append(_Collection(event.anchor, is_mapping, in_template=is_template))
            if len(waiting) > MOST_DEPTH:
                yield _nesting()
                return
            continue
        size, anchor, word = 1, getattr(event, "anchor", None), getattr(event, "value", "")
        if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            ended = waiting.pop()
            size, anchor = ended.size, ended.anchor
        elif isinstance(event, yaml.AliasEvent):
            # An alias inside of what it names has no end.
            size = sizes.get(event.anchor or "", MOST_VALUES + 1)
            word, anchor = words.get(event.anchor or "", ""), None
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        if size > MOST_VALUES:
            yield _refused("yaml-aliases", f"aliases that expand to {size} values or more", line)
            return
        if anchor:
            sizes[anchor], words[anchor] = size, word
        if waiting:
            parent = waiting[-1]
            if parent.mapping and parent.at_key:
                parent.key = word
                if word in _CODE_KEYS:
                    yield _refused("custom-code", f"the key {word!r} names code", line)
            elif word and parent.holds_template():
                templates += 1
                yield from _template(word, line, templates)
            parent.size, parent.at_key = parent.size + size, not parent.at_key


def _template(text: str, line: str, number: int) -> Iterator[Problem]:
    if number > MAX_TEMPLATES:
        yield _open("text-limit", f"more than {MAX_TEMPLATES} chat templates")
        return
    problem = template_problem(text, has_to_parse=False)
    if problem is not None:
        yield Problem(RULE, problem, line, WAY_OUT)


def _tag(event: yaml.Event, line: str) -> Iterator[Problem]:
    tag = getattr(event, "tag", None)
    if tag and tag not in _PLAIN_TAGS:
        rule = "custom-code" if "python" in tag else "yaml-tag"
        yield _refused(rule, f"the tag {tag[:60]!r} asks for an object", line)


def _refused(rule: str, problem: str, place: str) -> Problem:
    return Problem(rule, problem, place, "remove it, or write plain values")


def _nesting() -> Problem:
    return _refused("nesting-limit", f"YAML nested deeper than {MOST_DEPTH}", "")


def _open(rule: str, problem: str) -> Problem:
    way_out = "split the file" if rule == "text-limit" else "write it as plain YAML"
    return Problem(rule, problem, "", way_out, Decision.INCONCLUSIVE)
