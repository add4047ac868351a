"""Targets: runs, their reports and signatures, repairs, and kept answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.sealing import ledger_of
from tests.fuzz.target import Check, check_of_file, only, require_plain_words


def _run(folder: Path, made: Callable[[bytes], bytes]) -> Check:
    from auditor.audit.ledger import Ledger, LedgerDamaged, read_entries
    from auditor.audit.run_directory import LEDGER
    from auditor.audit.runs import own_report
    from auditor.errors import ConfigurationError

    path = folder / LEDGER

    def check(data: bytes) -> None:
        path.write_bytes(made(data))
        with only(LedgerDamaged):
            entries = read_entries(path)
            with only(ConfigurationError):
                own_report(folder)
            with Ledger(path) as ledger:
                ledger.append("result", {"after": 1})
            if len(read_entries(path)) != len(entries) + 1:
                raise AssertionError("what was recovered cannot be continued")

    return check


def open_ledger(folder: Path) -> Check:
    """A ledger as it is: read, recovered, continued, and made a report of."""
    return _run(folder, bytes)


def open_ledger_sealed(folder: Path) -> Check:
    """Entries of a ledger with right digests."""
    return _run(folder, lambda data: ledger_of(data.split(b"\n")))


def open_audit_json(folder: Path) -> Check:
    """A report: read, written again, and shown in a list of runs."""
    from auditor.errors import InvalidText
    from auditor_cli.view.run_index import describe
    from auditor_reports.audit_json import load_report, render_json

    path = folder / "audit.json"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with only(InvalidText):
            render_json(load_report(path))
        str(describe("id", "run", folder))

    return check


def open_baseline(folder: Path) -> Check:
    """A baseline."""
    from auditor.errors import InvalidText
    from auditor_cli.options import load_baseline

    return check_of_file(
        folder / "file", lambda path: load_baseline(path).by_fingerprint(), InvalidText
    )


def open_fix_record(folder: Path) -> Check:
    """The record of a repair."""
    from auditor.errors import InvalidText
    from auditor_reports.fix.json import load_fix, render_fix_json

    return check_of_file(folder / "file", lambda path: render_fix_json(load_fix(path)), InvalidText)


def open_traced_record(folder: Path) -> Check:
    """The full record of a traced text."""
    from auditor.errors import ConfigurationError
    from auditor.redaction import read_full_record

    def check(data: bytes) -> None:
        with only(ConfigurationError):
            read_full_record(data)

    return check


def open_cached_answer(folder: Path) -> Check:
    """An entry of the cache, with a right digest: it is taken or counts as none."""
    from auditor.audit.answer_cache import AnswerCache
    from auditor.audit.ledger import EvidenceFolder

    cache, evidence = AnswerCache(folder / "cache"), EvidenceFolder(folder / "evidence")
    name = hashlib.sha256(b"key").hexdigest()
    path = folder / "cache" / "answers" / name[:2] / f"{name}.json"
    path.parent.mkdir(parents=True)
    (folder / "cache" / "auditor-cache").write_bytes(b"")

    def check(data: bytes) -> None:
        sealed = json.dumps({"digest": hashlib.sha256(data).hexdigest()})[:-1].encode()
        for content in (data, sealed + b',"entry":' + data + b"}\n"):
            path.write_bytes(content)
            cache.take("key", evidence)
            list(cache.entries())

    return check


def open_signature(folder: Path) -> Check:
    """The signature of a run: it fits, or the answer says why not in one line."""
    from auditor.audit.signing import verify_run
    from auditor.errors import ConfigurationError
    from tests.fuzz.signed_run import write_signed_run

    run, public_key = write_signed_run(folder)
    signature = folder / "signature"

    def check(data: bytes) -> None:
        signature.write_bytes(data)
        with only(ConfigurationError):
            str(verify_run(run, public_key, signature).problem)

    return check


def open_guarded_child(folder: Path) -> Check:
    """What a guarded child said and how it ended: any of it has an outcome in plain words."""
    from auditor.guarded.limits import GuardLimits
    from auditor.guarded.outcome import GuardStatus
    from auditor.guarded.process import read_outcome
    from auditor.guarded.supervision import Supervised

    limits = GuardLimits()

    def check(data: bytes) -> None:
        code = int.from_bytes(data[:1], "big", signed=True)
        output, _, errors = data[1:].partition(b"\0")
        outcome = read_outcome(Supervised(None, code, output, errors, 1.0, 1.0), limits)
        for words in (outcome.problem, outcome.stage, str(outcome.protections)):
            require_plain_words(words)
        if outcome.status is GuardStatus.DONE and code:
            raise AssertionError("a child that failed is called done")

    return check
