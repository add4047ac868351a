"""`auditor mine`: learn specifications from what a model does."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from auditor.errors import ConfigurationError
from auditor_cli.fix_memorization import Pruning, pruning_options
from auditor_cli.options import FILE, MODEL, json_option, option, quiet_option
from auditor_cli.output import Output
from auditor_cli.pattern_options import data_options, run_options

DELTAS = ("1", "0.99", "0.95", "0.9")


@click.group(name="mine")
def command() -> None:
    """Mine activation patterns of a classifier, or where a model carries what it memorised."""


@command.command(name="patterns")
@click.argument("model", type=FILE)
@data_options
@option("--delta", "deltas", multiple=True, default=DELTAS, show_default=True,
        help="Share of a class's samples in which a fixed neuron is in its state.")  # fmt: skip
@option("--holdout", type=click.IntRange(0), default=0, show_default=True,
        help="The last N samples are not mined from but tested on.")  # fmt: skip
@option("--members", type=click.Choice(["correct", "label", "prediction"]), default="correct",
        show_default=True, help="Which samples count for a class.")  # fmt: skip
@option("--granularity", type=click.Choice(["unit", "channel"]), default="unit",
        show_default=True, help="What a neuron of a convolution is.")  # fmt: skip
@option(
    "--layer", "layers", multiple=True, help="Only this layer, by name or position (default: all)."
)
@option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True,
        help="The pattern file to write.")  # fmt: skip
@run_options
@json_option
@quiet_option
def patterns(
    model: Path,
    inputs: Path,
    labels: Path | None,
    divide_by: float,
    deltas: tuple[str, ...],
    holdout: int,
    members: str,
    granularity: str,
    layers: tuple[str, ...],
    out: Path,
    device: str,
    batch_size: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Mine the activation patterns of every class of MODEL (ONNX) and write a pattern file.

    The model's first output holds one score for each class.
    """
    from auditor.activations.capture import CaptureOptions, Granularity
    from auditor.activations.onnx_capture import OnnxCapture
    from auditor.models.first_load import open_tried
    from auditor.models.labelled_data import divided, read_labelled
    from auditor.patterns.dominant import read_delta
    from auditor.patterns.evaluate import evaluate_patterns
    from auditor.patterns.mine import mine_patterns
    from auditor.patterns.pattern_file import write_patterns
    from auditor.patterns.pattern_set import Members
    from auditor_cli.pattern_output import show_evaluations, show_patterns

    output = Output(as_json, quiet)
    wanted = [read_delta(delta) for delta in deltas]
    data = read_labelled(inputs, labels)
    mined = len(data.inputs) - holdout
    if mined < 1:
        raise ConfigurationError(
            f"--holdout {holdout} of {len(data.inputs)} samples leaves none to mine from"
        )
    options = CaptureOptions(
        granularity=Granularity(granularity), batch_size=batch_size, device=device
    )
    capture = OnnxCapture(open_tried(model), layers, options)
    samples = divided(data.inputs, divide_by)
    found = mine_patterns(
        capture, samples[:mined], data.labels[:mined], wanted, members=Members(members)
    )
    heldout = (
        evaluate_patterns(found, capture, samples[mined:], data.labels[mined:]) if holdout else ()
    )
    write_patterns(out, found, heldout)
    show_patterns(found, output)
    show_evaluations(heldout, found, output)
    output.log(f"ran on {', '.join(capture.providers_in_use)}")
    output.data(f"patterns: {out}")
    output.record({"kind": "file", "path": str(out), "providers": capture.providers_in_use})
    return 0


@command.command(name="memorization")
@click.argument("model", type=MODEL)
@option("--out", type=FILE, required=True, help="The mask file to write, a new one.")
@pruning_options
@json_option
@quiet_option
def memorization(model: Path, out: Path, pruning: Pruning, as_json: bool, quiet: bool) -> int:
    """Locate the weights of MODEL that memorised items run through, and write them as masks.

    Every rule, set of layers and share is tried; what the best mask does is measured on the other
    split, and whether items share one subspace is said. MODEL is not changed and nothing is
    decided: `auditor fix memorization` does that.
    """
    from auditor.files import refuse_existing, refuse_unwritable
    from auditor.fixes.pruning import locate
    from auditor.fixes.pruning_study import Split
    from auditor.memorization.masks.mask_file import write_masks
    from auditor.memorization.masks.weight_masks import pruned

    refuse_existing(out, "masks")
    refuse_unwritable(out)
    output = Output(as_json, quiet)
    study, diffusion = pruning.study(model, output.log)
    work = pruning.work(study, out, diffusion=diffusion)
    located = locate(study, work.demands, output.log, work.trials)
    chosen, wording = located.chosen, study.wording
    before = study.measure(Split.REPORT)
    with pruned(chosen.sites, chosen.masks):
        after = study.measure(Split.REPORT)
    apart = study.located_apart(chosen)
    output.table(
        ("masks", "density", wording.rate, f"rise of {wording.cost}"),
        [
            (each.name, f"{each.masks.density:.3f}", f"{outcome.rates.mean():.1%}",
             f"{wording.loss(located.start, outcome):.1%}")
            for each, outcome in located.tried
        ],
    )  # fmt: skip
    output.data(
        f"{chosen.name}: {wording.rate} {before.rates.mean():.1%} to {after.rates.mean():.1%}, "
        f"{wording.cost} {wording.loss(before, after):+.1%}, on the other split"
    )
    for line in apart:
        output.data(line)
    write_masks(out, chosen.masks, chosen.sites, base=study.digest, rule=chosen.name)
    if work.trials is not None:
        work.trials.forget()
    output.data(f"masks: {out}")
    output.record({
        "kind": "masks", "path": str(out), "base": study.digest, "rule": chosen.name,
        "density": chosen.masks.density, "rate_before": float(before.rates.mean()),
        "rate_after": float(after.rates.mean()), "loss": wording.loss(before, after),
        "shared": list(apart),
    })  # fmt: skip
    return 0
