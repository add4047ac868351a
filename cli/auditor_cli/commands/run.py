"""`auditor run`: audit models as a plan says and gate on the result."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import rich_click as click

from auditor.audit.answer_cache import AnswerCache
from auditor.audit.plan import LoadedPlan
from auditor.audit.runner import AuditRequest, estimate_seconds, resolve_audit, run_audit
from auditor.executor import LocalExecutor
from auditor.findings import AuditReport
from auditor.models.session import resolve_device
from auditor_cli.exit_codes import soften
from auditor_cli.options import (
    FOLDER,
    cache_option,
    gate_options,
    json_option,
    option,
    parse_settings,
    quiet_option,
    read_acceptance,
    read_policy,
    soften_options,
)
from auditor_cli.output import Output, progress_view
from auditor_cli.plans import find_plan
from auditor_cli.reporting import announce_github, write_reports

MAX_DEFAULT_WORKERS = 4


@click.command(name="run")
@click.argument("plan")
@option("--out", type=FOLDER, envvar="AUDITOR_OUT",
              help="Folder of the run (default: auditor-runs/NAME).")  # fmt: skip
@option("--set", "settings", multiple=True, metavar="NAME=VALUE",
              help="Value of a plan variable.")  # fmt: skip
@option("--check", "only", multiple=True, metavar="CODE",
              help="Run only this check (code or id); the others stay open.")  # fmt: skip
@option("--dry-run", is_flag=True, help="Say what would run and how long; write nothing.")
@option("--extend", is_flag=True, help="Go on in a folder whose plan has changed.")
@option("--device", type=click.Choice(["auto", "cpu", "cuda"]), envvar="AUDITOR_DEVICE",
              help="Where models run (default: the plan's).")  # fmt: skip
@option("--seed", type=click.IntRange(0, 2**31 - 1), envvar="AUDITOR_SEED",
              help="Seed used instead of the plan's.")  # fmt: skip
@option("--workers", type=click.IntRange(1), envvar="AUDITOR_WORKERS",
              help="Checks run at the same time (default: processors, at most 4).")  # fmt: skip
@option("--threads", type=click.IntRange(1), default=1, show_default=True,
              envvar="AUDITOR_THREADS", help="Threads of each check.")  # fmt: skip
@option("--max-time", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              envvar="AUDITOR_MAX_TIME", help="Stop after this long; the run resumes.")  # fmt: skip
@cache_option
@option("--no-cache", is_flag=True, help="Neither use nor keep answers of other runs.")
@gate_options
@soften_options
@option("--progress", type=click.Choice(["auto", "rich", "plain", "none"]), default="auto",
              envvar="AUDITOR_PROGRESS", help="How progress is shown on stderr.")  # fmt: skip
@json_option
@quiet_option
def command(
    plan: str,
    out: Path | None,
    settings: tuple[str, ...],
    only: tuple[str, ...],
    dry_run: bool,
    extend: bool,
    device: str | None,
    seed: int | None,
    workers: int | None,
    threads: int,
    max_time: float | None,
    cache: Path | None,
    no_cache: bool,
    policy_file: Path | None,
    waiver_file: Path | None,
    baseline: Path | None,
    fail_on: str | None,
    exit_zero: bool,
    allow_inconclusive: bool,
    progress: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """Audit the models of PLAN (a file, or a built-in plan such as `demo`).

    Issuing the same command again resumes: what is known is not computed again.
    """
    output = Output(as_json, quiet)
    loaded = find_plan(plan, parse_settings(settings))
    if seed is not None:
        loaded = loaded.with_seed(seed)
    view = progress_view(output, progress)
    request = AuditRequest(
        loaded=loaded,
        folder=out or Path("auditor-runs") / loaded.plan.name,
        command=_repeat_command(plan, settings, seed, device),
        acceptance=read_acceptance(waiver_file, baseline),
        policy=read_policy(policy_file, fail_on, loaded.plan.policy),
        only=only,
        device=device,
        workers=workers or min(MAX_DEFAULT_WORKERS, os.cpu_count() or 1),
        threads=threads,
        max_time_s=max_time or float("inf"),
        extend=extend,
        cache=AnswerCache(cache) if cache and not no_cache else None,
        observer=view,
    )
    if dry_run:
        return _show_plan(request, output)
    with view:
        report = run_audit(request)
    write_reports(report, request.folder, loaded.plan.reports)
    _show_report(report, request.folder, loaded, output)
    return soften(report.gate.exit_code, exit_zero=exit_zero, allow_inconclusive=allow_inconclusive)


def _repeat_command(
    plan: str, settings: tuple[str, ...], seed: int | None, device: str | None
) -> str:
    words = ["auditor", "run", plan]
    for setting in settings:
        words += ["--set", setting]
    if seed is not None:
        words += ["--seed", str(seed)]
    if device is not None:
        words += ["--device", device]
    return shlex.join(words)


def _show_plan(request: AuditRequest, output: Output) -> int:
    """The dry run: what would be asked, what cannot be, and a rough duration."""
    executor = LocalExecutor(request.workers, request.threads)
    try:
        resolved = resolve_audit(request, executor)
    finally:
        executor.close()
    rows = [(unit.record.id, unit.record.code, unit.record.title, f"{unit.estimate_s:.0f} s")
            for unit in resolved.wanted]  # fmt: skip
    output.table(("id", "check", "question", "estimate"), rows)
    for notice in (*resolved.notices, *resolved.refused.values()):
        output.warn(f"note: {notice}")
    total = estimate_seconds(resolved.wanted, request.workers)
    output.data(f"{len(rows)} checks, about {total:.0f} s on {request.workers} workers")
    output.record({
        "checks": [{"id": id_, "code": code} for id_, code, _, _ in rows],
        "estimate_s": total,
        "notices": list(resolved.notices),
        "refused": resolved.refused,
        "device": resolve_device(request.device or request.loaded.plan.device),
    })  # fmt: skip
    return 0


def _show_report(report: AuditReport, folder: Path, loaded: LoadedPlan, output: Output) -> None:
    for result in report.results:
        output.record({"result": result.model_dump(mode="json", include={
            "id", "code", "subject", "key"})
            | {"verdict": result.verdict.value, "summary": result.answer.summary,
               "reason": result.answer.reason}})  # fmt: skip
    output.results(report.results)
    output.decision(report.gate)
    if "html" in loaded.plan.reports:
        output.data(f"report: {folder / 'report.html'}")
    output.record({
        "gate": report.gate.verdict, "exit_code": report.gate.exit_code,
        "complete": report.complete, "folder": str(folder), "counts": report.gate.counts,
    })  # fmt: skip
    announce_github(report, output)
