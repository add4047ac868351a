"""Audits and their reports under trial: what is committed stays, and is not computed again."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from auditor.audit.acceptance import Acceptance
from auditor.audit.ledger import EvidenceFolder, read_entries
from auditor.audit.run_directory import EVIDENCE, LEDGER, assemble_report, committed_results
from auditor.audit.runs import check_removable
from auditor.errors import AuditorError
from auditor.findings import AuditReport, blob_of
from auditor_reports.registry import EVERY_WRITER, WRITERS, render
from benchmarks.killed_work import Look, Problem, copy_demo, differences, tree
from benchmarks.killing import Command, Whole

RUN: Final = "run"
CODES: Final = frozenset({0, 1, 3})
_PLANNED: Final = re.compile(r"^(\d+) checks(?:, (\d+) known from before)?;", re.M)
NOTED: Final = """\
import hashlib, time
from auditor.check import Check, CheckParams
from auditor.evidence import BlobEvidence
from auditor.findings import Answer, Verdict

class Params(CheckParams):
    number: int

def run(subject, params, context):
    time.sleep(0.05)
    content = hashlib.sha256(str(params.number).encode()).digest() * 2048
    blob = context.evidence.put(content, "application/octet-stream", f"{params.number}.bin")
    return Answer(verdict=Verdict.HOLDS, summary=f"stored {blob.digest}",
                  evidence=(BlobEvidence(title="noted", blob=blob),))

noting = Check(code="AUD905", title="notes", version=1, question="?", method="m",
               pass_does_not_mean="-", kinds=("onnx",), params=Params, run=run,
               estimate_s=lambda params: 0.1)
