"""`auditor config`: validate what people write, print schemas and templates for CI."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from auditor.errors import AuditorError
from auditor_cli.exit_codes import ExitCode, code_for
from auditor_cli.options import json_option, parse_settings
from auditor_cli.output import Output

if TYPE_CHECKING:
    from auditor_cli.written_files import Checked, Kind

WHAT = [
    "plan", "policy", "waivers", "baseline", "audit", "patterns", "content-policy",
    "trace-calibration", "fix", "framework-mapping", "applicability", "dossier",
]  # fmt: skip
TEMPLATES = ["github", "gitlab"]
# Of several files that are wrong the first of these is the exit code.
_WORST_FIRST = (
    ExitCode.INTERNAL, ExitCode.REFUSED, ExitCode.USAGE, ExitCode.INCONCLUSIVE,
    ExitCode.NOTHING_AUDITED, ExitCode.PASSED,
)  # fmt: skip


@click.group(name="config")
def command() -> None:
    """Validate plans, policies and waiver files, or print a schema or a template for CI."""


@command.command(name="schema")
@click.argument("what", type=click.Choice(WHAT), default="plan")
def schema(what: str) -> int:
    """Print the JSON schema of a file that auditor reads or writes."""
    from auditor.audit.schemas import SCHEMAS
    from auditor_reports.audit_json import schema as audit_schema
    from auditor_reports.dossier.json import SCHEMA_NAMES, dossier_schema

    if what == "audit":
        made = audit_schema()
    else:
        made = dossier_schema(what) if what in SCHEMA_NAMES else SCHEMAS[what]()
    Output().data(json.dumps(made, indent=2, sort_keys=True))
    return 0


@command.command(name="ci")
@click.argument("system", type=click.Choice(TEMPLATES))
def ci_template(system: str) -> int:
    """Print a workflow for GitHub or a job for GitLab that audits and gates; docs/ci.md."""
    template = files("auditor_specs") / "ci" / f"{system}.yml"
    Output().text(template.read_text(encoding="utf-8").rstrip("\n"))
    return 0


@command.command(name="validate")
@click.argument("names", metavar="FILE...", nargs=-1, required=True)
@click.option("--as", "kind", type=click.Choice(["plan", "policy", "waivers"]),
              help="What the files are (default: told by their content).")  # fmt: skip
@click.option("--text-only", is_flag=True,
              help="Of plans check the text alone, no model and no data file.")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE",
              help="Value of a plan variable.")  # fmt: skip
@json_option
def validate(
    names: tuple[str, ...],
    kind: Kind | None,
    text_only: bool,
    settings: tuple[str, ...],
    as_json: bool,
) -> int:
    """Check plans, policies and waiver files; write nothing.

    A plan is checked with its models, data files and parameters. Every file is looked at, also
    after one that is wrong; errors name file, line and column.
    """
    output = Output(as_json)
    values = parse_settings(settings)
    codes: list[ExitCode] = []
    for name in names:
        try:
            checked = _check(name, kind, values, text_only=text_only)
        except AuditorError as error:
            codes.append(code_for(error))
            if len(names) == 1:
                raise
            output.warn(f"auditor: {error}")
            output.record(_refusal(name, error))
        else:
            for notice in checked.notices:
                output.warn(f"note: {notice}")
            output.data(f"{checked.file}: valid {checked.kind}, {checked.holds}")
            output.record(_record(checked))
    return min(codes, key=_WORST_FIRST.index, default=ExitCode.PASSED)


def _check(name: str, kind: Kind | None, values: dict[str, str], *, text_only: bool) -> Checked:
    from auditor_cli import written_files
    from auditor_cli.plans import find_plan

    path = Path(name)
    if path.is_file():
        found = kind or written_files.kind_of(path)
        if found == "policy":
            return written_files.check_policy(path)
        if found == "waivers":
            return written_files.check_waivers(path)
        if text_only:
            return written_files.check_plan_text(path, values)
    return written_files.check_plan(find_plan(name, values))


def _record(checked: Checked) -> dict[str, object]:
    counted = {"plan": "checks", "policy": "thresholds", "waivers": "waivers"}[checked.kind]
    return {
        "file": checked.file, "kind": checked.kind, "valid": True, counted: checked.count,
        "notices": list(checked.notices),
    }  # fmt: skip


def _refusal(name: str, error: AuditorError) -> dict[str, object]:
    problem = {
        "kind": type(error).__name__, "message": " ".join(str(error).split()),
        "exit_code": int(code_for(error)),
    }  # fmt: skip
    return {"file": name, "valid": False, "error": problem}
