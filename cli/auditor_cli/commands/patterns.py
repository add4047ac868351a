"""`auditor patterns`: look at mined patterns, compare, test, and watch models with them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import rich_click as click

from auditor.errors import ConfigurationError
from auditor.files import refuse_existing
from auditor_cli.options import FILE, json_option, option, quiet_option
from auditor_cli.output import Output
from auditor_cli.pattern_options import data_options, run_options


@click.group(name="patterns")
def command() -> None:
    """Show, compare, test mined activation patterns, or watch a model with them."""


@command.command(name="show")
@click.argument("file", type=FILE)
@json_option
def show(file: Path, as_json: bool) -> int:
    """Print what a pattern FILE holds; the model is not needed."""
    from auditor.patterns.pattern_file import read_patterns
    from auditor_cli.pattern_output import show_evaluations, show_patterns

    output = Output(as_json)
    patterns, heldout = read_patterns(file)
    show_patterns(patterns, output)
    show_evaluations(heldout, patterns, output)
    return 0


@command.command(name="compare")
@click.argument("first", metavar="A", type=FILE)
@click.argument("second", metavar="B", type=FILE)
@json_option
def compare(first: Path, second: Path, as_json: bool) -> int:
    """Say class by class how the patterns of file A relate to those of file B."""
    from auditor.patterns.compare import compare_patterns
    from auditor.patterns.pattern_file import read_patterns
    from auditor_cli.pattern_output import decimal

    output = Output(as_json)
    patterns = [read_patterns(path).patterns for path in (first, second)]
    found = compare_patterns(*patterns)
    if patterns[0].model_digest != patterns[1].model_digest:
        output.warn("note: the two files were mined from different models")
    output.table(
        ("delta", "class", "A is", "shared", "only in A", "only in B", "opposite"),
        [
            (decimal(each.delta), str(each.label), each.relation, str(each.shared),
             str(each.only_first), str(each.only_second), str(each.opposite))
            for each in found
        ],
    )  # fmt: skip
    for each in found:
        facts = asdict(each) | {"delta": decimal(each.delta), "relation": each.relation}
        output.record(facts)
    return 0


@command.command(name="test")
@click.argument("file", type=FILE)
@click.argument("model", type=FILE)
@data_options
@run_options
@json_option
@quiet_option
def test(
    file: Path,
    model: Path,
    inputs: Path,
    labels: Path | None,
    divide_by: float,
    device: str,
    batch_size: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Measure recall, precision and overlap of FILE's patterns on other samples of MODEL.

    Exits 2 when the patterns were mined from another model.
    """
    from auditor.activations.capture import CaptureOptions
    from auditor.models.first_load import open_tried
    from auditor.models.labelled_data import divided, read_labelled
    from auditor.patterns.evaluate import evaluate_patterns
    from auditor.patterns.pattern_file import read_patterns
    from auditor_cli.pattern_output import show_evaluations

    output = Output(as_json, quiet)
    opened = open_tried(model)
    patterns = read_patterns(file, model_digest=opened.digest).patterns
    data = read_labelled(inputs, labels)
    options = CaptureOptions(batch_size=batch_size, device=device)
    samples = divided(data.inputs, divide_by)
    found = evaluate_patterns(patterns, opened, samples, data.labels, options=options)
    show_evaluations(found, patterns, output)
    return 0


@command.command(name="monitor")
@click.argument("file", type=FILE)
@click.argument("model", type=FILE)
@option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True,
        help="The monitored model to write, a file that does not exist.")  # fmt: skip
@option("--delta", default="0.99", show_default=True, help="Which of FILE's deltas.")
@option("--inputs", type=FILE,
        help="Held-out samples for thresholds: .npy, .npz with 'inputs', or an IDX file, also .gz. "
             "Without them every threshold is 0.")  # fmt: skip
@option("--labels", type=FILE, help="Their labels (default: the inputs' .npz).")
@option("--divide-by", type=float, default=1.0, show_default=True,
        help="Divide inputs by this, for example 255 for bytes of an image.")  # fmt: skip
@option("--quantile", default="0.99", show_default=True,
        help="Share of each class's held-out samples that is within its threshold.")  # fmt: skip
