"""Layers that give NaN or infinity are named, and nothing is left on the module afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from auditor.errors import UnsupportedModel
from auditor.memorization.nonfinite import finite_layers, require_finite


def network() -> nn.Sequential:
    """Two layers inside one, and a third."""
    return nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 1))


@pytest.mark.parametrize(("value", "word"), [(torch.nan, "NaN"), (torch.inf, "infinity")])
def test_the_first_layer_is_named(value: float, word: str) -> None:
    """By its own name, not by that of the module around it."""
    module = network()
    last: Any = module[1]
    nn.init.constant_(last.bias, value)
    with (
        pytest.raises(UnsupportedModel, match=f"it gives {word}, first in its layer 1;"),
        finite_layers(module, "it"),
    ):
        module(torch.ones(1, 2))


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_hooks_are_removed(value: float) -> None:
    """Also after an error."""
    module = network()
    try:
        with finite_layers(module, "it"):
            module(torch.full((1, 2), value))
    except UnsupportedModel:
        assert value != value
    assert not any(layer._forward_hooks for layer in module.modules())
    assert not torch.isfinite(module(torch.full((1, 2), float("nan")))).any()


def test_an_output_is_looked_at_by_itself() -> None:
    """Finite numbers pass."""
    require_finite(torch.ones(3), "it")
    with pytest.raises(UnsupportedModel, match="it gives NaN; look for weights"):
        require_finite(torch.tensor([1.0, torch.nan, torch.inf]), "it")
