"""What changed between two runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.audit.comparison import Change, Comparison, compare_reports, kind_of
from auditor.audit.gate import decide
from auditor.audit.policy import MetricGate, Policy
from auditor.errors import UnknownName
from auditor.findings import (
    AuditReport,
    CheckResult,
    Finding,
    Interval,
    Location,
    Metric,
    Severity,
    Verdict,
    fingerprint,
)
from tests.golden.sample_comparison import sample_successor, with_answer, with_result
from tests.golden.sample_report import sample_report
from tests.models.written_run import NOTHING, made_result, made_subject
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, enlarged, poisoned

BROKEN = "AUD201"


def changes(old: AuditReport, new: AuditReport) -> list[tuple[str, str]]:
    """Kind and result of every change."""
    return [(kind_of(each), named(each)) for each in compare_reports(old, new).changes]


def named(change: Change) -> str:
    """The result a change is about, or the subject."""
    return getattr(change, "result", "") or getattr(change, "name", "")


def finding(severity: Severity = Severity.LOW, mark: str = "f" * 32, title: str = "t") -> Finding:
    """A finding with a fingerprint of its own."""
    return Finding(
        title=title, severity=severity, description="d", fingerprint=mark,
        location=Location(layer="last"),
    )  # fmt: skip


def holding(*findings: Finding) -> AuditReport:
    """The sample report, the broken property's findings replaced and its gate rows left out."""
    report = sample_report()
    verdict = Verdict.VIOLATED if findings else Verdict.HOLDS
    rows = tuple(row for row in report.gate.rows if row.code != BROKEN)
    gate = report.gate.model_copy(update={"rows": rows})
    report = report.model_copy(update={"gate": gate})
    return with_answer(report, BROKEN, findings=findings, verdict=verdict)


def statuses(old: AuditReport, new: AuditReport) -> list[str]:
    """Of the findings of the broken property."""
    return [each.status for each in compare_reports(old, new).findings if each.code == BROKEN]


@pytest.mark.parametrize(
    "make",
    [sample_report, sample_successor, lambda: enlarged(60), *(
        lambda text=text: poisoned(text) for text in HOSTILE_TEXTS.values()
    )],
)  # fmt: skip
def test_a_report_does_not_differ_from_itself(make: Callable[[], AuditReport]) -> None:
    """Whatever stands in it, and read anew."""
    comparison = compare_reports(make(), make())
    assert comparison.changes == ()
    assert not comparison.is_worse
    assert comparison.counts["unchanged"] == len(comparison.findings)


def exchanged(comparison: Comparison) -> dict[str, int]:
    """The counts of the same comparison the other way round."""
    count = comparison.counts
    return {
        **count,
        "new": count["fixed"] + count["unanswered"],
        "fixed": count["new"],
        "unanswered": 0,
        "worse": count["milder"],
        "milder": count["worse"],
        "added": count["removed"],
        "removed": count["added"],
    }


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(Severity)), min_size=1, max_size=6),
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(Severity)), min_size=1, max_size=6),
)
def test_exchanging_the_runs_exchanges_new_and_fixed(
    first: list[tuple[str, Severity]], second: list[tuple[str, Severity]]
) -> None:
    """And worse with milder; also where several findings have one fingerprint."""
    old, new = (
        holding(*(finding(severity, mark * 32) for mark, severity in side))
        for side in (first, second)
    )
    there, back = compare_reports(old, new), compare_reports(new, old)
    assert back.counts == exchanged(there)
    assert {each.fingerprint for each in there.finding_group("new")} == {
        each.fingerprint for each in back.finding_group("fixed")
    }


def test_every_finding_of_either_run_is_counted_once() -> None:
    """None is lost and none is told twice."""
    old, new = sample_report(), sample_successor()
    comparison = compare_reports(old, new)
    only_old = comparison.counts["fixed"] + comparison.counts["unanswered"]
    thresholds = 1
    assert len(comparison.findings) - only_old == comparison.new.findings + thresholds
    assert len(comparison.findings) - comparison.counts["new"] == (
        comparison.old.findings + thresholds
    )