@run_options
@json_option
@quiet_option
def monitor(
    file: Path,
    model: Path,
    out: Path,
    delta: str,
    inputs: Path | None,
    labels: Path | None,
    divide_by: float,
    quantile: str,
    device: str,
    batch_size: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Write a copy of MODEL that labels each input by the patterns of FILE.

    Its output `monitor_label` is 0 for explained, 1 for contradicted, 2 for unexplained;
    `monitor_distance` counts contradicted neurons class by class. MODEL is left as it is.
    """
    from auditor.activations.capture import CaptureOptions
    from auditor.models.first_load import open_tried
    from auditor.models.labelled_data import divided, read_labelled
    from auditor.patterns.monitor import fit_thresholds, make_monitor, read_quantile
    from auditor.patterns.monitor_graph import write_monitored
    from auditor.patterns.pattern_file import read_patterns
    from auditor_cli.pattern_output import show_monitor

    output = Output(as_json, quiet)
    if labels and not inputs:
        raise ConfigurationError("--labels without --inputs; give the samples they are of")
    refuse_existing(out, "a monitored model")
    share = read_quantile(quantile)
    opened = open_tried(model)
    made = make_monitor(read_patterns(file, model_digest=opened.digest).patterns, delta)
    if inputs:
        data = read_labelled(inputs, labels)
        options = CaptureOptions(batch_size=batch_size, device=device)
        samples = divided(data.inputs, divide_by)
        made = fit_thresholds(made, opened, samples, data.labels, share, options)
    written = write_monitored(made, opened, out)
    show_monitor(made, written, output)
    return 0


@command.command(name="minimise")
@click.argument("file", type=FILE)
@click.argument("model", type=FILE)
@option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True,
        help="The pattern file to write, one that does not exist.")  # fmt: skip
@option("--delta", default="0.95", show_default=True, help="Which of FILE's deltas.")
@option("--class", "classes", type=int, multiple=True, help="Classes; all with a pattern if none.")
@option("--method", type=click.Choice(["conservative", "statistical", "optimistic"]),
        default="optimistic", show_default=True, help="Which search.")  # fmt: skip
@option("--domain", nargs=2, default=("0", "1"), show_default=True,
        help="Range that every input lies in.")  # fmt: skip
@option(
    "--radius",
    default="",
    help="Ask only of inputs within this distance (L-infinity) of samples that follow.",
)
@option("--count", type=click.IntRange(1), default=5, show_default=True,
        help="With --radius: how many samples of each class.")  # fmt: skip
@option("--time", "time_s", type=click.FloatRange(min=0, min_open=True), default=30.0,
        show_default=True, help="Seconds for each question to the verifier.")  # fmt: skip
@option("--calls", type=click.IntRange(1), default=200, show_default=True,
        help="Patterns to be judged for each class.")  # fmt: skip
@option("--seed", type=int, default=0, show_default=True, help="Seed of random choices.")
@data_options
@json_option
@quiet_option
def minimise(
    file: Path,
    model: Path,
    out: Path,
    delta: str,
    classes: tuple[int, ...],
    method: str,
    domain: tuple[str, str],
    radius: str,
    count: int,
    time_s: float,
    calls: int,
    seed: int,
    inputs: Path,
    labels: Path | None,
    divide_by: float,
    as_json: bool,
    quiet: bool,
) -> int:
    """Make the patterns of FILE as general as they still determine their class.

    Patterns that the verifier does not prove to begin with stay as they are. Recall before
    and after is that of the samples given; the control counts random subsets of the same
    size that verify.
    """
    from auditor.models.labelled_data import divided, read_labelled
    from auditor.patterns.pattern_file import read_patterns, write_patterns
    from auditor.verify.onnx_subject import open_subject
    from auditor.verify.outcome import Limits
    from auditor.verify.pattern_trials import PatternVerifier
    from auditor_cli.pattern_minimise import Ball, with_states
    from auditor_cli.pattern_minimise import minimise as minimise_class
    from auditor_cli.pattern_output import show_minimised

    output = Output(as_json, quiet)
    refuse_existing(out, "a minimised pattern file")
    subject = open_subject(model)
    patterns = read_patterns(file, model_digest=subject.model.digest).patterns
    data = read_labelled(inputs, labels)
    samples = divided(data.inputs, divide_by).astype("float32").reshape(len(data.inputs), -1)
    verifier = PatternVerifier(subject, domain, samples, limits=Limits(time_s=time_s), seed=seed)
    wanted = patterns.all_class_states(delta, classes)
    found = [
        minimise_class(
            verifier, patterns, delta, label, method, data.labels.tolist(),  # type: ignore[arg-type]
            max_calls=calls, seed=seed, ball=Ball(radius, count) if radius else None,
        )
        for label in wanted
    ]  # fmt: skip
    write_patterns(out, with_states(patterns, delta, found))
    show_minimised(found, output)
    return 0
