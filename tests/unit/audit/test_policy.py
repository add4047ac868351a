"""Policies: a closed set of operators over metrics and counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.audit.policy import CountGate, MetricGate, Policy, load_policy
from auditor.errors import FileMissing, InvalidText
from auditor.findings import Interval, Metric, Severity


def gate(op: str, value: float, **options: object) -> MetricGate:
    fields = {"check": "AUD202", "metric": "share", "op": op, "value": value, **options}
    return MetricGate.model_validate(fields)


@pytest.mark.parametrize(
    ("op", "met"),
    [("<=", [1, 2]), ("<", [1]), (">=", [2, 3]), (">", [3]), ("==", [2]), ("!=", [1, 3])],
)
def test_operators_compare_as_they_read(op: str, met: list[float]) -> None:
    assert [n for n in (1, 2, 3) if gate(op, 2).accepts(n)] == met


def test_nan_meets_no_threshold() -> None:
    assert not any(gate(op, 2).accepts(float("nan")) for op in ("<=", "<", ">=", ">", "==", "!="))


def test_bounds_of_the_interval_are_used_when_asked_for() -> None:
    interval = Interval(lower=0.8, upper=0.95, method="Wilson")
    metric = Metric(name="share", value=0.9, interval=interval)
    numbers = [gate(">=", 0, bound=b).number_in(metric) for b in ("value", "ci_lower", "ci_upper")]
    assert numbers == [0.9, 0.8, 0.95]
    assert gate(">=", 0, bound="ci_lower").number_in(Metric(name="share", value=0.9)) is None


@pytest.mark.parametrize(("rule", "met"), [("all", False), ("any", True), ("2 of 3", True)])
def test_rules_over_repeats(rule: str, met: bool) -> None:
    assert gate(">=", 0.5, repeats=3, rule=rule).accepts_repeats((0.6, 0.7, 0.4)) is met


def test_a_share_of_repeats_stays_a_share_where_more_were_measured() -> None:
    """Two of three are not two of six."""
    rule = gate(">=", 0.5, repeats=3, rule="2 of 3")
    assert not rule.accepts_repeats((0.6, 0.6, 0.6, 0.4, 0.4, 0.4))
    assert rule.accepts_repeats((0.6, 0.6, 0.6, 0.6, 0.4, 0.4))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("version: 2\n", "version: Input should be 1"),
        ("version: 1\nfail-on: high\n", "unknown key 'fail-on'; did you mean 'fail_on'?"),
        ("gates: [{check: AUD202, metric: m, op: '=~', value: 1}]\n", "op: Input should be"),
        ("gates: [{check: AUD202, metric: m, op: '>', value: 1, rule: most}]\n", "rule 'most'"),
        ("gates: [{check: AUD202, metric: m, op: '>', value: 1, rule: 0 of 3}]\n", "rule '0 of 3'"),
        (
            "gates: [{check: AUD202, metric: m, op: '>', value: 1, repeats: 3, rule: 4 of 3}]\n",
            "needs repeats: 3 and at most 3 of them",
        ),
        (
            "gates: [{check: AUD202, metric: m, op: '>', value: 1, rule: 2 of 3}]\n",
            "needs repeats: 3",
        ),
        ("overall: [{count: bugs, op: '<', value: 1}]\n", "count: Input should be"),
        ("overall: [{count: findings, op: '<', value: -1}]\n", "greater than or equal to 0"),
        (
            "overall: [{count: open, op: '<', value: 1, of_severity: high}]\n",
            "'open' are none",
        ),
        ("overall: [{cuont: open, op: '<', value: 1}]\n", "did you mean 'count'?"),
    ],
)
def test_a_wrong_policy_is_refused_with_its_place(tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(InvalidText, match=r"policy\.yaml:") as caught:
        load_policy(file)
    assert part in str(caught.value)


def test_a_missing_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="policy not found"):
        load_policy(tmp_path / "none.yaml")


def test_equal_policies_have_equal_digests() -> None:
    assert (
        Policy().digest
        == Policy(fail_on=Severity.HIGH).digest
        != Policy(require=("AUD101",)).digest
    )


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    """It names the byte."""
    (tmp_path / "p.yaml").write_bytes(b"fail_on: \xff")
    with pytest.raises(InvalidText, match=r"p\.yaml: not UTF-8 text at byte 9"):
        load_policy(tmp_path / "p.yaml")


def test_keys_that_came_later_leave_a_policy_without_them_as_it_was() -> None:
    """Its digest, and what a run's folder holds of it."""
    plain = Policy(gates=(gate(">=", 0.5),))
    assert set(plain.model_dump()) == {"version", "require", "inconclusive", "fail_on", "gates"}
    assert "min_samples" not in plain.model_dump()["gates"][0]
    counting = Policy(overall=(CountGate(count="open", op="==", value=0),))
    assert Policy.model_validate(counting.model_dump(mode="json")) == counting
    sized = Policy(gates=(gate(">=", 0.5, min_samples=3),))
    assert Policy.model_validate(sized.model_dump(mode="json")) == sized
    assert len({Policy().digest, counting.digest, plain.digest, sized.digest}) == 4


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"count": "open", "op": "==", "value": 0},
         "overall: number of results without an answer == 0"),
        ({"count": "findings", "op": "<=", "value": 3, "of_severity": "medium", "check": "AUD2*"},
         "overall: number of findings (medium or worse) of checks AUD2* <= 3"),
    ],
)  # fmt: skip
def test_a_count_is_one_line(fields: dict[str, object], text: str) -> None:
    """For people who read the report."""
    assert CountGate.model_validate(fields).text == text


@pytest.mark.parametrize(
    ("op", "worse"), [(">=", 0.1), (">", 0.1), ("<=", 0.9), ("<", 0.9), ("==", 0.9)]
)
def test_the_distance_grows_on_the_wrong_side(op: str, worse: float) -> None:
    """Whichever side that is."""
    at = gate(op, 0.5)
    assert at.distance(worse) > at.distance(0.5)
    assert gate("!=", 0.5).distance(worse) == 0
