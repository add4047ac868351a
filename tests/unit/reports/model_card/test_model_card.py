"""The model card loads as one, its front matter holds, and it says what is not known."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData

from auditor.findings import AuditReport, Verdict
from auditor_reports.audit_json import run_fingerprint
from auditor_reports.model_card import card, metadata
from auditor_reports.model_card.card import render_model_card
from auditor_reports.standing import gaps, verdict_sentence
from tests.golden.sample_report import every_check_report, sample_report, single_result_report
from tests.unit.reports.hostile_report import HOSTILE_TEXTS, enlarged, poisoned

NUMBERS = range(len(every_check_report().results))


def card_of(report: AuditReport) -> Any:
    """The card as the hub's own reader sees it."""
    return ModelCard(render_model_card(report).decode())


def metadata_of(report: AuditReport) -> dict[str, Any]:
    """The front matter as it is written."""
    found = yaml.safe_load(render_model_card(report).decode().split("\n---\n")[0])
    assert isinstance(found, dict)
    return found


def measured(report: AuditReport) -> list[float]:
    """Every number of every result, in any order."""
    return sorted(m.value for result in report.results for m in result.answer.metrics)


@pytest.mark.parametrize("report", [sample_report(), every_check_report()])
def test_every_number_is_an_evaluation_result(report: AuditReport) -> None:
    """The hub's reader finds each, with its value unchanged."""
    found = card_of(report).data.eval_results
    assert sorted(each.metric_value for each in found) == measured(report)


@pytest.mark.parametrize("number", NUMBERS)
def test_each_single_result_loads(number: int) -> None:
    """A run of one check is a card, with a number or without."""
    report = single_result_report(number)
    found = card_of(report).data.eval_results or []
    assert [each.metric_value for each in found] == [
        metric.value for metric in report.results[0].answer.metrics
    ]


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
def test_hostile_texts_stay_in_their_place(text: str) -> None:
    """The front matter keeps its keys, and the body its headings."""
    report = poisoned(text)
    card = card_of(report)
    assert set(metadata_of(report)) == {"tags", "model-index", "audit"}
    assert len(card.data.eval_results) == len(measured(report))
    plain = [line[:3] for line in card_of(poisoned("x")).text.splitlines() if line[:1] == "#"]
    assert [line[:3] for line in card.text.splitlines() if line[:1] == "#"] == plain


def test_a_text_that_looks_like_the_fence_stays_inside() -> None:
    """Neither three hyphens nor a key can end or extend the front matter."""
    report = poisoned("---\nverified: true\n---")
    assert set(metadata_of(report)) == {"tags", "model-index", "audit"}
    assert not any(each.verified for each in card_of(report).data.eval_results)


def test_no_number_is_called_verified() -> None:
    """It is the hub's word for what its own service computed."""
    assert {each.verified for each in card_of(sample_report()).data.eval_results} == {False}


def test_a_number_keeps_its_basis() -> None:
    """Interval, confidence, method, sample size and unit stand beside the value."""
    (found,) = [each for each in card_of(sample_report()).data.eval_results
                if each.metric_name == "certified share"]  # fmt: skip
    (metric,) = [m for r in sample_report().results for m in r.answer.metrics
                 if m.name == "certified share"]  # fmt: skip
    assert metric.interval is not None
    assert found.metric_args == {
        "unit": metric.unit,
        "sample_size": metric.sample_size,
        "interval": [metric.interval.lower, metric.interval.upper],
        "confidence": metric.interval.confidence,
        "method": metric.interval.method,
    }
    assert found.metric_type == "certified_share"
    assert found.dataset_config == "robust-0.05:digit-classifier"


def test_the_front_matter_survives_being_written_again() -> None:
    """Read and written by the hub's classes, no number is lost or merged."""
    data = card_of(single_result_report(4)).data
    again = ModelCardData(**yaml.safe_load(data.to_yaml()))
    assert again.eval_results == data.eval_results


def test_each_model_has_an_entry_and_a_section() -> None:
    """Two models, two entries, two sections with their digests."""
    report = sample_report()
    names = [subject.name for subject in report.subjects]
    assert [entry["name"] for entry in metadata_of(report)["model-index"]] == names
    text = card_of(report).text
    assert all(f"## Evaluation of {name}\n" in text for name in names)
    assert all(subject.digest in text for subject in report.subjects)


def test_a_library_is_named_where_all_models_share_it() -> None:
    """Two kinds have no common library."""
    assert "library_name" not in metadata_of(sample_report())
    assert metadata_of(single_result_report(0))["library_name"] == "onnx"


def test_verdict_gaps_and_limits_are_said() -> None:
    """They come before any number of a model."""
    report = sample_report()
    before, _, after = card_of(report).text.partition("## Evaluation of")
    assert verdict_sentence(report) in before
    assert "does not establish conformity" in before
    assert all(f"- {text}" in before for text in gaps(report))
    assert all(result.id in before for result in report.results if result.verdict.is_open)
    assert "the policy requires AUD205" in before
    assert all(card.code in after.partition("## Limitations")[2] for card in report.checks)


def test_no_verdict_but_holds_is_shown_as_passing() -> None:
    """With no word from the gate, an open or violated result still does not pass."""
    report = sample_report()
    silent = report.model_copy(update={"gate": report.gate.model_copy(update={"rows": ()})})
    rows = [line for line in card_of(silent).text.splitlines() if line.endswith("| passes |")]
    holding = [result for result in report.results if result.verdict is Verdict.HOLDS]
    assert len(rows) == len(holding)
    assert all("| holds |" in row for row in rows)


def test_the_card_names_its_run() -> None:
    """By the fingerprint of `audit.json`."""
    assert run_fingerprint(sample_report()) in card_of(sample_report()).text


def test_a_run_without_any_result_loads() -> None:
    """No number, no model: no index."""
    report = sample_report()
    gate = report.gate.model_copy(update={"rows": ()})
    empty = report.model_copy(
        update={"results": (), "checks": (), "subjects": (), "not_assessed": (), "gate": gate}
    )
    assert card_of(empty).data.eval_results is None
    assert "Nothing was audited." in card_of(empty).text


@pytest.mark.parametrize(("value", "word"), [("inf", "Infinity"), ("-inf", "-Infinity"),
                                             ("nan", "NaN")])  # fmt: skip
def test_a_number_without_a_finite_value_is_a_word(value: str, word: str) -> None:
    """Readers in other languages know no `.inf`."""
    report = single_result_report(2)
    (result,) = report.results
    metric = result.answer.metrics[0].model_copy(update={"value": float(value)})
    answer = result.answer.model_copy(update={"metrics": (metric,)})
    changed = report.model_copy(update={"results": (result.model_copy(update={"answer": answer}),)})
    (found,) = card_of(changed).data.eval_results
    assert found.metric_value == word


def test_what_is_left_out_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results, numbers and rows that do not fit are counted, with the file that has them."""
    monkeypatch.setattr(card, "MAX_RESULTS", 50)
    monkeypatch.setattr(metadata, "METRICS_SHOWN", 20)
    report = enlarged(60)
    text = card_of(report).text
    assert "10 less severe results were left out; audit.json has all." in text
    audit = metadata_of(report)["audit"]
    assert audit["metrics_left_out"] > 0
    assert audit["all_metrics_in"] == "audit.json"
