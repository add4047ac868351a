"""`auditor model`: look at a model file; nothing of it is executed."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from auditor.errors import RefusedModel
from auditor_cli.exit_codes import ExitCode
from auditor_cli.options import FILE, json_option
from auditor_cli.output import Output


@click.group(name="model")
def command() -> None:
    """Inspect, digest or scan a model file without executing it."""


@command.command(name="inspect")
@click.argument("path", type=FILE)
@json_option
def inspect(path: Path, as_json: bool) -> int:
    """Print what an ONNX model is made of."""
    from auditor.models.onnx_model import OnnxModel

    output = Output(as_json)
    model = OnnxModel.open(path)
    facts = {
        "digest": model.digest,
        "size": str(model.size),
        "producer": model.producer,
        "opset": str(model.opset),
        "parameters": str(model.parameter_count),
        "inputs": "; ".join(str(tensor) for tensor in model.inputs),
        "outputs": "; ".join(str(tensor) for tensor in model.outputs),
        "operators": ", ".join(f"{op} x{n}" for op, n in sorted(model.operators.items())),
        "not finite": "; ".join(str(place) for place in model.nonfinite) or "none",
    }
    output.table(("fact", "value"), list(facts.items()))
    output.record(facts)
    return 0


@command.command(name="digest")
@click.argument("path", type=FILE)
@click.option(
    "--functional", is_flag=True, help="Also the digest of the function (runs the model)."
)
@json_option
def digest(path: Path, functional: bool, as_json: bool) -> int:
    """Print the SHA-256 of the file, and with --functional the digest of its function."""
    from auditor.models.digest import file_digest, functional_digest
    from auditor.models.onnx_model import OnnxModel
    from auditor.models.preflight import require_openable

    output = Output(as_json)
    require_openable(path)
    values = {"file": file_digest(path)}
    if functional:
        values["functional"] = str(functional_digest(OnnxModel.open(path)))
    for name, value in values.items():
        output.data(f"{value}  {name}  {path}")
    output.record(values)
    return 0


@command.command(name="scan")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=FILE)
@json_option
def scan(paths: tuple[Path, ...], as_json: bool) -> int:
    """Say whether files may be opened at all; exits 6 when one is refused."""
    from auditor.models.preflight import require_openable

    output = Output(as_json)
    code = ExitCode.PASSED
    for path in paths:
        try:
            inspection = require_openable(path)
        except RefusedModel as error:
            output.styled(str(error), "bold red")
            output.record({"path": str(path), "verdict": "refused", "rule": error.rule,
                           "place": error.place, "reason": error.problem,
                           "way_out": error.way_out})  # fmt: skip
            code = ExitCode.REFUSED
        else:
            text = f"{path}: {inspection.format}, nothing in it matched a known danger"
            output.data(text)
            output.record({"path": str(path), "verdict": "accepted",
                           "format": str(inspection.format)})  # fmt: skip
    return code
