"""`auditor list`: what this installation knows."""

from __future__ import annotations

import rich_click as click

from auditor_cli.options import json_option, today_utc
from auditor_cli.output import Output


@click.command(name="list")
@click.argument("what", type=click.Choice(["checks", "fixes", "plans", "policies", "frameworks"]))
@json_option
def command(what: str, as_json: bool) -> int:
    """List checks, fixes, built-in plans and content policies, or compliance frameworks."""
    {
        "checks": _checks, "fixes": _fixes, "plans": _plans, "policies": _policies,
        "frameworks": _frameworks,
    }[what](Output(as_json))  # fmt: skip
    return 0


def _checks(output: Output) -> None:
    from auditor.check import path_parameters
    from auditor.registry import all_checks

    rows = []
    for check in all_checks().values():
        params = check.params.model_json_schema()
        paths = path_parameters(check.params)
        names = [f"{name} ({paths[name]})" if name in paths else name
                 for name in check.params.model_fields]  # fmt: skip
        rows.append((check.code, check.title, " and ".join(check.kinds), ", ".join(names) or "-"))
        output.record(
            check.card().model_dump() | {"kinds": check.kinds, "paths": paths, "parameters": params}
        )
    output.table(("code", "question", "models", "parameters"), rows)


def _fixes(output: Output) -> None:
    from dataclasses import asdict
    from importlib.metadata import entry_points

    from auditor.registry import BUILT_IN_FIXES

    rows = [(each.name, each.title, "auditor") for each in BUILT_IN_FIXES]
    for each in BUILT_IN_FIXES:
        output.record({**asdict(each), "provided_by": "auditor"})
    for entry in entry_points(group="auditor.fixes"):
        rows.append((entry.name, "-", entry.value))
        output.record({"name": entry.name, "provided_by": entry.value})
    output.table(("fix", "what it does", "provided by"), rows)


def _plans(output: Output) -> None:
    from auditor.strict_yaml import parse
    from auditor_cli.plans import built_in_plans

    rows = []
    for name, path in built_in_plans().items():
        plan = parse(path.read_text(encoding="utf-8"), str(path)).value
        fields = plan if isinstance(plan, dict) else {}
        variables = fields.get("variables")
        needed = sorted(variables) if isinstance(variables, dict) else []
        rows.append((name, str(fields.get("title", "")), ", ".join(needed) or "-"))
        output.record({"name": name, "title": fields.get("title", ""), "variables": needed})
    output.table(("plan", "title", "variables (--set)"), rows)


def _policies(output: Output) -> None:
    from auditor.trace.content_policy import read_policy
    from auditor_cli.plans import content_policies

    rows = []
    for name, path in content_policies().items():
        policy = read_policy(path)
        rows.append((name, str(len(policy.clauses)), policy.description, str(path)))
        output.record({
            "name": name, "clauses": [each.id for each in policy.clauses],
            "description": policy.description, "path": str(path),
        })  # fmt: skip
    output.table(("content policy", "clauses", "what it is", "file"), rows)


def _frameworks(output: Output) -> None:
    from auditor_cli.frameworks import read_mapping
    from auditor_cli.plans import compliance_mappings
    from auditor_reports.dossier.build import review_age_days, review_is_old

    today, rows = today_utc(), []
    for path in compliance_mappings().values():
        each = read_mapping(path)
        age, old = review_age_days(each, today), review_is_old(each, today)
        if old:
            output.warn(f"{each.id}: last reviewed more than twelve months ago; compare it with "
                        "its sources before you rely on it")  # fmt: skip
        rows.append((each.id, each.framework_version, str(each.last_reviewed), f"{age} days",
                     str(path)))  # fmt: skip
        output.record({
            "name": each.id, "aliases": each.aliases, "title": each.title,
            "framework": each.framework, "version": each.framework_version,
            "last_reviewed": str(each.last_reviewed), "reviewer_role": each.reviewer_role,
            "review_age_days": age, "review_is_old": old,
            "rows": [row.id for row in each.rows()], "mapping": str(path),
        })  # fmt: skip
    output.table(("framework", "version", "last reviewed", "age", "mapping"), rows)
