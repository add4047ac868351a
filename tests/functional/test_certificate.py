"""`auditor verify --certificate` and `--check` from the command line."""

from __future__ import annotations

from pathlib import Path

from auditor_cli.main import run_command_line
from tests.models.certificates import absolute_value_question


def test_what_holds_gets_a_certificate_that_is_accepted_for_it_alone(tmp_path: Path) -> None:
    question = absolute_value_question(tmp_path, -0.5)
    asked = ["verify", str(question.model), str(question.property_file)]
    target = str(tmp_path / "new" / "c.audcert")
    assert run_command_line([*asked, "--certificate", target]) == 0
    assert run_command_line([*asked, "--check", target]) == 0
    question.property_file.write_text(question.property_file.read_text().replace("-0.5", "-0.4"))
    assert run_command_line([*asked, "--check", target]) == 1


def test_what_is_violated_writes_none(tmp_path: Path) -> None:
    question = absolute_value_question(tmp_path, 0.5)
    target = tmp_path / "c.audcert"
    asked = ["verify", str(question.model), str(question.property_file)]
    assert run_command_line([*asked, "--certificate", str(target)]) == 1
    assert not target.exists()


def test_writing_and_checking_at_once_is_a_usage_error(tmp_path: Path) -> None:
    question = absolute_value_question(tmp_path, -0.5)
    asked = ["verify", str(question.model), str(question.property_file)]
    both = ["--certificate", str(tmp_path / "a"), "--check", str(question.property_file)]
    assert run_command_line([*asked, *both]) == 2


def test_a_missing_certificate_and_a_place_that_cannot_be_written_are_usage_errors(
    tmp_path: Path,
) -> None:
    question = absolute_value_question(tmp_path, -0.5)
    asked = ["verify", str(question.model), str(question.property_file)]
    assert run_command_line([*asked, "--check", str(tmp_path / "none")]) == 2
    below_a_file = str(question.model / "c.audcert")
    assert run_command_line([*asked, "--certificate", below_a_file]) == 2
