"""Exit codes: every combination against the rules in words, and every row by the real command.

The oracle below says what the written rules say (`specs/exit-codes.md`, `specs/policy.md`),
without knowing how the gate goes about it.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest

from auditor.audit.acceptance import Acceptance
from auditor.audit.baseline import KnownPoint
from auditor.audit.gate import decide
from auditor.audit.policy import CountGate, MetricGate, Policy
from auditor.audit.waivers import Waiver
from auditor.findings import CheckResult, Metric, Severity, Verdict
from auditor_cli.exit_codes import soften
from auditor_reports.registry import render
from tests.functional.command import auditor, clean_environment, command_line, heed_interrupts
from tests.models.written_run import DIGEST, MOMENT, made_result, made_subject, write_run

TODAY = MOMENT.date()
HIGH, MEDIUM, LOW, CRITICAL = Severity.HIGH, Severity.MEDIUM, Severity.LOW, Severity.CRITICAL
BADNESS = {LOW: 1, MEDIUM: 2, HIGH: 3, CRITICAL: 4}


@dataclass(frozen=True)
class Situation:
    """What a run came to: the severities of what is broken, and what has no answer."""

    name: str
    broken: Severity | None = None
    unanswered: Verdict | None = None
    required: bool = True
    refused: bool = False
    empty: bool = False

    def results(self, share: float | None) -> list[CheckResult]:
        """AUD201 is broken or not, AUD301 is answered or not, AUD202 measures a share."""
        if self.empty:
            return []
        found = [
            made_result("AUD201", Verdict.VIOLATED, self.broken)
            if self.broken
            else made_result("AUD201", Verdict.HOLDS)
        ]
        if self.unanswered:
            found.append(made_result("AUD301", self.unanswered, required=self.required))
        if share is not None:
            metric = Metric(name="share", value=share)
            found.append(made_result("AUD202", Verdict.HOLDS, metrics=(metric,)))
        return found


SITUATIONS = (
    Situation("all holds"),
    *(Situation(f"{severity} finding", broken=severity) for severity in Severity),
    *(
        Situation(f"{verdict}", unanswered=verdict)
        for verdict in (Verdict.UNKNOWN, Verdict.SKIPPED, Verdict.ERROR)
    ),
    Situation("open and not required", unanswered=Verdict.UNKNOWN, required=False),
    Situation("broken and open", broken=HIGH, unanswered=Verdict.ERROR),
    Situation("critical and open", broken=CRITICAL, unanswered=Verdict.UNKNOWN),
    Situation("refused", refused=True),
    Situation("refused and broken", refused=True, broken=HIGH, unanswered=Verdict.SKIPPED),
    Situation("nothing audited", empty=True),
)
# Name: severity of missing it and what is measured (the threshold is 0.9), or nothing to measure.
THRESHOLDS: dict[str, tuple[Severity, float | None] | None] = {
    "none": None,
    "met": (HIGH, 0.95),
    "missed": (HIGH, 0.5),
    "missed, medium": (MEDIUM, 0.5),
    "unmeasured": (HIGH, None),
}
WAIVERS = ("none", "valid", "expired", "other model", "glob")
BASELINES = ("none", "same", "lower severity")
SOFTENING = ((False, False), (True, False), (False, True), (True, True))


@dataclass(frozen=True)
class Case:
    """One cell of the table."""

    situation: Situation
    inconclusive: str
    fail_on: Severity
    threshold: str
    waiver: str
    baseline: str

    @property
    def share(self) -> float | None:
        """What AUD202 measures."""
        chosen = THRESHOLDS[self.threshold]
        return chosen[1] if chosen else None


def every_case() -> Iterator[Case]:
    """All of them."""
    blocking = ("block", "warn")
    for cell in product(SITUATIONS, blocking, Severity, THRESHOLDS, WAIVERS, BASELINES):
        yield Case(*cell)


def in_words(case: Case) -> int:
    """The exit code by the written rules, before it is softened."""
    situation, threshold = case.situation, THRESHOLDS[case.threshold]
    if situation.refused:
        return 6
    problems: list[tuple[Severity, str]] = []
    if situation.broken:
        problems.append((situation.broken, "finding"))
    if threshold and threshold[1] == 0.5 and not situation.empty:
        problems.append((threshold[0], "threshold"))

    def is_accepted(severity: Severity, kind: str) -> bool:
        if case.waiver == "valid" and kind == "finding":
            return True
        if severity == CRITICAL:
            return False
        return case.waiver == "glob" or case.baseline == "same"

    standing = [severity for severity, kind in problems if not is_accepted(severity, kind)]
    if any(BADNESS[severity] >= BADNESS[case.fail_on] for severity in standing):
        return 1
    nothing_to_compare = threshold and (threshold[1] is None or situation.empty)
    unanswered = situation.unanswered and situation.required
    if case.inconclusive == "block" and (unanswered or nothing_to_compare):
        return 3
    return 5 if situation.empty else 0


def softened(code: int, exit_zero: bool, allow_inconclusive: bool) -> int:
    """The exit code after the flags, by the written rules."""
    forgiven = {(True, 1), (True, 3)} if exit_zero else set()
    if allow_inconclusive:
        forgiven |= {(True, 3)}
    return 0 if (True, code) in forgiven else code


def made_policy(case: Case) -> Policy:
    threshold = THRESHOLDS[case.threshold]
    gate = {"check": "AUD202", "metric": "share", "op": ">=", "value": 0.9}
    gates = [MetricGate.model_validate({**gate, "severity": threshold[0]})] if threshold else []
    fields = {"inconclusive": case.inconclusive, "fail_on": case.fail_on, "gates": gates}
    return Policy.model_validate(fields)


def made_waivers(case: Case) -> Sequence[Waiver]:
    plain = {"match": "AUD201", "model_digest": "any", "reason": "r", "approved_by": "owner",
             "expires": TODAY + timedelta(days=100)}  # fmt: skip
    changes: dict[str, dict[str, object]] = {
        "none": {},
        "valid": {"model_digest": DIGEST},
        "expired": {"expires": TODAY - timedelta(days=1)},
        "other model": {"model_digest": "sha256:" + "b" * 64},
        "glob": {"match": "AUD2*"},
    }
    if case.waiver == "none":
        return ()
    return (Waiver.model_validate({**plain, **changes[case.waiver]}),)


def made_baseline(case: Case, first: Sequence[tuple[str, Severity]]) -> dict[str, list[KnownPoint]]:
    """Knows each problem of the run: as bad as it is now, or one step less."""
    order = list(Severity)
    known: dict[str, list[KnownPoint]] = {}
    for mark, severity in first:
        if case.baseline == "none" or (case.baseline == "lower severity" and severity is LOW):
            continue
        step = 1 if case.baseline == "lower severity" else 0
        known[mark] = [KnownPoint(
            fingerprint=mark, severity=order[order.index(severity) + step], kind="finding",
            check="c", result="r", subject="m", title="t", measured=0.5,
        )]  # fmt: skip
    return known


def test_every_combination_has_the_code_that_the_rules_give_it() -> None:
    """Verdicts, policy, thresholds, waivers, baselines and flags, all against all."""
    wrong, seen, count = [], set(), 0
    for case in every_case():
        results = case.situation.results(case.share)
        subjects = [made_subject("a pickle" if case.situation.refused else "")]
        policy = made_policy(case)
        plain = decide(results, subjects, policy, Acceptance((), {}, TODAY))
        points = [(row.fingerprint, row.severity) for row in plain.rows if row.severity]
        accepted = Acceptance(made_waivers(case), made_baseline(case, points), TODAY)
        decision = decide(results, subjects, policy, accepted)
        verdict = {0: "pass", 1: "fail", 6: "fail"}.get(in_words(case), "inconclusive")
        for exit_zero, allow in SOFTENING:
            count += 1
            code = soften(decision.exit_code, exit_zero=exit_zero, allow_inconclusive=allow)
            seen.add(code)
            if (code, decision.verdict) != (softened(in_words(case), exit_zero, allow), verdict):
                wrong.append((case, exit_zero, allow, code, decision.verdict))
    assert wrong == []
    assert seen == {0, 1, 3, 5, 6}
    sizes = (SITUATIONS, range(2), Severity, THRESHOLDS, WAIVERS, BASELINES, SOFTENING)
    assert count == len(list(product(*sizes)))


def written_codes() -> dict[int, str]:
    """The rows of the table in the specification."""
    text = (Path(__file__).parents[2] / "specs" / "exit-codes.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", text, re.MULTILINE)
    return {int(code): meaning.strip() for code, meaning in rows}


def gate(folder: Path, *arguments: str) -> int:
    return auditor("gate", "run", *arguments, cwd=folder).code


def passes(folder: Path) -> int:
    write_run(folder / "run", [made_result("AUD201", Verdict.HOLDS)])
    return gate(folder)


def fails(folder: Path) -> int:
    """An open question beside a failure, and a flag that forgives only the former."""
    write_run(folder / "run", SITUATIONS[9].results(None))
    return gate(folder, "--allow-inconclusive")


def is_misused(folder: Path) -> int:
    write_run(folder / "run", [made_result("AUD201", Verdict.HOLDS)])
    return gate(folder, "--exit-zero", "--fail-onn", "low")


def has_no_answer(folder: Path) -> int:
    write_run(folder / "run", [made_result("AUD201", Verdict.ERROR)])
    expires = datetime.now(UTC).date() + timedelta(days=30)
    (folder / "w.yaml").write_text(
        f"- {{match: AUD201, model_digest: any, reason: r, approved_by: o, expires: {expires}}}\n"
    )
    return gate(folder, "--waivers", "w.yaml")


def is_damaged(folder: Path) -> int:
    """A flag that forgives a verdict forgives no missing one."""
    write_run(folder / "run", [made_result("AUD201", Verdict.HOLDS)])
    ledger = folder / "run" / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"auditor run plan.yaml"', '"auditor rum"'))
    return gate(folder, "--exit-zero", "--allow-inconclusive")


def asks_nothing(folder: Path) -> int:
    write_run(folder / "run", [])
    return gate(folder, "--exit-zero", "--allow-inconclusive")


def is_refused(folder: Path) -> int:
    write_run(folder / "run", [made_result("AUD201", Verdict.VIOLATED)], refused="a pickle")
    return gate(folder, "--exit-zero", "--allow-inconclusive")


def is_interrupted(folder: Path) -> int:
    """Ctrl-C where `runs rm` asks; the run is still there."""
    write_run(folder / "run", [made_result("AUD201", Verdict.HOLDS)])
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command_line("runs", "rm", "run"), cwd=folder, env=clean_environment(),
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=heed_interrupts,
    )  # fmt: skip
    os.close(theirs)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(ours, 1024)
    # One that arrives just before the process waits for an answer does not wake it.
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
    os.close(ours)
    assert (folder / "run" / "ledger.jsonl").is_file()
    return process.returncode


ROWS: dict[int, Callable[[Path], int]] = {
    0: passes,
    1: fails,
    2: is_misused,
    3: has_no_answer,
    4: is_damaged,
    5: asks_nothing,
    6: is_refused,
    130: is_interrupted,
}


def test_every_row_of_the_specification_is_tried() -> None:
    """And there is no other."""
    assert set(ROWS) == set(written_codes())


@pytest.mark.parametrize("code", sorted(ROWS))
def test_the_command_ends_with_the_code(code: int, tmp_path: Path) -> None:
    """In a process of its own, as a shell sees it."""
    assert ROWS[code](tmp_path) == code


@pytest.mark.parametrize(
    ("verdict", "flag", "said"),
    [
        (Verdict.VIOLATED, "--exit-zero", '"verdict": "fail"'),
        (Verdict.UNKNOWN, "--allow-inconclusive", '"verdict": "inconclusive"'),
    ],
)
def test_flags_soften_the_code_and_not_the_verdict(
    verdict: Verdict, flag: str, said: str, tmp_path: Path
) -> None:
    """What is printed as JSON stays what it is."""
    write_run(tmp_path / "run", [made_result("AUD201", verdict)])
    ended = auditor("gate", "run", "--json", flag, cwd=tmp_path)
    assert (ended.code, said in ended.out) == (0, True)


@pytest.mark.parametrize("name", ["html", "json", "junit", "markdown", "sarif"])
def test_a_missed_count_is_told_in_every_format_that_gives_reasons(
    name: str, tmp_path: Path
) -> None:
    """It belongs to no result, and fails the gate all the same."""
    policy = Policy(overall=(CountGate(count="results", op=">=", value=7),))
    report = write_run(tmp_path / "run", [made_result("AUD201", Verdict.HOLDS)], policy=policy)
    assert report.gate.exit_code == 1
    assert b"counted 1" in render(name, report)