def test_removed_and_added_checks_are_named() -> None:
    """By their id."""
    report = sample_report()
    shorter = report.model_copy(update={"results": report.results[1:]})
    assert changes(report, shorter) == [("removed", report.results[0].id)]
    assert changes(shorter, report) == [("added", report.results[0].id)]


def test_a_new_and_a_fixed_finding_mirror_each_other() -> None:
    """And a run that has one more is worse."""
    one, two = holding(finding()), holding(finding(), finding(mark="e" * 32))
    assert statuses(one, two) == ["new", "unchanged"]
    assert statuses(two, one) == ["fixed", "unchanged"]
    assert "1 new and 0 fixed findings" in compare_reports(one, two).summary
    assert compare_reports(one, two).is_worse
    assert not compare_reports(two, one).is_worse


def test_a_finding_nobody_looked_for_again_is_not_fixed() -> None:
    """The check gave no answer, or is gone."""
    old = holding(finding())
    unanswered = with_answer(
        old, BROKEN, findings=(), verdict=Verdict.UNKNOWN, reason="out of time"
    )
    gone = old.model_copy(
        update={"results": tuple(each for each in old.results if each.code != BROKEN)}
    )
    assert statuses(old, unanswered) == ["unanswered"]
    assert statuses(old, gone) == ["unanswered"]
    assert "0 fixed findings, 1 no longer answered" in compare_reports(old, gone).summary


def test_a_finding_of_a_question_asked_otherwise_is_marked() -> None:
    """With other data it may be fixed for that reason alone; others are not marked."""
    old, new = holding(finding()), holding()
    number = next(n for n, each in enumerate(new.results) if each.code == BROKEN)
    other = new.results[number].model_copy(update={"data_digests": {"samples": "sha256:other"}})
    (same,) = compare_reports(old, new).finding_group("fixed")
    found = compare_reports(old, with_result(new, number, other)).findings
    assert same.comparable
    assert {each.code for each in found if not each.comparable} == {BROKEN}


def test_severity_that_rises_is_worse_and_that_falls_milder() -> None:
    """Both severities are told."""
    low, high = holding(finding(Severity.LOW)), holding(finding(Severity.HIGH))
    (change,) = compare_reports(low, high).finding_group("worse")
    assert (change.old_severity, change.new_severity) == (Severity.LOW, Severity.HIGH)
    assert statuses(high, low) == ["milder"]


def test_of_findings_with_one_fingerprint_equal_ones_are_paired_first() -> None:
    """A second, milder one of the same place is new, and the old one is unchanged."""
    old = holding(finding(Severity.HIGH))
    new = holding(finding(Severity.HIGH), finding(Severity.LOW))
    assert sorted(statuses(old, new)) == ["new", "unchanged"]


def test_a_finding_whose_waiver_ended_is_told() -> None:
    """Same severity, and it fails now: the run is worse."""
    comparison = compare_reports(sample_report(), sample_successor())
    (change,) = comparison.finding_group("standing")
    assert (change.old_standing, change.new_standing) == ("waived", "fail")


def test_a_missed_threshold_counts_as_a_finding() -> None:
    """It is gone when the number meets the threshold."""
    report = sample_report()
    (missed,) = [row for row in report.gate.rows if row.text.startswith("certified share")]
    met = missed.model_copy(update={"status": "pass", "severity": None, "fingerprint": ""})
    rows = tuple(met if row is missed else row for row in report.gate.rows)
    later = report.model_copy(update={"gate": report.gate.model_copy(update={"rows": rows})})
    (fixed,) = compare_reports(report, later).finding_group("fixed")
    assert (fixed.fingerprint, fixed.where) == (missed.fingerprint, "threshold of the policy")


def test_a_finding_without_a_fingerprint_is_matched_by_its_place() -> None:
    """As the runner would have stamped it."""
    assert statuses(holding(finding(mark="")), holding(finding(mark=""))) == ["unchanged"]


