"""Every rule that a file or folder can break has its sentence, and no sentence is without a rule.

The rules in use are read from the source: a literal in the place of a rule in a call that makes a
problem, or a text of that form beside the other words of a refusal.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest

import auditor
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.rules import RULES, describe_rule

PACKAGE = Path(auditor.__file__).parent
SOURCES = sorted([*(PACKAGE / "models").rglob("*.py"), PACKAGE / "folders.py"])
RULE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# The place of the rule in a call of each; every reader has a short name for its own refusals.
RULE_AT = {"Problem": 0, "RefusedModel": 1, "RefusedFolder": 1}
WORDS_OF_PYTHON = frozenset({"utf-8", "sha-256"})


def literals(node: ast.AST) -> Iterator[str]:
    """The texts that an expression may be: itself, either side of a choice."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from literals(node.body)
        yield from literals(node.orelse)


def called(call: ast.Call) -> str:
    """The last name of what is called."""
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def rules_made(tree: ast.Module) -> set[str]:
    """Rules in the place that the class of problems has for them."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) in RULE_AT:
            at = RULE_AT[called(node)]
            given = [*node.args[at : at + 1], *(k.value for k in node.keywords if k.arg == "rule")]
            found |= {text for each in given for text in literals(each)}
    return found


def texts(tree: ast.Module) -> set[str]:
    """Every text of a module that has the form of a rule."""
    found = {text for node in ast.walk(tree) for text in literals(node)}
    return {text for text in found if RULE.fullmatch(text)}


@cache
def parsed(path: Path) -> ast.Module:
    """A module."""
    return ast.parse(path.read_text("utf-8"), str(path))


OTHERS = [path for path in SOURCES if path.name != "rules.py"]


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_rule_has_a_sentence(path: Path) -> None:
    """A new rule without one would reach users as a bare word."""
    assert rules_made(parsed(path)) - RULES.keys() == set()


# Calls whose first arguments are a rule and a text, by the readers' own short names.
SHORT = re.compile(r"(refuse|refused|stop|open|fail|problem|reject|_\w*(refuse|refused|open))\w*")


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_rule_of_a_short_call_has_a_sentence(path: Path) -> None:
    """`refuse("rule-id", ...)` and its like: what has a hyphen among their arguments is a rule."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and SHORT.fullmatch(called(node)):
            given = [*node.args, *(k.value for k in node.keywords if k.arg == "rule")]
            found |= {text for each in given for text in literals(each)
                      if RULE.fullmatch(text) and "-" in text}  # fmt: skip
    assert found - RULES.keys() - WORDS_OF_PYTHON == set()


def test_every_sentence_has_a_rule() -> None:
    """A sentence that nothing leads to would be a promise that nothing keeps."""
    used = set().union(*(texts(parsed(path)) for path in OTHERS))
    assert RULES.keys() - used == set()


def test_the_search_finds_what_it_should() -> None:
    """The tests above can fail."""
    tree = ast.parse('Problem("new-rule", "x")\nRefusedModel(p, "a-b" if c else "c-d", "y")')
    assert rules_made(tree) == {"new-rule", "a-b", "c-d"}
    assert sum(len(rules_made(parsed(path))) for path in OTHERS) > 40


def test_rules_are_sorted_and_their_sentences_are_sentences() -> None:
    """One line each, as they stand in reports and in the specification."""
    assert list(RULES) == sorted(RULES)
    for rule, sentence in RULES.items():
        assert RULE.fullmatch(rule)
        assert sentence[0].isupper() or sentence.startswith("torch.")
        assert sentence.endswith(".")
        assert len(sentence) < 100


def specified(heading: str) -> str:
    """A section of the written specification."""
    text = (PACKAGE.parent / "specs" / "model-scan.md").read_text("utf-8")
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_the_specification_lists_every_rule() -> None:
    """With the sentence that reports show."""
    section = specified("Rules")
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", section, re.MULTILINE))
    assert rows == dict(RULES)


def test_the_specification_lists_every_limit() -> None:
    """With its default."""
    rows = re.findall(r"^\| `(\w+)` \| .+ \| ([\d,]+) \|$", specified("Limits"), re.MULTILINE)
    assert {name: int(number.replace(",", "")) for name, number in rows} == asdict(ScanLimits())


def test_a_rule_that_is_not_known_is_its_own_sentence() -> None:
    """A log is written all the same."""
    assert describe_rule("adapter") == RULES["adapter"]
    assert describe_rule("of-a-plugin") == "of-a-plugin"
