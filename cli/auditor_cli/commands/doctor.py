"""`auditor doctor`: what is missing or below its floor on this machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Literal

import rich_click as click
from packaging.version import Version
from pydantic import BaseModel, ConfigDict

from auditor.audit.environment import installed_version
from auditor.errors import AuditorError
from auditor.strict_yaml import load_strict
from auditor_cli.exit_codes import ExitCode
from auditor_cli.options import json_option
from auditor_cli.output import Output

STYLES = {"ok": "green", "note": "yellow", "problem": "bold red"}


class Floor(BaseModel):
    """The oldest version of a package that is acceptable, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    package: str
    minimum: str
    required: bool
    why: str
    source: str
    reviewed: str


class Floors(BaseModel):
    """The content of floors.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Literal[1]
    floors: tuple[Floor, ...]


@dataclass(frozen=True)
class Observation:
    """One line of the doctor's answer."""

    status: Literal["ok", "note", "problem"]
    subject: str
    text: str


@click.command(name="doctor")
@json_option
def command(as_json: bool) -> int:
    """Say what works here, what is missing and what is too old. Exits 1 on a problem."""
    output = Output(as_json)
    observations = [*_floors(), *_runtimes(), _paper(), _guard(), _workers(), *_machine()]
    for line in observations:
        output.styled(f"{line.status:8}{line.subject}: {line.text}", STYLES[line.status])
        output.record(asdict(line))
    broken = any(line.status == "problem" for line in observations)
    return ExitCode.FAILED if broken else ExitCode.PASSED


def _floors() -> Iterator[Observation]:
    text = (files("auditor_specs") / "floors.yaml").read_text(encoding="utf-8")
    for floor in load_strict(text, "floors.yaml", Floors).floors:
        found = installed_version(floor.package)
        if found is None:
            status: Literal["note", "problem"] = "problem" if floor.required else "note"
            yield Observation(status, floor.package, "not installed")
        elif Version(found) < Version(floor.minimum):
            text = f"{found} is older than {floor.minimum}: {floor.why} ({floor.source})"
            yield Observation("problem", floor.package, text)
        else:
            yield Observation("ok", floor.package, found)


def _runtimes() -> Iterator[Observation]:
    both = [n for n in ("onnxruntime", "onnxruntime-gpu") if installed_version(n)]
    if len(both) == 2:
        yield Observation(
            "problem", "onnxruntime",
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; "
            "uninstall both and install one",
        )  # fmt: skip
        return
    if not both:
        yield Observation("problem", "onnxruntime", "not installed; reinstall auditor")
        return
    yield Observation("ok", both[0], installed_version(both[0]) or "")
    import onnxruntime

    providers = ", ".join(onnxruntime.get_available_providers())
    yield Observation("ok", "execution providers", f"compiled in: {providers}")


def _paper() -> Observation:
    """Whether a report can be written as PDF; WeasyPrint loads Pango when it is imported."""
    from auditor_reports.pdf import load_weasyprint, pango_version

    try:
        weasyprint = load_weasyprint()
    except AuditorError as error:
        return Observation("note", "report as PDF", str(error))
    pango = ".".join(map(str, pango_version()))
    text = f"WeasyPrint {weasyprint.__version__} with Pango {pango}"
    return Observation("ok", "report as PDF", text)


def _guard() -> Observation:
    """What holds the child process in which untrusted models are loaded first."""
    from auditor.guarded.process import protections_here

    found = protections_here()
    if found is None:
        return Observation("problem", "guarded child", "cannot be started; models are not tried")
    is_open = "open" in (found.network, found.processes, found.writing, found.reading)
    return Observation("note" if is_open else "ok", "guarded child", str(found))


def _workers() -> Observation:
    """Whether the processes that checks run in reach the network."""
    from auditor.executor import network_of_workers

    found = network_of_workers()
    if found is None:
        return Observation(
            "problem", "network of workers", "no worker can be started; nothing runs"
        )
    return Observation("note" if found == "open" else "ok", "network of workers", found)


def _machine() -> Iterator[Observation]:
    import torch

    if torch.cuda.is_available():
        yield Observation("ok", "CUDA", torch.cuda.get_device_name(0))
    else:
        yield Observation("note", "CUDA", "no device; everything runs on the CPU")
    yield Observation("ok", "processors", str(os.cpu_count()))
    yield Observation("ok", "python", f"{platform.python_version()} on {platform.platform()}")