def test_a_check_that_a_second_subject_renamed_is_the_same_question() -> None:
    """A plan with one subject calls it by its code alone."""
    report = sample_report()
    first = report.results[0]
    single = with_result(report, 0, first.model_copy(update={"id": first.code}))
    assert changes(single, report) == []


def test_another_model_is_a_change_of_subject() -> None:
    """Told by its digest."""
    report = sample_report()
    first = report.subjects[0].model_copy(update={"digest": "sha256:other"})
    other = report.model_copy(update={"subjects": (first, *report.subjects[1:])})
    assert changes(report, other) == [("subject", first.name)]


@pytest.mark.parametrize(
    ("old", "new", "direction"),
    [
        ("holds", "violated", "worse"),
        ("holds", "unknown", "worse"),
        ("unknown", "violated", "worse"),
        ("violated", "holds", "better"),
        ("error", "holds", "better"),
        ("violated", "unknown", "neither"),
        ("skipped", "error", "neither"),
    ],
)
def test_a_question_left_open_is_never_better(old: str, new: str, direction: str) -> None:
    """Only what holds now is better."""
    before, after = (
        with_answer(sample_report(), "AUD103", verdict=Verdict(each), reason="r")
        for each in (old, new)
    )
    (change,) = compare_reports(before, after).verdicts
    assert (change.old, change.new, change.direction) == (old, new, direction)


def metric(value: float, interval: tuple[float, float] | None, **more: Any) -> Metric:
    """A metric of which more is better."""
    ends = Interval(lower=interval[0], upper=interval[1], method="Wilson") if interval else None
    return Metric(name="m", value=value, interval=ends, **{"better": "higher", **more})


def judged(old: Metric, new: Metric, **other: Any) -> tuple[str, str]:
    """Judgement and direction of a metric that changed, the result changed otherwise too."""
    before = with_answer(sample_report(), "AUD103", metrics=(old,), controls=())
    after = with_answer(sample_report(), "AUD103", metrics=(new,), controls=())
    number = next(n for n, each in enumerate(after.results) if each.code == "AUD103")
    after = with_result(after, number, after.results[number].model_copy(update=other))
    (change,) = compare_reports(before, after).metrics
    return change.judgement, change.direction


def test_a_change_inside_the_intervals_is_no_better_and_no_worse() -> None:
    """They overlap, touch, or one lies in the other."""
    for ends in ((0.4, 0.9), (0.6, 0.9), (0.3, 0.99)):
        assert judged(metric(0.5, (0.4, 0.6)), metric(0.8, ends)) == ("overlap", "neither")


def test_intervals_apart_say_better_or_worse_as_the_metric_says() -> None:
    """And neither where it does not say which way is better."""
    low, high = metric(0.5, (0.4, 0.6)), metric(0.8, (0.7, 0.9))
    assert judged(low, high) == ("apart", "better")
    assert judged(high, low) == ("apart", "worse")
    fewer = {"better": "lower"}
    assert judged(metric(0.5, (0.4, 0.6), **fewer), metric(0.8, (0.7, 0.9), **fewer)) == (
        "apart", "worse"
    )  # fmt: skip
    unsaid = {"better": None}
    assert judged(metric(0.5, (0.4, 0.6), **unsaid), metric(0.8, (0.7, 0.9), **unsaid)) == (
        "apart", "neither"
    )  # fmt: skip


def test_without_both_intervals_nothing_is_said() -> None:
    """However large the difference is."""
    assert judged(metric(0.0, None), metric(1.0, None)) == ("no interval", "neither")
    assert judged(metric(0.0, (0.0, 0.1)), metric(1.0, None)) == ("no interval", "neither")


def test_an_interval_without_ends_tells_nothing_apart() -> None:
    """NaN is no place."""
    assert judged(metric(0.0, (math.nan, math.nan)), metric(1.0, (0.9, 1.0))) == (
        "overlap", "neither"
    )  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [{"version": 9}, {"seed": 9}, {"parameters": {"norm": "2"}}, {"data_digests": {"s": "d"}}],
    ids=lambda other: next(iter(other)),
)
def test_numbers_of_another_question_are_not_judged(other: dict[str, Any]) -> None:
    """Check version, seed, parameters or data differ; the intervals are apart."""
    low, high = metric(0.5, (0.4, 0.6)), metric(0.8, (0.7, 0.9))
    assert judged(low, high, **other) == ("not comparable", "neither")


