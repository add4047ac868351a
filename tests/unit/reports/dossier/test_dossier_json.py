"""The JSON of a dossier follows its published schema, for any run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from auditor_cli.plans import compliance_mappings
from auditor_reports.dossier.build import build_dossier
from auditor_reports.dossier.formats import DOSSIER_WRITERS, DossierWriter
from auditor_reports.dossier.json import (
    SCHEMA_NAMES,
    dossier_schema,
    render_dossier_json,
)
from auditor_reports.dossier.record import Dossier
from auditor_reports.published_schema import schema_text
from tests.golden.sample_report import sample_report
from tests.unit.reports.dossier_runs import FRAMEWORKS, mapping, recognised, run_of
from tests.unit.reports.hostile_report import HOSTILE_TEXTS

SCHEMAS = Path(__file__).parents[4] / "specs/auditor_specs/schemas"
Golden = Callable[[Path, bytes], None]


@pytest.mark.parametrize("name", SCHEMA_NAMES)
def test_published_schema_is_current(name: str, golden: Golden) -> None:
    """A schema file changes only together with its records, and visibly."""
    golden(SCHEMAS / f"{name}.schema.json", schema_text(dossier_schema(name)).encode())


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_dossiers_follow_the_schema_and_read_back(name: str) -> None:
    """Reading gives an equal record; schema and reader agree."""
    for report in (sample_report(), run_of([])):
        dossier = build_dossier(report, mapping(name))
        data = json.loads(render_dossier_json(dossier))
        jsonschema.validate(data, dossier_schema("dossier"))
        assert Dossier.model_validate(data) == dossier


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_text_is_plain_json(text: str) -> None:
    """The file is ASCII, and fits the schema whatever the texts are."""
    content = render_dossier_json(build_dossier(recognised(text), mapping("iso-24029-2")))
    jsonschema.validate(json.loads(content.decode("ascii")), dossier_schema("dossier"))


def test_nothing_can_be_signed_by_a_program() -> None:
    """The schema admits nothing but the empty field."""
    data = json.loads(render_dossier_json(build_dossier(run_of([]), mapping("iso-42001"))))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**data, "dated_and_signed_by": "auditor"}, dossier_schema("dossier"))


@pytest.mark.parametrize("path", compliance_mappings().values(), ids=lambda path: path.stem)
def test_mapping_files_fit_their_schema(path: Path) -> None:
    """An editor that follows the schema accepts the files that ship."""
    content = yaml.safe_load(path.read_text("utf-8"))
    content["last_reviewed"] = str(content["last_reviewed"])
    jsonschema.validate(content, dossier_schema("framework-mapping"))
    with pytest.raises(jsonschema.ValidationError, match="'titel' was unexpected"):
        jsonschema.validate({**content, "titel": "x"}, dossier_schema("framework-mapping"))


@pytest.mark.parametrize("writer", DOSSIER_WRITERS, ids=lambda writer: writer.name)
@pytest.mark.parametrize("name", ["eu-ai-act", "iso-24029-2"])
def test_dossier_of_the_sample_report_is_unchanged(
    name: str, writer: DossierWriter, golden: Golden
) -> None:
    """Each format of two dossiers is what it was, byte for byte."""
    dossier = build_dossier(sample_report(), mapping(name))
    golden(Path("reports") / writer.filename(name), writer.render(dossier))
