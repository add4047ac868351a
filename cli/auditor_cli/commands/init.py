"""`auditor init`: write a first plan for a model."""

from __future__ import annotations

import os
import re
from importlib.resources import files
from pathlib import Path

import rich_click as click

from auditor.audit.plan import load_plan
from auditor.errors import ConfigurationError, FileMissing
from auditor.files import write_atomically
from auditor.models.subject_files import folder_kind
from auditor_cli.options import FILE, MODEL, json_option
from auditor_cli.output import Output


@click.command(name="init")
@click.argument("model", type=MODEL)
@click.option("--out", "target", type=FILE, default=Path("auditor-plan.yaml"), show_default=True,
              help="Where to write the plan.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace a plan that is already there.")
@json_option
def command(model: Path, target: Path, force: bool, as_json: bool) -> int:
    """Write a plan that audits MODEL, an ONNX file or a language or diffusion model's folder."""
    output = Output(as_json)
    if not model.exists():
        raise FileMissing(model, "model")
    kind = folder_kind(model) if model.is_dir() else "onnx"
    if kind == "transformers" and not (model / "config.json").exists():
        raise FileMissing(model / "config.json", "configuration of a transformers model")
    if target.exists() and not force:
        raise ConfigurationError(f"{target} exists; add --force to replace it or --out elsewhere")
    stem = model.name.removesuffix(".gz").removesuffix(".onnx")
    if model.is_dir():
        stem = model.resolve().name
    plans = files("auditor_specs") / "plans"
    template = (plans / f"template-{kind}.yaml").read_text(encoding="utf-8")
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "model"
    path = Path(os.path.relpath(model, target.parent)).as_posix()
    text = template.replace("@NAME@", name).replace("@PATH@", path.replace('"', ""))
    write_atomically(target, text.encode())
    load_plan(target, {})
    output.data(f"wrote {target}; next: auditor run {target}")
    output.record({"written": str(target), "name": name})
    return 0