def test_another_unit_is_not_judged() -> None:
    """A share is no percentage."""
    assert judged(metric(0.5, (0.4, 0.6)), metric(80.0, (70.0, 90.0), unit="%")) == (
        "not comparable", "neither"
    )  # fmt: skip


def test_a_metric_that_is_not_a_number_does_not_differ_from_itself() -> None:
    """NaN is not equal to itself, and yet nothing changed."""
    before, after = (
        with_answer(sample_report(), "AUD103", metrics=(metric(math.nan, None),)) for _ in range(2)
    )
    assert compare_reports(before, after).metrics == ()


def caveats(old: AuditReport, new: AuditReport) -> list[tuple[str, str, str, str]]:
    """What each makes incomparable, what differs, old and new."""
    found = compare_reports(old, new).caveats
    return [(each.affects, each.what, each.old, each.new) for each in found]


def test_what_is_not_the_models_doing_is_named_first() -> None:
    """Numbers before decisions before scope, and before every other change."""
    comparison = compare_reports(sample_report(), sample_successor())
    assert [each.affects for each in comparison.caveats] == ["numbers", "numbers", "gate", "scope"]
    assert comparison.changes[: len(comparison.caveats)] == comparison.caveats


def test_a_caveat_names_every_result_it_concerns_once() -> None:
    """A parameter that changed for two checks alike is one line."""
    report = sample_report()
    results = tuple(each.model_copy(update={"version": 9}) for each in report.results[:2])
    other = report.model_copy(update={"results": (*results, *report.results[2:])})
    (caveat,) = compare_reports(report, other).caveats
    assert caveat.what == "AUD101 version"
    assert caveat.results == tuple(sorted(each.id for each in results))


def test_a_seed_of_the_whole_run_is_named_once() -> None:
    """And not again for each check."""
    report = sample_report()
    results = tuple(each.model_copy(update={"seed": 8}) for each in report.results)
    other = report.model_copy(update={"seed": 8, "results": results})
    assert caveats(report, other) == [("numbers", "seed", "7", "8")]


def test_a_data_file_counts_by_its_content_and_not_by_its_place() -> None:
    """Its digest is the same, its path is not."""
    report = sample_report()
    number, result = next(
        (n, each) for n, each in enumerate(report.results) if "samples" in each.data_digests
    )

    def lying(at: str, digest: str) -> AuditReport:
        changed = result.model_copy(
            update={"parameters": {"samples": at}, "data_digests": {"samples": digest}}
        )
        return with_result(report, number, changed)

    assert caveats(lying("a.csv", "sha256:1"), lying("b.csv", "sha256:1")) == []
    assert caveats(lying("a.csv", "sha256:1"), lying("a.csv", "sha256:2")) == [
        ("numbers", f"{result.code} data: samples", "sha256:1", "sha256:2")
    ]


def test_a_run_that_is_not_complete_and_another_policy_are_named() -> None:
    """What is not there cannot be compared, and another policy decides otherwise."""
    report = sample_report()
    gate = report.gate.model_copy(update={"policy_digest": "sha256:other"})
    other = report.model_copy(update={"complete": False, "gate": gate})
    assert caveats(report, other) == [
        ("gate", "policy: policy digest", report.gate.policy_digest, "sha256:other"),
        ("scope", "run", "-", "not complete"),
    ]


def test_a_patch_release_of_a_library_is_no_caveat() -> None:
    """Only minor versions count, as in the key of a result."""
    report = sample_report()

    def on_torch(version: str) -> AuditReport:
        libraries = {**report.environment.libraries, "torch": version}
        given = report.environment.model_copy(update={"libraries": libraries})
        return report.model_copy(update={"environment": given})

    assert caveats(on_torch("2.13.0"), on_torch("2.13.1")) == []
    assert caveats(on_torch("2.13.0"), on_torch("2.14.0")) == [
        ("numbers", "environment: torch", "2.13", "2.14")
    ]


