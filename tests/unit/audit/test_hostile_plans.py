"""Plans, policies and waivers of strangers: refused in one line that says where and why."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from auditor.audit.plan import MAX_MATCHES, expand_subjects, load_plan
from auditor.audit.policy import load_policy
from auditor.audit.waivers import load_waivers
from auditor.errors import ConfigurationError, InvalidText

PLAN = "version: 1\nname: small\nsubjects: [{path: PATH}]\nchecks: [{check: AUD101}]\n"


def refusal(folder: Path, text: str) -> str:
    """The message about a plan, which is short and shows no escape."""
    (folder / "plan.yaml").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        list(expand_subjects(load_plan(folder / "plan.yaml", {})))
    assert len(str(caught.value)) <= 2_100
    assert "\x1b" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("a**", "is no path"),
        ("x" * 5_000, "is no path"),
        ('"a\\0b"', "model not found"),
        ('"a\\0*"', "model not found"),
        ('"\\e[31m"', "model not found"),
        ('"\\ud800*"', "model not found"),
    ],
)
def test_a_path_that_cannot_be_one_is_named(tmp_path: Path, path: str, part: str) -> None:
    """Globs that are none, names that are too long, NUL, escapes and lone surrogates."""
    assert part in refusal(tmp_path, PLAN.replace("PATH", path))


def test_a_glob_that_names_too_many_is_refused(tmp_path: Path) -> None:
    """Before any of them is looked at."""
    for number in range(MAX_MATCHES + 1):
        (tmp_path / f"{number}.onnx").touch()
    message = refusal(tmp_path, PLAN.replace("PATH", '"*.onnx"'))
    assert f"more than {MAX_MATCHES} models" in message


def test_variables_that_would_blow_up_the_plan_are_refused(tmp_path: Path) -> None:
    """A text of 4,000 characters, 4,000 times."""
    variables = f'variables: {{a: {{description: d, default: "{"x" * 4_000}"}}}}\n'
    title = f"title: '{'${a}' * 4_000}'\n"
    message = refusal(tmp_path, variables + title + PLAN.replace("PATH", "x"))
    assert "variables put more than" in message


def test_subjects_that_share_a_name_are_named(tmp_path: Path) -> None:
    """Also the last of many, without comparing each with each."""
    names = ", ".join(f"{{path: x, name: n{number % 2_999}}}" for number in range(3_000))
    text = PLAN.replace("[{path: PATH}]", f"[{names}]")
    assert "two subjects are called 'n0'" in refusal(tmp_path, text)


def test_a_threshold_that_is_no_number_is_refused(tmp_path: Path) -> None:
    """Everything is unequal to NaN: such a threshold would always be met."""
    path = tmp_path / "policy.yaml"
    path.write_text("gates: [{check: AUD201, metric: m, op: '!=', value: .nan}]\n")
    with pytest.raises(InvalidText, match="NaN is no threshold"):
        load_policy(path)


@pytest.mark.parametrize("text", ["1" * 5_000, "- {}\n" * 5_000, "abc", "- {expires: 1e300}"])
def test_a_waiver_file_of_any_form_is_refused(tmp_path: Path, text: str) -> None:
    """The first problem is enough."""
    path = tmp_path / "waivers.yaml"
    path.write_text(text)
    with pytest.raises(InvalidText):
        load_waivers(path, date(2026, 1, 1))
