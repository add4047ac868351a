"""Units: parameters with their files, and the key an answer is stored under."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.audit.environment import describe_environment
from auditor.audit.plan import load_plan
from auditor.audit.units import Unit, resolve_units, run_unit
from auditor.check import Subject
from auditor.errors import ConfigurationError, FileMissing, InvalidText
from auditor.findings import Verdict
from auditor.models.digest import file_digest
from auditor.registry import all_checks
from tests.models.tiny import absolute_value, comparison

PLAN = """\
version: 1
name: small
subjects: [{path: model.onnx}]
checks:
  - check: AUD101
  - check: AUD201
    params: {property: p.yaml, max_boxes: 10}
"""


def resolve(
    folder: Path, text: str = PLAN, digest: str = "sha256:a", threads: int = 1
) -> list[Unit]:
    (folder / "plan.yaml").write_text(text)
    if not (folder / "p.yaml").exists():
        (folder / "p.yaml").write_text("a property")
    subject = Subject(name="model", path=folder / "model.onnx", kind="onnx", digest=digest)
    environment = describe_environment("cpu", threads)
    return resolve_units(load_plan(folder / "plan.yaml", {}), [subject], all_checks(), environment)


def key(units: list[Unit]) -> str:
    return units[-1].record.key


def test_units_carry_parameters_as_written_and_files_as_absolute_paths(tmp_path: Path) -> None:
    first, second = resolve(tmp_path)
    assert (first.record.id, second.record.id) == ("AUD101", "AUD201")
    assert second.record.parameters["property"] == "p.yaml"
    assert second.parameters["property"] == str(tmp_path / "p.yaml")
    assert (second.record.declared_at.line, second.record.parameters["max_boxes"]) == (6, 10)


def test_the_key_does_not_depend_on_where_things_lie(tmp_path: Path) -> None:
    keys = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        keys.add(key(resolve(tmp_path / name)))
    assert len(keys) == 1


@pytest.mark.parametrize("change", ["model", "data", "parameter", "seed", "limits", "threads"])
def test_the_key_changes_with_everything_the_answer_depends_on(tmp_path: Path, change: str) -> None:
    before = key(resolve(tmp_path))
    if change == "data":
        (tmp_path / "p.yaml").write_text("another property")
    text = {
        "parameter": PLAN.replace("max_boxes: 10", "max_boxes: 11"),
        "seed": PLAN + "seed: 3\n",
        "limits": PLAN + "limits: {time_s: 5}\n",
    }.get(change, PLAN)
    digest = "sha256:b" if change == "model" else "sha256:a"
    after = key(resolve(tmp_path, text, digest, threads=2 if change == "threads" else 1))
    assert before != after


def test_the_key_does_not_change_with_names_and_titles(tmp_path: Path) -> None:
    renamed = PLAN.replace("name: small", "name: other\ntitle: t")
    assert key(resolve(tmp_path)) == key(resolve(tmp_path, renamed))


def test_two_uses_of_one_check_have_two_keys(tmp_path: Path) -> None:
    twice = (
        PLAN + "  - check: AUD201\n    id: again\n    params: {property: p.yaml, max_boxes: 10}\n"
    )
    first, second = resolve(tmp_path, twice)[1:]
    assert first.record.key != second.record.key


def test_a_missing_data_file_names_the_parameter(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"file of AUD201 \(property\) not found"):
        resolve(tmp_path, PLAN.replace("p.yaml", "q.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("check: AUD101", "check: AUD110", "plan.yaml:5:5: unknown check 'AUD110'; did you mean"),
        ("max_boxes: 10", "max_boxes: -1", "plan.yaml:7:32: max_boxes: Input should be greater"),
        ("    params: {property: p.yaml, max_boxes: 10}\n", "", "plan.yaml:6:5: key 'property' is"),
        (
            "check: AUD101",
            "check: AUD201\n    params: {property: p.yaml}",
            "called 'AUD201'; give one",
        ),
    ],
)
def test_wrong_checks_and_parameters_are_named_with_their_place(
    tmp_path: Path, old: str, new: str, part: str
) -> None:
    with pytest.raises(InvalidText) as caught:
        resolve(tmp_path, PLAN.replace(old, new))
    assert part in str(caught.value)


def test_a_check_that_cannot_examine_a_subject_says_which_it_can(tmp_path: Path) -> None:
    """By their names; where there is none, the check has to go."""
    (tmp_path / "plan.yaml").write_text(PLAN)
    (tmp_path / "p.yaml").write_text("a property")
    loaded = load_plan(tmp_path / "plan.yaml", {})
    environment = describe_environment("cpu", 1)
    folder = Subject(name="lm", path=tmp_path, kind="transformers", digest="sha256:a")
    file = Subject(name="net", path=tmp_path / "model.onnx", kind="onnx", digest="sha256:b")
    problem = "plan.yaml:6: AUD201 examines onnx models, 'lm' is transformers; "
    for subjects, way_out in (
        ([folder, file], r"write subjects: \[net\]"),
        ([folder], "take the check out of the plan"),
    ):
        with pytest.raises(ConfigurationError, match=problem + way_out):
            resolve_units(loaded, subjects, all_checks(), environment)


def test_a_model_that_changed_since_it_was_digested_gets_no_verdict(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(absolute_value().SerializeToString())
    unit = resolve(tmp_path, digest=file_digest(model))[0]
    whole = run_unit((unit, tmp_path / "evidence"), lambda share, text: None)
    model.write_bytes(comparison().SerializeToString())
    changed = run_unit((unit, tmp_path / "evidence"), lambda share, text: None)
    assert whole.answer.verdict is Verdict.HOLDS
    assert (changed.answer.verdict, changed.traceback) == (Verdict.ERROR, "")
    assert "model.onnx" in changed.answer.reason