def test_a_gate_that_no_longer_passes_is_worse() -> None:
    """Whatever the reason, a policy included."""
    report = sample_report()
    passing = report.model_copy(
        update={"gate": report.gate.model_copy(update={"verdict": "pass", "exit_code": 0})}
    )
    assert compare_reports(passing, report).is_worse
    assert not compare_reports(report, passing).is_worse


def in_one_run(*results: CheckResult) -> AuditReport:
    """A run of these results under a policy with a threshold, as the runner stamps it."""
    stamped = []
    for result in results:
        findings = tuple(
            each.model_copy(
                update={
                    "fingerprint": fingerprint(
                        result.code, f"{result.subject}\x1f{result.id}", each.location
                    )
                }
            )
            for each in result.answer.findings
        )
        answer = result.answer.model_copy(update={"findings": findings})
        stamped.append(result.model_copy(update={"answer": answer}))
    gate = MetricGate(check="AUD202", metric="m", op=">=", value=0.9, severity=Severity.HIGH)
    names = dict.fromkeys(result.subject for result in results)
    subjects = [
        made_subject().model_copy(update={"name": name, "digest": f"sha256:{name}"})
        for name in names
    ]
    decision = decide(stamped, subjects, Policy(gates=(gate,)), NOTHING)
    return sample_report().model_copy(
        update={"results": tuple(stamped), "subjects": tuple(subjects), "gate": decision}
    )


def weak(subject: str, name: str) -> CheckResult:
    """A violated check that also misses the threshold."""
    result = made_result("AUD202", Verdict.VIOLATED, metrics=(metric(0.5, None),))
    return result.model_copy(update={"subject": subject, "id": name})


def finding_statuses(old: AuditReport, new: AuditReport, **names: str) -> list[str]:
    """Of the finding and of the missed threshold."""
    return [each.status for each in compare_reports(old, new, subjects=names).findings]


def test_of_runs_with_one_model_each_the_name_may_differ() -> None:
    """`v1.onnx` and `v2.onnx` are subjects of other names: findings and thresholds match."""
    old, new = in_one_run(weak("v1", "AUD202")), in_one_run(weak("v2", "AUD202"))
    assert finding_statuses(old, new) == ["unchanged", "unchanged"]
    (subject,) = compare_reports(old, new).subjects
    assert (subject.old_name, subject.name) == ("v1", "v2")
    assert (subject.old_digest, subject.new_digest) == ("sha256:v1", "sha256:v2")


def test_of_several_models_the_pairs_are_told() -> None:
    """Without that nothing matches, and the comparison says why."""
    old = in_one_run(weak("a1", "AUD202:a1"), weak("b", "AUD202:b"))
    new = in_one_run(weak("a2", "AUD202:a2"), weak("b", "AUD202:b"))
    assert finding_statuses(old, new).count("unchanged") == 2
    assert finding_statuses(old, new, a1="a2") == ["unchanged"] * 4
    others = in_one_run(weak("c", "AUD202:c"), weak("d", "AUD202:d"))
    assert [each.what for each in compare_reports(old, others).caveats] == [
        "names of subjects: no finding can match, see --subject"
    ]


def test_a_check_that_got_another_id_keeps_its_findings() -> None:
    """Its fingerprints hold the id: they are told in the new one."""
    old, new = in_one_run(weak("m", "AUD202")), in_one_run(weak("m", "AUD202:m"))
    assert finding_statuses(old, new) == ["unchanged", "unchanged"]


@pytest.mark.parametrize("names", [{"x": "v2"}, {"v1": "x"}])
def test_a_subject_that_is_not_there_is_named(names: dict[str, str]) -> None:
    """On either side."""
    old, new = in_one_run(weak("v1", "AUD202")), in_one_run(weak("v2", "AUD202"))
    with pytest.raises(UnknownName, match="'x'"):
        compare_reports(old, new, subjects=names)
