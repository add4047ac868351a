"""Options that several commands share, each with its `AUDITOR_*` variable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click

from auditor.errors import ConfigurationError, InvalidText, UnknownName
from auditor.verdicts import Severity

if TYPE_CHECKING:
    from auditor.audit.acceptance import Acceptance
    from auditor.audit.baseline import Baseline
    from auditor.audit.policy import Policy

F = TypeVar("F", bound=Callable[..., Any])


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """A click option whose help names its environment variable."""
    return click.option(*names, show_envvar="envvar" in settings, **settings)


FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
# An ONNX file, or a folder in the transformers layout.
MODEL = click.Path(path_type=Path)

json_option = option("--json", "as_json", is_flag=True, help="Only JSON lines on stdout.")
quiet_option = option(
    "-q",
    "--quiet",
    is_flag=True,
    envvar="AUDITOR_QUIET",
    help="No progress, no tables.",
)


cache_option = option("--cache", type=FOLDER, envvar="AUDITOR_CACHE", metavar="FOLDER",
                      help="Folder of answers of earlier runs (default: none).")  # fmt: skip


def gate_options(function: F) -> F:
    """`--policy --waivers --baseline --fail-on`."""
    for decorate in reversed((
        option("--policy", "policy_file", type=FILE, envvar="AUDITOR_POLICY",
                     help="Policy file used instead of the policy of plan or run."),
        option("--waivers", "waiver_file", type=FILE, envvar="AUDITOR_WAIVERS",
                     help="Waiver file: findings accepted until a date."),
        option("--baseline", type=click.Path(path_type=Path), envvar="AUDITOR_BASELINE",
                     help="Baseline file, or an earlier run (folder or audit.json): only what is "
                     "new or worse gates."),
        option("--fail-on", type=click.Choice([s.value for s in Severity]),
                     envvar="AUDITOR_FAIL_ON", help="Lowest severity that fails (default: high)."),
    )):  # fmt: skip
        function = decorate(function)
    return function


def soften_options(function: F) -> F:
    """`--exit-zero --allow-inconclusive`."""
    for decorate in reversed((
        option("--exit-zero", is_flag=True, envvar="AUDITOR_EXIT_ZERO",
                     help="Exit 0 where the gate says 1 or 3."),
        option("--allow-inconclusive", is_flag=True, envvar="AUDITOR_ALLOW_INCONCLUSIVE",
                     help="Exit 0 where the gate says 3."),
    )):  # fmt: skip
        function = decorate(function)
    return function


def read_policy(policy_file: Path | None, fail_on: str | None, recorded: Policy) -> Policy:
    """The policy in force: a file over that of plan or run, `--fail-on` over both."""
    from auditor.audit.policy import load_policy  # its records take time to build

    policy = load_policy(policy_file) if policy_file else recorded
    return policy.model_copy(update={"fail_on": Severity(fail_on)}) if fail_on else policy


def read_acceptance(waiver_file: Path | None, baseline: Path | None) -> Acceptance:
    """Waivers and baseline as of today (UTC)."""
    from auditor.audit.acceptance import Acceptance  # not needed by commands without a gate
    from auditor.audit.waivers import load_waivers

    today = today_utc()
    waivers = load_waivers(waiver_file, today) if waiver_file else ()
    known = load_baseline(baseline).by_fingerprint() if baseline else {}
    return Acceptance(waivers, known, today)


def load_baseline(path: Path) -> Baseline:
    """A baseline file, or what an earlier run (its folder or `audit.json`) had found.

    Raises:
        FileMissing: There is no such file, or the folder holds no `audit.json`.
        InvalidText: It is neither a baseline nor a report of this version.
    """
    from auditor.audit.baseline import BASELINE_FORMAT, Baseline, make_baseline
    from auditor_reports.audit_json import MAX_BYTES, load_report, run_fingerprint
    from auditor_reports.plain_json import fit_record, read_json

    file = path / "audit.json" if path.is_dir() else path
    data = read_json(file, "baseline", MAX_BYTES)
    if isinstance(data, dict) and data.get("format") == BASELINE_FORMAT:
        if data.get("version") != 1:
            raise InvalidText(
                str(file), f"baseline version {data.get('version')!r:.40}, this auditor reads 1; "
                "write it again with auditor baseline create",
            )  # fmt: skip
        return fit_record(Baseline, data, file)
    report = load_report(file)
    return make_baseline(report, run_fingerprint(report))


def today_utc() -> date:
    """The day that waivers and reviews are compared with."""
    return datetime.now(UTC).date()


def split_pair(option: str, given: str, form: str) -> tuple[str, str]:
    """The two sides of what an option was given as `left=right`.

    Raises:
        ConfigurationError: There is no sign, or nothing before it.
    """
    left, sign, right = given.partition("=")
    if not sign or not left:
        raise ConfigurationError(f"{option} '{given}' is not of the form {form}")
    return left, right


def parse_target(given: str, known: Sequence[str], role: str) -> tuple[str, Path]:
    """What `--output` was given: a format, and the file for it.

    Raises:
        ConfigurationError: It is not of the form FORMAT=FILE.
        UnknownName: There is no such format.
    """
    name, file = split_pair("--output", given, "FORMAT=FILE")
    if not file:
        raise ConfigurationError(f"--output '{given}' is not of the form FORMAT=FILE")
    if name not in known:
        raise UnknownName(role, name, list(known))
    return name, Path(file)


def parse_settings(pairs: tuple[str, ...]) -> dict[str, str]:
    """`name=value` pairs; a value that names an existing file or folder is made absolute."""
    values: dict[str, str] = {}
    for pair in pairs:
        name, value = split_pair("--set", pair, "name=value")
        values[name] = str(Path(value).resolve()) if Path(value).exists() else value
    return values
