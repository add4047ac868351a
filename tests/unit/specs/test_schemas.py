"""The published schemas are the ones the code follows, and built-in data fits them."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from auditor.audit.plan import Plan
from auditor.audit.schemas import SCHEMAS

PACKAGE = Path(str(files("auditor_specs")))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_published_schema_is_current(name: str, golden: Callable[[Path, bytes], None]) -> None:
    text = json.dumps(SCHEMAS[name](), indent=2, sort_keys=True) + "\n"
    golden(PACKAGE / "schemas" / f"{name}.schema.json", text.encode())


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.glob("plans/*/plan.yaml")), ids=lambda p: p.parent.name
)
def test_built_in_plans_fit_their_schema(path: Path) -> None:
    """Every check of a plan gives its code; pydantic and the JSON schema agree on the rest."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.validate(content, SCHEMAS["plan"]())
    assert Plan.model_validate(content).name == path.parent.name


def test_the_schema_refuses_what_the_reader_refuses() -> None:
    content = yaml.safe_load((PACKAGE / "plans" / "demo" / "plan.yaml").read_text())
    with pytest.raises(jsonschema.ValidationError, match="'cheks' was unexpected"):
        jsonschema.validate(content | {"cheks": []}, SCHEMAS["plan"]())
