"""Frameworks by name: their mappings, and what a user declares as not applicable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from auditor.errors import UnknownName
from auditor.files import read_text_file
from auditor.strict_yaml import MAX_CHARACTERS, load_strict
from auditor_cli.plans import compliance_mappings
from auditor_reports.dossier.mapping import Applicability, FrameworkMapping


def read_mapping(path: Path) -> FrameworkMapping:
    """Read a mapping file.

    Raises:
        FileMissing: There is no such file.
        InvalidText: It is not a valid mapping.
    """
    text = read_text_file(path, "framework mapping", MAX_CHARACTERS)
    return load_strict(text, str(path), FrameworkMapping)


def all_mappings() -> tuple[FrameworkMapping, ...]:
    """Every mapping that ships with auditor, by name."""
    return tuple(read_mapping(path) for path in compliance_mappings().values())


def find_mappings(names: Sequence[str]) -> tuple[FrameworkMapping, ...]:
    """The mappings with these names or aliases, each once, in the order asked for.

    Raises:
        UnknownName: There is no framework of that name.
    """
    by_name = {name: each for each in all_mappings() for name in (each.id, *each.aliases)}
    for name in names:
        if name not in by_name:
            raise UnknownName("framework", name, list(by_name))
    return tuple({by_name[name].id: by_name[name] for name in names}.values())


def read_applicability(path: Path | None) -> Applicability:
    """Read what the user declares as not applicable; nothing where there is no file.

    Raises:
        FileMissing: There is no such file.
        InvalidText: It is not valid.
        UnknownName: It names a framework, or a row of one, that does not exist.
    """
    if path is None:
        return Applicability()
    text = read_text_file(path, "applicability file", MAX_CHARACTERS)
    found = load_strict(text, str(path), Applicability)
    find_mappings([each.framework for each in found.not_applicable])
    for mapping in all_mappings():
        found.of(mapping)
    return found
