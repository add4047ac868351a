"""`auditor model convert`: pickled weights as safetensors, without running the pickle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from auditor.errors import ConfigurationError
from auditor_cli.options import MODEL, json_option, option, quiet_option
from auditor_cli.output import Output
from auditor_reports.sanitise import inert_line

if TYPE_CHECKING:
    from auditor.models.torch_weights.conversion import ConvertedFile

_MOST_SHOWN = 20


@click.command(name="convert")
@click.argument("path", type=MODEL)
@option("--out", type=MODEL, required=True, help="The file or folder to write, which does not "
        "exist.")  # fmt: skip
@option("--key", "keys", multiple=True, metavar="NAME",
        help="Where the weights lie in what was saved; repeat for a key inside a key.")  # fmt: skip
@json_option
@quiet_option
def convert(path: Path, out: Path, keys: tuple[str, ...], as_json: bool, quiet: bool) -> int:
    """Write pickled weights as safetensors: a file of torch.save, or a model folder with some.

    No pickle is run, and torch is not asked: the tensors are read out of the bytes. A file that
    holds more than weights need is refused (6).
    """
    output = Output(as_json, quiet)
    if path.is_dir():
        return _convert_folder(path, out, keys, output)
    from auditor.models.torch_weights.conversion import convert_file

    converted = convert_file(path, out, keys)
    output.data(_line(converted, out))
    _tell_left_out(output, "left out of the file", converted.left_out)
    output.record({"path": str(out), **_record(converted)})
    return 0


def _convert_folder(path: Path, out: Path, keys: tuple[str, ...], output: Output) -> int:
    from auditor.models.torch_weights.folder_conversion import convert_folder

    if keys:
        raise ConfigurationError(
            "--key is for a single file: the weights files of a folder are state dicts themselves"
        )
    found = convert_folder(path, out, progress=output.log)
    for name, converted in found.converted.items():
        output.data(_line(converted, out / name))
        _tell_left_out(output, f"left out of {name}", converted.left_out)
    _tell_left_out(output, "left out of the folder", found.left_out)
    output.record({
        "path": str(out),
        "converted": {name: _record(each) for name, each in found.converted.items()},
        "copied": list(found.copied), "left_out": list(found.left_out),
    })  # fmt: skip
    return 0


def _line(converted: ConvertedFile, out: Path) -> str:
    count = len(converted.names)
    return inert_line(f"{converted.sha256}  {out}  ({count} tensors, {converted.size} bytes)")


def _tell_left_out(output: Output, what: str, names: tuple[str, ...]) -> None:
    if names:
        more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
        shown = ", ".join(name[:200] for name in names[:_MOST_SHOWN])
        output.data(inert_line(f"{what}: {shown}{more}", 2_000))


def _record(converted: ConvertedFile) -> dict[str, object]:
    return {
        "source_sha256": converted.source_sha256, "sha256": converted.sha256,
        "tensors": len(converted.names), "size": converted.size,
        "left_out": list(converted.left_out),
    }  # fmt: skip
