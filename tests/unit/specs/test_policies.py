"""Content policies that ship with auditor load, and say what they need."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml

from auditor.audit.schemas import SCHEMAS
from auditor.errors import ConfigurationError, InvalidText
from auditor.trace.content_policy import ContentPolicy, read_policy
from auditor.trace.stance import require_exemplars

FOLDER = Path(str(files("auditor_specs"))) / "policies"
EVERY = pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)


def test_there_is_one() -> None:
    """Package data that is not found would test nothing below."""
    assert "model-safety" in {path.stem for path in FOLDER.glob("*.yaml")}


@EVERY
def test_a_policy_fits_reader_and_schema(path: Path) -> None:
    """It is called like its file."""
    jsonschema.validate(yaml.safe_load(path.read_text("utf-8")), SCHEMAS["content-policy"]())
    assert read_policy(path).name == path.stem


@EVERY
def test_clauses_are_single_sentences(path: Path) -> None:
    """As the models that judge read them: one prohibition, one description of a text."""
    policy = read_policy(path)
    assert 8 <= len(policy.clauses) <= 12
    for clause in policy.clauses:
        assert clause.statement.count(".") == clause.violation.count(".") == 1, clause.id
        assert clause.violation.startswith("The text "), clause.id


@EVERY
def test_a_policy_without_exemplars_says_that_it_needs_an_nli_model(path: Path) -> None:
    """And the scorer that would need them refuses it in one line."""
    policy = read_policy(path)
    assert all(not clause.violating and not clause.compliant for clause in policy.clauses)
    assert "needs a natural-language-inference model" in policy.description
    with pytest.raises(ConfigurationError, match="add some, or give an NLI model"):
        require_exemplars(policy.clauses)


def test_the_description_is_not_judged_by() -> None:
    """So it may be mended without calibrating again; anything else may not."""
    plain = {"version": 1, "name": "a", "clauses": [
        {"id": "x", "statement": "Doors stay shut.", "violation": "The text opens a door."}
    ]}  # fmt: skip
    policy = ContentPolicy.model_validate(plain)
    assert policy.digest == ContentPolicy.model_validate({**plain, "description": "b"}).digest
    assert policy.digest != ContentPolicy.model_validate({**plain, "name": "b"}).digest


def test_the_example_of_the_specification_loads(tmp_path: Path) -> None:
    """Its keys are all that there are."""
    text = (Path(__file__).parents[3] / "specs" / "content-policy.md").read_text("utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    path = tmp_path / "policy.yaml"
    path.write_text(example)
    (clause,) = read_policy(path).clauses
    assert set(yaml.safe_load(example)["clauses"][0]) == set(type(clause).model_fields)
    assert set(yaml.safe_load(example)) == set(ContentPolicy.model_fields)
    path.write_text(example.replace("weight", "wieght"))
    with pytest.raises(InvalidText, match="did you mean 'weight'"):
        read_policy(path)
