"""`auditor trace calibrate` and `auditor trace shield`: thresholds, and texts held against them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click
from rich.markup import escape

from auditor.errors import ConfigurationError, FileMissing
from auditor.json_lines import read_json_lines
from auditor_cli.options import FILE, FOLDER, MODEL, json_option, option, quiet_option
from auditor_cli.output import Output
from auditor_cli.trace_options import Tracing, calibration_of, tracer_of, tracing_options
from auditor_reports.sanitise import one_line

if TYPE_CHECKING:
    from auditor.trace.calibration import Calibration
    from auditor.trace.labelled_texts import Perplexity
    from auditor.trace.shield import Decision

INDEX = click.argument("folder", metavar="INDEX", type=FOLDER)
SCORES = (
    "pcs", "pc_gen", "pc_doc", "bci", "density", "kl", "max_token_risk", "log10_e", "length",
    "any_match", "unsafe_source",
)  # fmt: skip


@click.command(name="calibrate")
@INDEX
@click.argument("texts", type=FILE)
@option("--score", type=click.Choice(SCORES), default="pcs", show_default=True,
        help="Score that is held against the threshold; pc_doc for decoding.")  # fmt: skip
@option("--false-alarms", type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Bound on the flagged share of benign texts (default 0.05).")  # fmt: skip
@option("--recall", type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Instead: bound on the flagged share of unsafe texts from below.")  # fmt: skip
@option("--model", type=MODEL, help="Language model whose perplexity is one more baseline.")
@option("--out", type=FILE, required=True, help="File of the calibration, a new one.")
@option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of resampling.")
@tracing_options
@json_option
@quiet_option
def calibrate(
    folder: Path,
    texts: Path,
    score: str,
    false_alarms: float | None,
    recall: float | None,
    model: Path | None,
    out: Path,
    seed: int,
    tracing: Tracing,
    as_json: bool,
    quiet: bool,
) -> int:
    """Choose a threshold of a score on labelled TEXTS (JSON lines: text, label, group).

    Labels are unsafe and benign. Beside the score stand its baselines, span length above all: a
    score that does not beat it adds nothing.
    """
    from auditor.files import refuse_existing
    from auditor.trace.calibration import write_calibration
    from auditor.trace.labelled_texts import calibrate_texts, read_labelled_texts

    if false_alarms is not None and recall is not None:
        raise ConfigurationError("--false-alarms and --recall bound one threshold; give one")
    if score in ("pcs", "pc_gen", "pc_doc") and tracing.policy is None:
        raise ConfigurationError(f"the score '{score}' needs a policy; give --policy")
    refuse_existing(out, "a calibration")
    output = Output(as_json, quiet)
    labelled = read_labelled_texts(texts)
    tracer = tracer_of(folder, tracing)
    output.log(f"tracing {len(labelled)} texts")
    found = calibrate_texts(
        tracer, labelled, score, "recall" if recall is not None else "false_alarms",
        recall if recall is not None else (false_alarms or 0.05), seed=seed,
        perplexity=None if model is None else _perplexity(model),
    )  # fmt: skip
    write_calibration(out, found)
    _show(found, out, output)
    return 0


def _perplexity(folder: Path) -> Perplexity:
    from auditor.language.causal_lm import CausalLM
    from auditor.models.first_load import try_folders

    try_folders(folder)
    return CausalLM.open(folder).mean_nats


def _show(found: Calibration, out: Path, output: Output) -> None:
    point = found.point
    output.data(
        f"{found.score} above {found.threshold:.4g}: {point.flagged_unsafe} of {point.unsafe} "
        f"unsafe texts flagged ({point.recall.lower:.1%} to {point.recall.upper:.1%}), "
        f"{point.flagged_benign} of {point.benign} benign ({point.false_alarms.lower:.1%} to "
        f"{point.false_alarms.upper:.1%})"
    )
    output.table(
        ("score", "area under ROC", "95 %", "less that of length"),
        [
            (each.score, f"{each.area:.3f}",
             f"{each.interval.lower:.3f} to {each.interval.upper:.3f}",
             f"{each.minus_length.lower:+.3f} to {each.minus_length.upper:+.3f}"
             if each.minus_length else "")
            for each in sorted(found.areas, key=lambda area: -area.area)
        ],
    )  # fmt: skip
    output.data(found.verdict_on_length)
    output.data(f"calibration: {out}")
    output.record({"kind": "calibration", **found.model_dump(mode="json"), "path": str(out)})


@click.command(name="shield")
@INDEX
@click.argument("file", type=FILE)
@option("--calibration", type=FILE, help="Score and threshold; without it nothing is refused.")
@tracing_options
@json_option
@quiet_option
def shield(
    folder: Path,
    file: Path,
    calibration: Path | None,
    tracing: Tracing,
    as_json: bool,
    quiet: bool,
) -> int:
    """Judge a text FILE, or each `text` of a .jsonl: allow, flag, refuse or no_evidence.

    Exits 1 if a text is refused. No evidence does not mean harmless, and a match does not show
    where a model has a text from.
    """
    from auditor.trace.shield import Ruling, TraceShield

    output = Output(as_json, quiet)
    texts = _texts(file)
    guard = TraceShield(tracer_of(folder, tracing), calibration_of(calibration))
    rows = []
    refused = False
    for name, text in texts:
        decision = guard.judge(text)
        refused |= decision.ruling is Ruling.REFUSE
        rows.append((name, decision.ruling.value, escape(one_line(decision.reason))))
        output.record({"kind": "ruling", "text": name, "ruling": decision.ruling.value,
                       "reason": decision.reason, "spans": _spans(decision)})  # fmt: skip
    output.table(("text", "ruling", "why"), rows)
    return 1 if refused else 0


def _texts(file: Path) -> list[tuple[str, bytes]]:
    if not file.is_file():
        raise FileMissing(file, "text")
    if file.suffix != ".jsonl":
        return [(file.name, file.read_bytes())]
    return [
        (f"line {line.number}", line.text("text").encode())
        for line in read_json_lines(file, "text")
    ]


def _spans(decision: Decision) -> list[dict[str, object]]:
    return [
        {"start": span.start, "stop": span.stop, "count": span.count, "gate": span.gate,
         "clause": span.clause, "digest": span.digest, "scores": dict(span.scores),
         "documents": list(span.documents[:10]), "deciding": span in decision.spans}
        for span in decision.traced.spans
    ]  # fmt: skip