"""


def install(folder: Path, module: str, text: str, *entries: str) -> None:
    """Put a distribution with these checks into `folder/site`."""
    info = folder / "site" / f"{module}-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 0.1\n")
    lines = "".join(f"{entry} = {module}:{entry}\n" for entry in entries)
    (info / "entry_points.txt").write_text(f"[auditor.checks]\n{lines}")
    (folder / "site" / f"{module}.py").write_text(text)


def write_many(folder: Path, checks: int, *, of_file: bool) -> None:
    """A plan of radii that are violated, of checks that keep a file each, and of the model file."""
    copy_demo(folder)
    install(folder, "noting_check", NOTED, "noting")
    lines = ["version: 1", "name: many", "subjects: [{path: digits.onnx}]", "checks:"]
    if of_file:
        lines += ["  - check: AUD101", "  - check: AUD102", "  - check: AUD103"]
    for number in range(checks):
        lines.append(f"  - {{check: AUD905, id: note-{number}, params: {{number: {number}}}}}")
        if number % 3 == 0:
            radius = 0.05 + number / 1000
            lines.append(
                f"  - {{check: AUD202, id: radius-{number}, params: {{inputs: digits_test.npz, "
                f"radius: {radius:.3f}, count: 3}}}}"
            )
    (folder / "plan.yaml").write_text("\n".join(lines) + "\n")


@dataclass(frozen=True)
class Audit:
    """`auditor run`: of the demo, or of a plan with many checks if `checks` is above 0."""

    name: str
    checks: int = 0
    of_file: bool = True
    workers: bool = True
    codes: frozenset[int] = CODES
    command: Command = field(init=False)

    def __post_init__(self) -> None:
        plan = "plan.yaml" if self.checks else "demo"
        arguments = ("run", plan, "--out", RUN, "--workers", "2", "--progress", "plain")
        object.__setattr__(self, "command", Command(arguments, ("site",)))

    def prepare(self, folder: Path) -> None:
        """Write the plan, the model and the data."""
        if self.checks:
            write_many(folder, self.checks, of_file=self.of_file)

    def look(self, folder: Path, whole: Path) -> Look:
        """The committed lines, and whether anything else speaks of more than they do."""
        run = folder / RUN
        ledger = run / LEDGER
        raw = ledger.read_bytes() if ledger.is_file() else b""
        kept = {"lines": raw[: raw.rfind(b"\n") + 1], "results": 0}
        if not raw:
            written = (
                [path.name for path in run.glob("*") if path.is_file()] if run.is_dir() else []
            )
            early = [
                Problem("half-written", f"{name} without a ledger")
                for name in written
                if name not in {LEDGER, ".write-test"}
            ]
            return Look(tuple(early), kept=kept)
        try:
            report = report_of(run)
        except AuditorError as error:
            problem = () if "holds no plan" in str(error) else (Problem("lost", str(error)),)
            return Look(problem, kept=kept)
        kept["results"] = len(committed_results(read_entries(ledger)))
        problems = [*missing_evidence(run), *wrong_reports(run, report)]
        if report.complete != (kept["results"] == len(report.results)):
            problems.append(Problem("half-written", "the run says that it is complete"))
        return Look(tuple(problems), kept=kept)

    def compare(self, folder: Path, whole: Path, look: Look, again: Whole) -> list[Problem]:
        """Whether what was committed is there byte for byte, once, and the rest is as elsewhere."""
        run, problems = folder / RUN, []
        content = (run / LEDGER).read_bytes()
        if not content.startswith(look.kept["lines"]):
            problems.append(Problem("lost", "committed ledger lines changed"))
        counts = Counter(e.body["key"] for e in read_entries(run / LEDGER) if e.kind == "result")
        problems += [Problem("repeated", f"{key} was run {times} times")
                     for key, times in counts.items() if times > 1]  # fmt: skip
        planned = _PLANNED.search(again.err)
        reused = int(planned.group(2) or 0) if planned else -1
        if reused != look.kept["results"]:
            text = f"{look.kept['results']} results were committed and {reused} are known"
            problems.append(Problem("repeated", text))
        report = report_of(run)
        expected = report_of(whole / RUN)
        if not report.complete or timeless(report) != timeless(expected):
            problems.append(Problem("differs", "the report is not that of an undisturbed run"))
        problems += [*missing_evidence(run), *wrong_reports(run, report)]
        problems += _same_files(run, whole / RUN)
        try:
            check_removable(run, {writer.filename for writer in EVERY_WRITER})
        except AuditorError as error:
            problems.append(Problem("in the way", f"auditor runs rm: {error}"))
        return problems


@dataclass(frozen=True)
class Reports:
    """`auditor report` in several formats, over older files of the same names."""

    finished: Path
    name: str
    workers: bool = False
    codes: frozenset[int] = frozenset({0})
    formats: tuple[str, ...] = tuple(writer.name for writer in WRITERS)
    command: Command = field(init=False)

    def __post_init__(self) -> None:
        asked = [part for each in self.formats for part in ("--format", each)]
        arguments = ("report", RUN, *asked, "--framework", "nist-ai-rmf")
        object.__setattr__(self, "command", Command(arguments))

    def prepare(self, folder: Path) -> None:
        """A finished run whose reports are of an older time."""
        shutil.copytree(self.finished, folder / RUN)
        for writer in EVERY_WRITER:
            if writer.name in self.formats:
                (folder / RUN / writer.filename).write_bytes(b"older")

    def look(self, folder: Path, whole: Path) -> Look:
        """Every report is the older one or the new one."""
        found, expected = tree(folder / RUN), tree(whole / RUN)
        problems = [
            Problem("half-written", name) for name in sorted(found.keys() & expected.keys())
            if found[name] != expected[name] and (folder / RUN / name).read_bytes() != b"older"
        ]  # fmt: skip
        return Look(tuple(problems))

    def compare(self, folder: Path, whole: Path, look: Look, again: Whole) -> list[Problem]:
        """The same bytes as elsewhere."""
        return differences(tree(folder / RUN), tree(whole / RUN), "the run")


def report_of(run: Path) -> AuditReport:
    """The report of a run's folder by its ledger alone."""
    return assemble_report(run, read_entries(run / LEDGER), Acceptance((), {}, _today()))


def missing_evidence(run: Path) -> list[Problem]:
    """Files that committed results name and that are not there, or not whole."""
    problems, store = [], EvidenceFolder(run / EVIDENCE)
    for result in committed_results(read_entries(run / LEDGER)).values():
        for blob in filter(None, map(blob_of, result.answer.every_evidence())):
            try:
                store.get(blob, 2**26)
            except AuditorError as error:
                problems.append(Problem("half-written", str(error)))
    return problems


def wrong_reports(run: Path, report: AuditReport) -> list[Problem]:
    """Reports that are not what the ledger says."""
    return [
        Problem("half-written", writer.filename)
        for writer in EVERY_WRITER
        if (run / writer.filename).is_file()
        and (run / writer.filename).read_bytes() != render(writer.name, report)
    ]


def _same_files(run: Path, whole: Path) -> list[Problem]:
    """The same names, and the same bytes where no times stand in them."""
    found, expected = tree(run), tree(whole)
    timed = {LEDGER, *(writer.filename for writer in EVERY_WRITER)}
    return differences(
        {name: "" if name in timed else digest for name, digest in found.items()},
        {name: "" if name in timed else digest for name, digest in expected.items()}, "the run",
    )  # fmt: skip


def timeless(report: AuditReport) -> Any:
    """A report as JSON values, without when and how long."""
    return _without_times(json.loads(report.model_dump_json()))


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key != "timing"}
    if isinstance(value, list):
        return [_without_times(each) for each in value]
    return value


def _today() -> Any:
    return datetime.now(UTC).date()
