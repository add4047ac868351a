"""`auditor waiver`: add a waiver to a file, list a file, check it against a run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import rich_click as click
from rich.markup import escape

from auditor.audit.acceptance import Acceptance
from auditor.audit.gate import judge_run
from auditor.audit.waivers import MAX_WAIVER_DAYS, Waiver, add_waiver, load_waivers
from auditor.errors import ConfigurationError
from auditor_cli.exit_codes import ExitCode
from auditor_cli.options import FILE, json_option, option, quiet_option, today_utc
from auditor_cli.output import Output
from auditor_cli.reporting import load_gated_run, recorded_policy
from auditor_reports.sanitise import one_line


@click.group(name="waiver")
def command() -> None:
    """Add a waiver to a file, list the file, or check it against a run."""


@command.command(name="add")
@click.argument("file", type=FILE)
@option("--match", required=True,
        help="A check code, a check id or a fingerprint; or a glob, below critical.")  # fmt: skip
@option("--model-digest", required=True,
        help="sha256:... of the model it is granted for, or any.")  # fmt: skip
@option("--reason", required=True, help="Why the finding is acceptable.")
@option("--approved-by", required=True, metavar="ROLE", help="The role that accepts it.")
@option("--expires", required=True, metavar="YYYY-MM-DD",
        help=f"Last day on which it counts, at most {MAX_WAIVER_DAYS} days away.")  # fmt: skip
@option("--ticket", default="", help="Reference in your tracker.")
@json_option
def add(
    file: Path,
    match: str,
    model_digest: str,
    reason: str,
    approved_by: str,
    expires: str,
    ticket: str,
    as_json: bool,
) -> int:
    """Append a waiver to FILE; what stands there stays as it is."""
    output = Output(as_json)
    texts = {"reason": reason, "approved-by": approved_by}
    for name, text in texts.items():
        if not text.strip():
            raise ConfigurationError(f"--{name} is empty; a waiver needs it")
    waiver = Waiver(
        match=_line(match),
        model_digest=model_digest,
        reason=_line(reason),
        approved_by=_line(approved_by),
        expires=_day(expires),
        ticket=_line(ticket),
    )
    add_waiver(file, waiver, today_utc())
    if waiver.is_glob:
        output.warn("note: a glob covers no critical finding")
    output.data(f"{file}: '{one_line(waiver.match)}' is waived until {waiver.expires}")
    output.record({"written": str(file), "waiver": waiver.model_dump(mode="json")})
    return 0


def _line(text: str) -> str:
    return " ".join(text.split())


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--expires '{text}' is no day; write it as YYYY-MM-DD") from None


@command.command(name="list")
@click.argument("file", type=FILE)
@json_option
def list_(file: Path, as_json: bool) -> int:
    """Print the waivers of FILE with the days they have left. Always exits 0."""
    output, today = Output(as_json), today_utc()
    waivers = load_waivers(file, today)
    rows = []
    for waiver in waivers:
        left, state = waiver.days_left(today), _age(waiver, today)
        rows.append((state, str(left), str(waiver.expires), *_cells(waiver)))
        output.record(waiver.model_dump(mode="json") | {"days_left": left, "state": state})
    output.table(("state", "days left", "expires", "match", "model", "approved by", "reason"), rows)
    ages = [_age(waiver, today) for waiver in waivers]
    output.data(f"{len(waivers)} waivers, {ages.count('expired')} expired, "
                f"{ages.count('ends soon')} expiring soon")  # fmt: skip
    return 0


def _age(waiver: Waiver, today: date) -> str:
    if waiver.days_left(today) < 0:
        return "expired"
    return "ends soon" if waiver.ends_soon(today) else "in force"


def _cells(waiver: Waiver) -> Sequence[str]:
    model = (
        waiver.model_digest if len(waiver.model_digest) < 20 else f"{waiver.model_digest[:19]}..."
    )
    texts = (waiver.match, model, waiver.approved_by, waiver.reason)
    return [escape(one_line(text, 200)) for text in texts]


@command.command(name="check")
@click.argument("file", type=FILE)
@click.argument("run", type=click.Path(path_type=Path))
@option("--policy", "policy_file", type=FILE, envvar="AUDITOR_POLICY",
        help="Policy used instead of the one the run was gated under.")  # fmt: skip
@json_option
@quiet_option
def check(file: Path, run: Path, policy_file: Path | None, as_json: bool, quiet: bool) -> int:
    """Say what each waiver of FILE does to RUN, and what to do about those that do nothing.

    Exits 0 when each of them applies, 1 when one does not: it has expired, is bound to another
    model, matches nothing. The gate's own verdict is `auditor gate`'s business.
    """
    output, today = Output(as_json, quiet), today_utc()
    waivers = load_waivers(file, today)
    report = load_gated_run(run, policy_file)
    policy = recorded_policy(run, policy_file)
    judged = judge_run(report.results, report.subjects, policy, Acceptance(waivers, {}, today))
    rows = []
    for standing in judged.waivers:
        rows.append((standing.state, str(standing.points), escape(one_line(standing.waiver.match)),
                     str(standing.waiver.expires)))  # fmt: skip
        output.record(standing.waiver.model_dump(mode="json") | {
            "state": standing.state, "points": standing.points, "note": standing.note,
            "days_left": standing.waiver.days_left(today),
        })  # fmt: skip
    output.table(("state", "findings", "match", "expires"), rows)
    for standing in judged.waivers:
        if standing.note:
            output.warn(f"note: {standing.note}")
    useless = sum(standing.state != "applies" for standing in judged.waivers)
    output.data(f"{len(waivers)} waivers, {useless} of them without effect")
    return ExitCode.FAILED if useless else ExitCode.PASSED
