"""Patterns and their evaluations as tables and as JSON lines."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape

from auditor.patterns.pattern_set import PatternSet, conflicting_pairs
from auditor_cli.output import Output
from auditor_reports.sanitise import one_line

if TYPE_CHECKING:
    from auditor.intervals import Share
    from auditor.models.onnx_model import OnnxModel
    from auditor.patterns.evaluate import DeltaEvaluation
    from auditor.patterns.monitor import Monitor
    from auditor_cli.pattern_minimise import Minimised


def show_patterns(patterns: PatternSet, output: Output) -> None:
    """What was mined: from which samples, and the share of each layer that is fixed."""
    without = [str(label) for label, total in enumerate(patterns.totals) if not total]
    dead, always = patterns.constant_neurons
    output.data(
        f"{patterns.num_classes} classes, {patterns.num_neurons} neurons "
        f"({patterns.granularity}) of model {patterns.model_digest[:19]}..., mined from "
        f"{patterns.totals.sum()} samples ({patterns.members})"
    )
    if dead or always:
        output.data(f"the same in every sample: {dead} neurons never active, {always} always")
    if without:
        output.warn(f"no sample counted for class {', '.join(without)}: no pattern there")
    present = patterns.totals > 0
    shares = patterns.fixed_shares[:, :, present].mean(axis=2)
    rows = [
        (escape(one_line(layer.name)), layer.operator, str(layer.neurons),
         *(f"{share:.3f}" for share in by_delta))
        for layer, by_delta in zip(patterns.layers, shares, strict=True)
    ]  # fmt: skip
    headings = [f"fixed at {decimal(delta)}" for delta in patterns.deltas]
    conflicts = conflicting_pairs(patterns.states)
    conflicts |= ~(present[:, None] & present)  # a class without pattern has no pairs
    output.table(("layer", "operator", "neurons", *headings), rows)
    output.record({
        "kind": "patterns",
        "model": patterns.model_digest,
        "members": patterns.members,
        "granularity": patterns.granularity,
        "deltas": [decimal(delta) for delta in patterns.deltas],
        "samples": patterns.totals.tolist(),
        "fixed": patterns.fixed.tolist(),
        "pairs_without_contradiction": [_agreeing_pairs(each) for each in conflicts],
        "never_active": dead,
        "always_active": always,
        "layers": [
            {"name": layer.name, "operator": layer.operator, "neurons": layer.neurons,
             "fixed_shares": by_delta.tolist()}
            for layer, by_delta in zip(patterns.layers, shares, strict=True)
        ],
    })  # fmt: skip


def show_evaluations(
    evaluations: Sequence[DeltaEvaluation], patterns: PatternSet, output: Output
) -> None:
    """Recall, precision and overlap on samples that were not mined from."""
    if not evaluations:
        return
    total = int(evaluations[0].samples.sum())
    output.data(f"on {total} samples that were not mined from, with 95 % Wilson intervals:")
    rows = [
        (decimal(e.delta), share_text(e.total_recall), share_text(e.total_precision),
         f"{e.in_wrong}: {share_text(e.wrong)}", f"{e.ambiguous}", f"{e.conflicts} of {e.pairs}")
        for e in evaluations
    ]  # fmt: skip
    output.table(
        ("delta", "joint recall", "precision", "in a wrong pattern", "in several",
         "contradictory pairs"), rows,
    )  # fmt: skip
    classes = [label for label in range(patterns.num_classes) if patterns.totals[label]]
    headings = [f"recall at {decimal(e.delta)}" for e in evaluations]
    output.table(
        ("class", *headings),
        [(str(c), *(share_text(e.recall(c)) for e in evaluations)) for c in classes],
    )
    for number, evaluation in enumerate(evaluations):
        output.record(_record(evaluation, patterns, number))


def share_text(share: Share) -> str:
    """`0.829 [0.812, 0.845]`, or `-` where there is nothing to take a share of."""
    interval = share.interval
    if interval is None:
        return "-"
    return f"{share.value:.3f} [{interval.lower:.3f}, {interval.upper:.3f}]"


def decimal(delta: Fraction) -> str:
    """A delta as people write it."""
    return f"{float(delta):g}"


def _agreeing_pairs(conflicts: NDArray[np.bool_]) -> list[list[int]]:
    """Pairs of classes whose patterns no neuron tells apart."""
    pairs: list[list[int]] = np.argwhere(np.triu(~conflicts, 1)).tolist()
    return pairs


def _record(e: DeltaEvaluation, patterns: PatternSet, number: int) -> dict[str, Any]:
    fixed = patterns.fixed[number]
    return {
        "kind": "evaluation",
        "delta": decimal(e.delta),
        "recall": _share_record(e.total_recall),
        "precision": _share_record(e.total_precision),
        "in_wrong_pattern": _share_record(e.wrong),
        "in_several_patterns": e.ambiguous,
        "contradictory_pairs": e.conflicts,
        "pairs": e.pairs,
        "overlaps": [
            {
                "label": int(label),
                "pattern": int(pattern),
                "samples": int(e.followers[label, pattern]),
            }
            for label, pattern in zip(*e.followers.nonzero(), strict=True)
            if label != pattern
        ],
        "classes": [
            {
                "class": label,
                "mined_samples": int(patterns.totals[label]),
                "fixed": int(fixed[label]),
                "recall": _share_record(e.recall(label)),
                "precision": _share_record(e.precision(label)),
            }
            for label in range(patterns.num_classes)
        ],
    }


def _share_record(share: Share) -> dict[str, Any]:
    interval = share.interval
    return {
        "hits": share.hits,
        "total": share.total,
        "value": share.value,
        "lower": interval.lower if interval else None,
        "upper": interval.upper if interval else None,
    }


def show_monitor(monitor: Monitor, written: OnnxModel, output: Output) -> None:
    """What was written: the file, and the thresholds by which it judges."""
    patterns = monitor.patterns
    source = "0 for every class"
    if monitor.quantile is not None:
        source = f"quantile {decimal(monitor.quantile)} of held-out samples"
    heldout = [""] * patterns.num_classes
    if monitor.heldout is not None:
        heldout = [str(count) for count in monitor.heldout]
    output.table(
        ("class", "threshold", "held-out samples"),
        [
            (str(label), "no pattern" if threshold < 0 else str(threshold), heldout[label])
            for label, threshold in enumerate(monitor.thresholds)
        ],
    )
    output.data(
        f"monitored model: {written.path} (delta {decimal(monitor.delta)}, thresholds {source}; "
        "outputs monitor_label: 0 explained, 1 contradicted, 2 unexplained; monitor_distance)"
    )
    output.record({
        "kind": "monitor",
        "path": str(written.path),
        "digest": written.digest,
        "model": patterns.model_digest,
        "delta": decimal(monitor.delta),
        "quantile": None if monitor.quantile is None else decimal(monitor.quantile),
        "thresholds": monitor.thresholds.tolist(),
        "heldout": None if monitor.heldout is None else monitor.heldout.tolist(),
    })  # fmt: skip


def show_minimised(found: Sequence[Minimised], output: Output) -> None:
    """Sizes and recall of patterns before and after they were made smaller."""
    # Loads the verifier, which no other table needs.
    from auditor_cli.pattern_minimise import CONTROL_DRAWS

    rows = []
    for each in found:
        size, control = "", ""
        if each.after is not None:
            size, control = str(len(each.after)), f"{each.control} of {CONTROL_DRAWS}"
        rows.append(
            (str(each.label), str(each.verdict), str(len(each.before)), size, str(each.calls),
             str(each.unsettled), control,
             *("-" if recall is None else f"{recall:.3f}" for recall in each.recall))
        )  # fmt: skip
        output.record({
            "class": each.label, "verdict": str(each.verdict), "states_before": len(each.before),
            "states_after": None if each.after is None else len(each.after),
            "judged": each.calls,
            "unsettled": each.unsettled, "random_subsets_that_hold": each.control,
            "random_subsets": CONTROL_DRAWS, "recall_before": each.recall[0],
            "recall_after": each.recall[1],
        })  # fmt: skip
    output.table(
        ("class", "mined pattern", "states", "minimal", "judged", "unsettled",
         "random subsets that hold", "recall before", "after"), rows,
    )  # fmt: skip
