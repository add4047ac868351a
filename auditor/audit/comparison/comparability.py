"""What makes the numbers, the gate or the scope of two runs incomparable."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import JsonValue

from auditor.audit.comparison.result_pairs import Pairing
from auditor.audit.environment import numerical_class
from auditor.findings import AuditReport, CheckResult, Record

Affects = Literal["numbers", "gate", "scope"]
_ABSENT = "-"
# A parameter may be a whole table; what differs is seen from its start.
_LONGEST_VALUE = 2_000


class Caveat(Record):
    """A difference that is not the model's, and what it makes incomparable.

    `results` are the ids it concerns in the new run; empty where it concerns the whole run.
    """

    kind: Literal["caveat"] = "caveat"
    affects: Affects
    what: str
    old: str
    new: str
    results: tuple[str, ...] = ()


def find_caveats(old: AuditReport, new: AuditReport, pairing: Pairing) -> tuple[Caveat, ...]:
    """The caveats of two runs: of numbers first, then of the gate, then of the scope."""
    run_wide = tuple(_of_runs(old, new))
    seeds = {(caveat.old, caveat.new) for caveat in run_wide if caveat.what == "seed"}
    concerned: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for was, now in pairing.both:
        for what, before, after in _of_results(was, now):
            if what != "seed" or (before, after) not in seeds:
                concerned[what, before, after].append(now.id)
    single = (
        Caveat(affects="numbers", what=what, old=before, new=after, results=tuple(ids))
        for (what, before, after), ids in sorted(concerned.items())
    )
    order: tuple[Affects, ...] = ("numbers", "gate", "scope")
    return tuple(sorted((*run_wide, *single), key=lambda each: order.index(each.affects)))


def is_comparable(was: CheckResult, now: CheckResult) -> bool:
    """Whether check version, seed, parameters and data of two results are the same."""
    return next(_of_results(was, now), None) is None


def _of_runs(old: AuditReport, new: AuditReport) -> Iterator[Caveat]:
    if old.seed != new.seed:
        yield Caveat(affects="numbers", what="seed", old=str(old.seed), new=str(new.seed))
    yield from _differing("numbers", "environment", _environment(old), _environment(new))
    gates = (
        {"policy digest": each.gate.policy_digest, "fail on": each.gate.fail_on}
        for each in (old, new)
    )
    yield from _differing("gate", "policy", *gates)
    yield from _differing("gate", "waivers", _waivers(old), _waivers(new))
    plans = ({"name": each.plan, "digest": each.plan_digest} for each in (old, new))
    yield from _differing("scope", "plan", *plans)
    for report, words in ((old, ("not complete", "")), (new, ("", "not complete"))):
        if not report.complete:
            yield Caveat(affects="scope", what="run", old=words[0] or "-", new=words[1] or "-")
    before, after = ({each.name for each in report.subjects} for report in (old, new))
    if before and after and not before & after:
        yield Caveat(
            affects="scope", what="names of subjects: no finding can match, see --subject",
            old=", ".join(sorted(before))[:_LONGEST_VALUE],
            new=", ".join(sorted(after))[:_LONGEST_VALUE],
        )  # fmt: skip


def _environment(report: AuditReport) -> dict[str, str]:
    given = report.environment
    return {"auditor": given.auditor, "platform": given.platform, **numerical_class(given)}


def _waivers(report: AuditReport) -> dict[str, str]:
    return {use.match: f"expires {use.expires}" for use in report.gate.waivers}


def _differing(
    affects: Affects, what: str, old: Mapping[str, str], new: Mapping[str, str]
) -> Iterator[Caveat]:
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, _ABSENT), new.get(name, _ABSENT)
        if before != after:
            yield Caveat(affects=affects, what=f"{what}: {name}", old=before, new=after)


def _of_results(was: CheckResult, now: CheckResult) -> Iterator[tuple[str, str, str]]:
    """What differs, old and new."""
    if was.version != now.version:
        yield f"{now.code} version", str(was.version), str(now.version)
    if was.seed != now.seed:
        yield "seed", str(was.seed), str(now.seed)
    data = was.data_digests, now.data_digests
    for name in sorted(data[0].keys() | data[1].keys()):
        if data[0].get(name) != data[1].get(name):
            before, after = (side.get(name, _ABSENT) for side in data)
            yield f"{now.code} data: {name}", before, after
    # A data file counts by its content, not by where it lies.
    files = data[0].keys() & data[1].keys()
    given = was.parameters, now.parameters
    for name in sorted((given[0].keys() | given[1].keys()) - files):
        before, after = (_text(side[name]) if name in side else _ABSENT for side in given)
        if before != after:
            yield f"{now.code} parameter: {name}", _cut(before), _cut(after)


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
