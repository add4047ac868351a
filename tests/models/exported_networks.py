"""Networks as torch exports them to ONNX, by either exporter, with weights inside or beside."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

WIDTH: Final = 8


class _Recurrent(nn.Module):
    """An LSTM and a GRU one after the other, and the last step's output."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(WIDTH, WIDTH, batch_first=True)
        self.second = nn.GRU(WIDTH, WIDTH, batch_first=True)

    def forward(self, steps: Tensor) -> Tensor:
        """Steps of shape [batch, time, WIDTH]."""
        found: Tensor = self.second(self.first(steps)[0])[0][:, -1]
        return found


class _Attention(nn.Module):
    """A block of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(WIDTH, 2, WIDTH, batch_first=True, dropout=0.0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens of shape [batch, time, WIDTH]."""
        found: Tensor = self.block(tokens)
        return found


class _Branching(nn.Module):
    """A condition and a loop that the exporter keeps as graphs of their own."""

    def forward(self, values: Tensor) -> Tensor:
        """Values of shape [batch, WIDTH]."""
        if bool(values.sum() > 0):
            values = values * 2
        for _ in range(values.size(0)):
            values = values + 1
        return values


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 6), nn.ReLU(), nn.Linear(6, 3), nn.Softmax(-1))


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2),
        nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip


def _scripted() -> nn.Module:
    found: Any = torch.jit.script(_Branching())
    return found  # type: ignore[no-any-return]


NETWORKS: Final[Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]] = MappingProxyType({
    "mlp": (_mlp, (2, WIDTH)),
    "cnn": (_cnn, (2, 1, 8, 8)),
    "recurrent": (_Recurrent, (2, 3, WIDTH)),
    "attention": (_Attention, (2, 3, WIDTH)),
})  # fmt: skip
"""How each network is made, and the shape of its input."""


def export_network(name: str, path: Path, *, dynamo: bool, external: bool = False) -> Path:
    """Write a network; `external` keeps its weights in a file beside it (dynamo only)."""
    make, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(0)
        network: Any = make().eval()
        settings: dict[str, Any] = {"external_data": external} if dynamo else {}
        torch.onnx.export(network, (torch.randn(shape),), path, dynamo=dynamo, **settings)
    return path


def export_script(path: Path) -> Path:
    """Write a network with a condition and a loop, which only the older exporter keeps."""
    with _quiet():
        torch.onnx.export(_scripted(), (torch.ones(2, WIDTH),), path, dynamo=False)
    return path


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Both exporters warn of what the other will bring, and one reports to standard output."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
