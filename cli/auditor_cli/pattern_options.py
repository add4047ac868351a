"""Options of the commands that run a classifier over labelled samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import rich_click as click

from auditor_cli.options import FILE, option

F = TypeVar("F", bound=Callable[..., Any])


def data_options(function: F) -> F:
    """`--inputs --labels --divide-by`."""
    for decorate in reversed((
        option("--inputs", type=FILE, required=True,
               help="Samples: .npy, .npz with 'inputs', or an IDX file, also .gz."),
        option("--labels", type=FILE,
               help="Labels: .npy, .npz with 'labels', or IDX (default: the inputs' .npz)."),
        option("--divide-by", type=float, default=1.0, show_default=True,
               help="Divide inputs by this, for example 255 for bytes of an image."),
    )):  # fmt: skip
        function = decorate(function)
    return function


def run_options(function: F) -> F:
    """`--device --batch-size`."""
    for decorate in reversed((
        option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="cpu",
               show_default=True, envvar="AUDITOR_DEVICE", help="Where the model runs."),
        option("--batch-size", type=click.IntRange(1), default=512, show_default=True,
               help="Samples per run; memory grows with it."),
    )):  # fmt: skip
        function = decorate(function)
    return function
