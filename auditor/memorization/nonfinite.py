"""NaN and infinity in what the layers of a module return.

Attention as torch computes it on the CPU swallows NaN: a row of NaN scores comes out as zeros. So
it is not enough to look at what a model returns; its layers are looked at, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from auditor.errors import UnsupportedModel

_WAY_OUT = "look for weights that are not finite (AUD101), or for a training that diverged"


def require_finite(output: Tensor, what: str) -> None:
    """Refuse an output that is not finite.

    Raises:
        UnsupportedModel: With what it is of.
    """
    if not bool(torch.isfinite(output).all()):
        raise UnsupportedModel(f"{what} gives {_kind(output)}", way_out=_WAY_OUT)


@contextmanager
def finite_layers(module: nn.Module, what: str) -> Iterator[None]:
    """While it lasts, every innermost layer of a module has to return finite numbers.

    Raises:
        UnsupportedModel: Names the first layer that does not, in the order of computation.
    """

    def looking(name: str) -> Any:
        def look(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
                raise UnsupportedModel(
                    f"{what} gives {_kind(output)}, first in its layer {name}", way_out=_WAY_OUT
                )

        return look

    handles = [
        layer.register_forward_hook(looking(name))
        for name, layer in module.named_modules()
        if name and next(layer.children(), None) is None
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _kind(output: Tensor) -> str:
    return "NaN" if bool(torch.isnan(output).any()) else "infinity"
