"""`auditor verify`: one property of one ONNX model, without a plan."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import rich_click as click

from auditor.findings import Verdict
from auditor_cli.exit_codes import ExitCode
from auditor_cli.options import FILE, json_option, quiet_option
from auditor_cli.output import STYLES, Output

CODES = {Verdict.HOLDS: ExitCode.PASSED, Verdict.VIOLATED: ExitCode.FAILED}


@click.command(name="verify")
@click.argument("model", type=FILE)
@click.argument("property_file", metavar="PROPERTY", type=FILE)
@click.option("--time", "time_s", type=click.FloatRange(min=0, min_open=True), default=300.0,
              show_default=True, envvar="AUDITOR_MAX_TIME", help="Wall-clock seconds.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True,
              envvar="AUDITOR_SEED", help="Seed of the falsifier.")  # fmt: skip
@json_option
@quiet_option
def command(
    model: Path, property_file: Path, time_s: float, seed: int, as_json: bool, quiet: bool
) -> int:
    """Verify PROPERTY (VNN-LIB or YAML) of MODEL (ONNX).

    Exits 0 when it holds, 1 when it is violated, 3 when there is no answer.
    """
    from auditor.verify.onnx_subject import verify_file

    output = Output(as_json, quiet)
    prop, outcome = verify_file(model, property_file, time_limit_s=time_s, seed=seed)
    output.styled(str(outcome.verdict), STYLES[outcome.verdict])
    if outcome.verdict.is_open:
        output.warn(f"no answer: {outcome.reason}")
    if not quiet:
        output.data(f"property: {prop.text}")
        output.data(f"would be violated where: {prop.violation_text}")
        output.data(outcome.statistics.how_far)
    witness = outcome.witness
    if witness and outcome.verdict is Verdict.VIOLATED:
        output.data(f"witness: {[float(v) for v in witness.inputs]}")
        output.data(f"outputs: {[float(v) for v in witness.outputs]}")
    output.record({
        "verdict": outcome.verdict.value,
        "reason": outcome.reason,
        "property": prop.text,
        "violation": prop.violation_text,
        "witness": [float(v) for v in witness.inputs] if witness else None,
        "outputs": [float(v) for v in witness.outputs] if witness else None,
        "statistics": asdict(outcome.statistics),
    })  # fmt: skip
    return CODES.get(outcome.verdict, ExitCode.INCONCLUSIVE)
