"""Finding what ships with auditor by its name: plans, content policies, mappings."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from auditor.audit.plan import LoadedPlan, load_plan
from auditor.errors import FileMissing, did_you_mean


def built_in_plans() -> dict[str, Path]:
    """Name and file of every plan that ships with auditor."""
    root = Path(str(files("auditor_specs"))) / "plans"
    return {path.parent.name: path for path in sorted(root.glob("*/plan.yaml"))}


def content_policies() -> dict[str, Path]:
    """Name and file of every content policy that ships with auditor."""
    root = Path(str(files("auditor_specs"))) / "policies"
    return {path.stem: path for path in sorted(root.glob("*.yaml"))}


def compliance_mappings() -> dict[str, Path]:
    """Name and file of every compliance mapping that ships with auditor."""
    root = Path(str(files("auditor_specs"))) / "compliance"
    return {path.stem: path for path in sorted(root.glob("*.yaml"))}


def find_plan(name: str, values: Mapping[str, str]) -> LoadedPlan:
    """The plan called `name`, or the plan in the file of that name.

    Raises:
        FileMissing: Neither exists; the message offers the nearest built-in name.
    """
    known = built_in_plans()
    if name in known and not Path(name).is_file():
        return load_plan(known[name], values, name=f"auditor_specs/plans/{name}/plan.yaml")
    path = Path(name)
    if not path.is_file():
        hint = did_you_mean(name, sorted(known)) or f"; built-in plans: {', '.join(sorted(known))}"
        raise FileMissing(f"{path}{hint}", "plan")
    return load_plan(path, values)
