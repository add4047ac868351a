"""A mapping or a declaration that leaves something out is refused, with its place."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from auditor.errors import InvalidText, UnknownName
from auditor.strict_yaml import load_strict
from auditor_reports.dossier.mapping import Applicability, FrameworkMapping

ROW = {"id": "a-row", "title": "t", "source": "s", "asks": "x", "beyond": "b"}
MAPPING = {
    "id": "a-framework", "title": "t", "framework": "f", "framework_version": "v",
    "sources": [{"title": "s", "read": "official text"}], "last_reviewed": "2026-11-30",
    "reviewer_role": "r", "sections": [{"id": "one", "title": "t", "rows": [ROW]}],
}  # fmt: skip


def read(content: Any) -> FrameworkMapping:
    return load_strict(yaml.safe_dump(content), "m.yaml", FrameworkMapping)


def with_row(**fields: Any) -> dict[str, Any]:
    changed = {name: value for name, value in {**ROW, **fields}.items() if value is not None}
    return {**MAPPING, "sections": [{"id": "one", "title": "t", "rows": [changed]}]}


def test_a_small_mapping_is_read() -> None:
    """The smallest mapping names its sources, its review and a row."""
    assert [row.id for row in read(MAPPING).rows()] == ["a-row"]


@pytest.mark.parametrize(
    "name", ["sources", "last_reviewed", "reviewer_role", "framework_version", "sections"]
)
def test_what_a_mapping_must_say(name: str) -> None:
    """Origin and review of a mapping cannot be left out."""
    with pytest.raises(InvalidText, match=f"key '{name}' is missing"):
        read({key: value for key, value in MAPPING.items() if key != name})


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"source": None}, "source' is missing"),
        ({"source": "  "}, "at least 1 character"),
        ({"titel": "t"}, "unknown key 'titel'; did you mean 'title'"),
        ({"beyond": None}, "what is `beyond`"),
        ({"evidence": [{"check": "AUD101"}], "beyond": None}, "what is `beyond`"),
        ({"evidence": [{"check": "AUD1"}]}, "should match pattern"),
        ({"evidence": [{}]}, "either a check or a record"),
        ({"evidence": [{"check": "AUD101", "record": "dates"}]}, "either a check or a record"),
        ({"evidence": [{"record": "dates", "facts": ["x"]}]}, "belong to a check"),
        ({"evidence": [{"record": "dates", "unless": {"x": "y"}}]}, "belong to a check"),
        ({"evidence": [{"record": "weather"}]}, "Input should be"),
        ({"needs": "all"}, "needs checks"),
        ({"id": "Not An Id"}, "should match pattern"),
    ],
)
def test_a_row_that_is_wrong_is_refused(fields: dict[str, Any], problem: str) -> None:
    """Each problem is one line that names what is wrong."""
    with pytest.raises(InvalidText, match=problem):
        read(with_row(**fields))


def test_a_row_cannot_stand_twice() -> None:
    """Rows are named by their id, also across sections."""
    sections = [{"id": name, "title": "t", "rows": [{**ROW}]} for name in ("one", "two")]
    twice = {**MAPPING, "sections": sections}
    with pytest.raises(InvalidText, match="row 'a-row' stands twice"):
        read(twice)


def test_an_earlier_name_says_what_became_of_it() -> None:
    """Who asks for a rescinded framework is told."""
    with pytest.raises(InvalidText, match="alias_note"):
        read({**MAPPING, "aliases": ["before"]})
    note = {"aliases": ["before"], "alias_note": "replaced"}
    assert read({**MAPPING, **note}).alias_note == "replaced"


def declare(**fields: Any) -> Applicability:
    entry = {"framework": "a-framework", "row": "a-row", "reason": "r", "declared_by": "d"}
    content = {"not_applicable": [{**entry, **fields}]}
    return load_strict(yaml.safe_dump(content), "a.yaml", Applicability)


def test_a_declaration_is_looked_up_by_row() -> None:
    """Only declarations about the framework count."""
    assert declare().of(read(MAPPING))["a-row"].reason == "r"
    assert declare(framework="other").of(read(MAPPING)) == {}


@pytest.mark.parametrize("name", ["reason", "declared_by"])
def test_a_declaration_needs_a_reason_and_a_role(name: str) -> None:
    """Nobody declares anything away without saying why."""
    with pytest.raises(InvalidText, match=f"{name}: String should have at least 1 character"):
        declare(**{name: ""})


def test_an_unknown_row_is_refused_with_the_nearest_one() -> None:
    """A misspelt row would silently stay open."""
    with pytest.raises(UnknownName, match="unknown row of a-framework 'a-roww'; did you mean"):
        declare(row="a-roww").of(read(MAPPING))


def test_a_row_is_declared_once() -> None:
    """Two reasons for one row contradict each other sooner or later."""
    entries = [
        {"framework": "f", "row": "a", "reason": "r", "declared_by": role} for role in ("x", "y")
    ]
    with pytest.raises(InvalidText, match="declared twice"):
        load_strict(yaml.safe_dump({"not_applicable": entries}), "a.yaml", Applicability)
