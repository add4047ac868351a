"""`auditor model export`: a language model as an ONNX graph that onnxruntime completes with."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from auditor_cli.options import FOLDER, json_option, option, quiet_option
from auditor_cli.output import Output


@click.command(name="export")
@click.argument("folder", type=FOLDER)
@option("--to", type=click.Choice(["onnx"]), required=True, help="What to write.")
@option("--out", type=FOLDER, required=True, help="The folder to write, which does not exist.")
@json_option
@quiet_option
def export(folder: Path, to: str, out: Path, as_json: bool, quiet: bool) -> int:
    """Write the language model of a transformers FOLDER as an ONNX graph with a key-value cache.

    Configuration and tokenizer are copied, so that the new folder can be used like the old one.
    It is written only if onnxruntime gives the logits that torch gives.
    """
    from auditor.language.onnx_export import export_causal_lm
    from auditor.models.first_load import try_folders

    output = Output(as_json, quiet)
    try_folders(folder)
    found = export_causal_lm(folder, out, progress=lambda share, text: output.log(text))
    rows = [
        (each.name, f"{each.rows} x {each.tokens}", f"{each.largest:.2g}", f"{each.share:.1g}")
        for each in found.differences
    ]
    output.table(
        ("compared with torch", "prompts x tokens", "largest difference", "share of logits"), rows
    )
    output.data(f"{found.digest}  folder  {out}  ({found.nodes} nodes, {found.size} bytes)")
    output.record({
        "folder": found.digest, "path": str(out), "format": to, "source": found.source,
        "size": found.size, "nodes": found.nodes, "largest_difference": found.largest_difference,
        "largest_share": found.largest_share,
        "differences": [
            {"name": each.name, "rows": each.rows, "tokens": each.tokens, "largest": each.largest,
             "scale": each.scale}
            for each in found.differences
        ],
    })  # fmt: skip
    return 0
