"""Policies and waivers: a closed set of operators, and waivers that end."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from auditor.audit.policy import MetricGate, Policy, Waiver, load_policy, load_waivers
from auditor.errors import FileMissing, InvalidText
from auditor.findings import Interval, Metric, Severity

TODAY = date(2026, 11, 23)
WAIVER = """
- match: AUD201
  model_digest: any
  reason: the region is outside the product's use
  approved_by: release owner
  expires: {expires}
"""


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


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("version: 2\n", "version: Input should be 1"),
        ("version: 1\nfail-on: high\n", "unknown key 'fail-on'; did you mean 'fail_on'?"),
        ("gates: [{check: AUD202, metric: m, op: '=~', value: 1}]\n", "op: Input should be"),
        ("gates: [{check: AUD202, metric: m, op: '>', value: 1, rule: most}]\n", "rule 'most'"),
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


def test_a_waiver_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "waivers.yaml"
    file.write_text(WAIVER.format(expires="2027-03-31"))
    (waiver,) = load_waivers(file, TODAY)
    assert (waiver.match, waiver.expires) == ("AUD201", date(2027, 3, 31))


def test_a_waiver_may_not_run_longer_than_a_year(tmp_path: Path) -> None:
    file = tmp_path / "waivers.yaml"
    file.write_text(WAIVER.format(expires="2028-01-01"))
    with pytest.raises(InvalidText, match=r"waivers.yaml:6:\d+: expires 2028-01-01 is more than"):
        load_waivers(file, TODAY)


@pytest.mark.parametrize("key", ["reason", "approved_by", "expires", "model_digest"])
def test_a_waiver_needs_its_fields(tmp_path: Path, key: str) -> None:
    file = tmp_path / "waivers.yaml"
    lines = WAIVER.format(expires="2027-03-31").splitlines()
    file.write_text("\n".join(line for line in lines if f"{key}:" not in line))
    with pytest.raises(InvalidText, match=f"{key}: Field required"):
        load_waivers(file, TODAY)


def waiver(match: str, digest: str = "any") -> Waiver:
    return Waiver(match=match, model_digest=digest, reason="r", approved_by="a", expires=TODAY)


def test_a_glob_waives_what_is_not_critical() -> None:
    names = ("AUD201", "AUD201:digits", "0" * 32)
    assert waiver("AUD2*").covers(names, "sha256:a", Severity.HIGH)
    assert not waiver("AUD2*").covers(names, "sha256:a", Severity.CRITICAL)
    assert waiver("AUD201").covers(names, "sha256:a", Severity.CRITICAL)


def test_a_waiver_for_one_model_does_not_cover_another() -> None:
    bound = waiver("AUD201", "sha256:a")
    assert bound.covers(("AUD201",), "sha256:a", Severity.HIGH)
    assert not bound.covers(("AUD201",), "sha256:b", Severity.HIGH)


def test_files_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    """The gate's policy and its waivers, too."""
    (tmp_path / "p.yaml").write_bytes(b"fail_on: \xff")
    for load in (load_policy, lambda path: load_waivers(path, date(2026, 1, 1))):
        with pytest.raises(InvalidText, match=r"p\.yaml: not UTF-8 text at byte 9"):
            load(tmp_path / "p.yaml")
