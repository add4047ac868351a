"""`auditor config`: validate a plan, or print the schema that editors use."""

from __future__ import annotations

import json
from pathlib import Path

import rich_click as click

from auditor_cli.options import json_option, parse_settings
from auditor_cli.output import Output

WHAT = [
    "plan", "policy", "waivers", "audit", "patterns", "content-policy", "trace-calibration", "fix",
]  # fmt: skip


@click.group(name="config")
def command() -> None:
    """Validate a plan or print a schema."""


@command.command(name="schema")
@click.argument("what", type=click.Choice(WHAT), default="plan")
def schema(what: str) -> int:
    """Print the JSON schema of a file that auditor reads or writes."""
    from auditor.audit.schemas import SCHEMAS
    from auditor_reports.audit_json import schema as audit_schema

    made = audit_schema() if what == "audit" else SCHEMAS[what]()
    Output().data(json.dumps(made, indent=2, sort_keys=True))
    return 0


@command.command(name="validate")
@click.argument("plan")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE",
              help="Value of a plan variable.")  # fmt: skip
@json_option
def validate(plan: str, settings: tuple[str, ...], as_json: bool) -> int:
    """Check a PLAN with its models, data files and parameters; write nothing."""
    from datetime import UTC, datetime

    from auditor.audit.gate import Acceptance
    from auditor.audit.runner import AuditRequest, resolve_audit
    from auditor.executor import LocalExecutor
    from auditor_cli.plans import find_plan

    output = Output(as_json)
    loaded = find_plan(plan, parse_settings(settings))
    executor = LocalExecutor()
    try:
        request = AuditRequest(loaded, Path(), "", Acceptance((), {}, datetime.now(UTC).date()))
        resolved = resolve_audit(request, executor)
    finally:
        executor.close()
    for notice in (*resolved.notices, *resolved.refused.values()):
        output.warn(f"note: {notice}")
    output.data(f"{loaded.file}: valid, {len(resolved.units)} checks")
    output.record({"valid": True, "checks": len(resolved.units), "notices": resolved.notices})
    return 0
