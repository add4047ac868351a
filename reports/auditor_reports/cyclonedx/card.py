"""The model card of a CycloneDX component: numbers with intervals, and limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditor.findings import AuditReport, CheckResult, Metric, SubjectRecord
from auditor_reports.cyclonedx.models import (
    ConfidenceInterval,
    Considerations,
    ModelCard,
    ModelParameters,
    PerformanceMetric,
    QuantitativeAnalysis,
)
from auditor_reports.number_text import interval_text
from auditor_reports.sanitise import one_line
from auditor_reports.standing import check_cards, gaps

METRICS_SHOWN = 200
LIMITS_SHOWN = 200
ARCHITECTURE_FACTS = ("architecture", "model_type", "class")


def make_model_card(
    report: AuditReport, subject: SubjectRecord, results: Sequence[CheckResult]
) -> tuple[ModelCard, int]:
    """The card of a subject, and how many numbers it leaves out.

    Args:
        report: The whole report, for what was not assessed.
        subject: The model.
        results: Its results, worst first.
    """
    metrics = [metric for result in results for metric in _metrics(result)]
    limits = [*gaps(report)[:LIMITS_SHOWN], *_limits(report, results)][: 2 * LIMITS_SHOWN]
    architecture = next(
        (subject.facts[name] for name in ARCHITECTURE_FACTS if name in subject.facts), ""
    )
    card = ModelCard(
        model_parameters=(
            ModelParameters(model_architecture=one_line(architecture, 300))
            if architecture
            else None
        ),
        quantitative_analysis=(
            QuantitativeAnalysis(performance_metrics=tuple(metrics[:METRICS_SHOWN]))
            if metrics
            else None
        ),
        considerations=(
            Considerations(technical_limitations=tuple(one_line(text, 400) for text in limits))
            if limits
            else None
        ),
    )
    return card, max(len(metrics) - METRICS_SHOWN, 0)


def _metrics(result: CheckResult) -> Iterator[PerformanceMetric]:
    origin = f"{result.code}, {result.id}"
    for metric in result.answer.metrics:
        yield _metric(metric, origin)
    for control in result.answer.controls:
        for metric in control.metrics:
            yield _metric(metric, f"{origin}, control: {control.name}")


def _metric(metric: Metric, origin: str) -> PerformanceMetric:
    """The number as text that a program reads back: `repr` of a float, never rounded."""
    parts = [origin]
    if metric.unit:
        parts.append(f"unit: {metric.unit}")
    if metric.sample_size is not None:
        parts.append(f"n = {metric.sample_size}")
    if metric.interval:
        parts.append(f"interval: {interval_text(metric.interval)}")
    if metric.note:
        parts.append(metric.note)
    bounds = metric.interval
    return PerformanceMetric(
        type=one_line(metric.name, 200),
        value=repr(float(metric.value)),
        slice=one_line("; ".join(parts), 500),
        confidence_interval=(
            ConfidenceInterval(
                lower_bound=repr(float(bounds.lower)), upper_bound=repr(float(bounds.upper))
            )
            if bounds
            else None
        ),
    )


def _limits(report: AuditReport, results: Sequence[CheckResult]) -> Iterator[str]:
    """Questions without an answer, then what each pass does not mean."""
    for result in results[:LIMITS_SHOWN]:
        if result.verdict.is_open:
            yield f"{result.id}: no answer ({result.verdict}), {result.answer.reason}"
    ran = {result.code for result in results}
    for card in check_cards(report):
        if card.code in ran and card.pass_does_not_mean:
            yield f"{card.code} {card.title}: {card.pass_does_not_mean}"
