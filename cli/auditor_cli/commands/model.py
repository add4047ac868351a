"""`auditor model`: look at a model, a file or a folder, convert its weights, export it to ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from auditor.errors import UnsupportedModel
from auditor_cli.model_convert import convert
from auditor_cli.model_export import export
from auditor_cli.model_scan import scan
from auditor_cli.options import MODEL, json_option
from auditor_cli.output import Output

if TYPE_CHECKING:
    from auditor.models.onnx_model import OnnxModel


@click.group(name="model")
def command() -> None:
    """Inspect, digest or scan a model (ONNX file or model folder), convert or export it."""


@command.command(name="inspect")
@click.argument("path", type=MODEL)
@json_option
def inspect(path: Path, as_json: bool) -> int:
    """Print what a model is made of."""
    output = Output(as_json)
    facts = _folder_facts(path) if path.is_dir() else _file_facts(path)
    output.table(("fact", "value"), list(facts.items()))
    output.record(facts)
    return 0


def _file_facts(path: Path) -> dict[str, str]:
    from auditor.models.onnx_model import OnnxModel

    return _graph_facts(OnnxModel.open(path))


def _graph_facts(model: OnnxModel) -> dict[str, str]:
    return {
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


def _folder_facts(path: Path) -> dict[str, str]:
    from auditor.models.onnx_folder import holds_graph, read_onnx_folder
    from auditor.models.subject_files import folder_kind, read_weights_folder
    from auditor.models.weight_numbers import find_nonfinite

    if folder_kind(path) == "transformers" and holds_graph(path):
        found = read_onnx_folder(path)
        described = {"model type": found.model_type, "files": ", ".join(found.files)}
        whole = {"digest": found.digest, "size": str(found.size)}
        return {**_graph_facts(found.graph), **whole, **described}
    folder = read_weights_folder(path)
    return {
        "digest": folder.digest,
        "size": str(folder.size),
        "model type": folder.model_type,
        "parameters": str(folder.parameter_count),
        "types": ", ".join(f"{dtype} x{count}" for dtype, count in folder.dtypes.items()),
        "weights": ", ".join(file.name for file in folder.weights),
        "files": ", ".join(folder.files),
        "not finite": "; ".join(str(place) for place in find_nonfinite(folder)) or "none",
    }


@command.command(name="digest")
@click.argument("path", type=MODEL)
@click.option(
    "--functional", is_flag=True, help="Also the digest of the function (runs the model)."
)
@json_option
def digest(path: Path, functional: bool, as_json: bool) -> int:
    """Print the SHA-256 of a model, and with --functional the digest of its function (ONNX)."""
    from auditor.models.digest import file_digest, functional_digest
    from auditor.models.preflight import require_openable

    output = Output(as_json)
    if path.is_dir():
        return _folder_digest(path, functional, output)
    require_openable(path)
    values = {"file": file_digest(path)}
    if functional:
        from auditor.models.first_load import open_tried  # onnx is slow to import

        values["functional"] = str(functional_digest(open_tried(path)))
    for name, value in values.items():
        output.data(f"{value}  {name}  {path}")
    output.record(values)
    return 0


def _folder_digest(path: Path, functional: bool, output: Output) -> int:
    from auditor.models.subject_files import folder_kind, read_kind

    kind = folder_kind(path)
    if functional:
        raise UnsupportedModel(
            f"{path}: the function of a {kind} folder has no digest",
            way_out="leave out --functional, or export the model to ONNX",
        )
    digest = read_kind(path, kind).digest
    output.data(f"{digest}  folder  {path}")
    output.record({"folder": digest})
    return 0


command.add_command(scan)
command.add_command(export)
command.add_command(convert)
