"""Reading plans: variables, globs, and errors with their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.audit.plan import expand_subjects, load_plan, select_subjects
from auditor.errors import FileMissing, InvalidText, UnknownName

PLAN = """\
version: 1
name: small
variables:
  models: {description: folder with models}
  radius: {description: a radius, default: "0.1"}
subjects:
  - path: ${models}/*.onnx
checks:
  - check: AUD101
  - check: AUD202
    params: {inputs: a.npz, radius: "${radius}"}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    for name in ("b.onnx", "a.onnx", "c.txt"):
        (tmp_path / "models" / name).touch()
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


def test_variables_are_filled_in(plan: Path) -> None:
    loaded = load_plan(plan, {"models": "models", "radius": "0.2"})
    assert loaded.plan.subjects[0].path == "models/*.onnx"
    assert loaded.plan.checks[1].params["radius"] == "0.2"
    assert [loaded.line_of_check(n) for n in (0, 1)] == [9, 10]


def test_a_default_is_used_and_a_missing_value_says_what_to_add(plan: Path) -> None:
    assert load_plan(plan, {"models": "m"}).plan.checks[1].params["radius"] == "0.1"
    with pytest.raises(InvalidText, match=r"plan.yaml:7:5: .*add --set models=VALUE"):
        load_plan(plan, {})


def test_an_unknown_variable_gets_a_hint(plan: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'models'"):
        load_plan(plan, {"model": "m"})


def test_globs_become_subjects_in_sorted_order(plan: Path) -> None:
    found = list(expand_subjects(load_plan(plan, {"models": "models"})))
    assert [(name, path.name, kind) for name, path, kind in found] == [
        ("a", "a.onnx", "onnx"),
        ("b", "b.onnx", "onnx"),
    ]


def test_a_glob_that_matches_nothing_is_named(plan: Path) -> None:
    with pytest.raises(FileMissing, match="model not found"):
        list(expand_subjects(load_plan(plan, {"models": "elsewhere"})))


def test_two_subjects_of_one_name_are_refused(plan: Path, tmp_path: Path) -> None:
    (tmp_path / "models" / "a.onnx.gz").touch()
    plan.write_text(PLAN.replace("*.onnx", "a.onnx*"))
    with pytest.raises(InvalidText, match="would both be called 'a'"):
        list(expand_subjects(load_plan(plan, {"models": "models"})))


FOLDERS = PLAN.replace("- path: ${models}/*.onnx", "- {path: '${models}', kind: KIND}")


@pytest.fixture
def folders(plan: Path, tmp_path: Path) -> Path:
    """The same plan beside two folders called like models."""
    for name in ("lm", "lm.v2"):
        (tmp_path / "models" / name).mkdir()
    return plan


def expand(plan: Path, kind: str, path: str) -> list[tuple[str, str, str]]:
    """Name, end of the path, and kind of every subject."""
    plan.write_text(FOLDERS.replace("KIND", kind))
    found = expand_subjects(load_plan(plan, {"models": path}))
    return [(name, path.name, kind) for name, path, kind in found]


def test_a_glob_matches_what_fits_the_kind(folders: Path) -> None:
    """Folders for transformers, files for onnx; a folder keeps its whole name."""
    assert expand(folders, "transformers", "models/*") == [
        ("lm", "lm", "transformers"),
        ("lm.v2", "lm.v2", "transformers"),
    ]
    assert [name for name, _, _ in expand(folders, "onnx", "models/*")] == ["a", "b", "c.txt"]


@pytest.mark.parametrize("path", ["models/lm", "models/lm/", "models/lm/../lm"])
def test_a_folder_is_a_subject_however_it_is_written(folders: Path, path: str) -> None:
    """Its name is the folder's own."""
    assert expand(folders, "transformers", path) == [("lm", "lm", "transformers")]


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("onnx", "models/lm", "models/lm is a folder, and kind onnx is a file; write kind: transf"),
        ("onnx", "models/l*", "models/lm is a folder, and kind onnx is a file; write kind: transf"),
        ("transformers", "models/a.onnx", "a.onnx is no folder, .* or write kind: onnx"),
        ("transformers", "models/*.onnx", "a.onnx is no folder, .* or write kind: onnx"),
    ],
)
def test_a_path_that_does_not_fit_its_kind_says_what_to_write(
    folders: Path, kind: str, path: str, message: str
) -> None:
    """With the place in the plan."""
    with pytest.raises(InvalidText, match=f"plan.yaml:7:6: .*{message}"):
        expand(folders, kind, path)


def test_a_check_selects_subjects_by_glob(plan: Path) -> None:
    spec = load_plan(plan, {"models": "m"}).plan.checks[0]
    assert select_subjects(spec, ["a1", "a2", "b"]) == ["a1", "a2", "b"]
    narrowed = spec.model_copy(update={"subjects": ("a*",)})
    assert select_subjects(narrowed, ["a1", "b", "a2"]) == ["a1", "a2"]
    with pytest.raises(UnknownName, match="unknown subject of check AUD101 'z'"):
        select_subjects(spec.model_copy(update={"subjects": ("z",)}), ["a"])


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("checks:", "cheks:", "plan.yaml:8:1: unknown key 'cheks'; did you mean 'checks'?"),
        ("check: AUD101", "chek: AUD101", "plan.yaml:9:5: unknown key 'chek'; did you mean"),
        ("name: small", "name: Not Small", "plan.yaml:2:1: name: String should match"),
        ("version: 1", "version: 7", "plan.yaml:1:1: plan version 7 is not known"),
        ("version: 1\n", "", "plan.yaml:1:1: key 'version' is missing"),
    ],
)
def test_errors_name_file_line_and_column(plan: Path, old: str, new: str, part: str) -> None:
    plan.write_text(PLAN.replace(old, new))
    with pytest.raises(InvalidText) as caught:
        load_plan(plan, {"models": "m"})
    assert part in str(caught.value)


def test_a_missing_or_binary_plan_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="plan not found"):
        load_plan(tmp_path / "none.yaml", {})
    (tmp_path / "binary.yaml").write_bytes(b"version: \xff\xfe")
    with pytest.raises(InvalidText, match="not UTF-8 text at byte 9"):
        load_plan(tmp_path / "binary.yaml", {})


def test_equal_plans_have_equal_digests(plan: Path) -> None:
    values = {"models": "m"}
    assert load_plan(plan, values).digest == load_plan(plan, values).digest
    assert load_plan(plan, values).digest != load_plan(plan, values).with_seed(1).digest
