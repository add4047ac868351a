"""Which tensors of a saved value are the weights, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from auditor.errors import AuditorError, ConfigurationError, UnknownName, UnsupportedModel
from auditor.models.torch_weights.tensors import PickledTensor

_MOST_SHOWN: Final = 10
_END: Final = object()


@dataclass(frozen=True)
class ChosenTensors:
    """The tensors of one mapping.

    Attributes:
        tensors: By name.
        left_out: What else the mapping holds, in words.
    """

    tensors: Mapping[str, PickledTensor]
    left_out: tuple[str, ...]


def choose_tensors(path: Path, value: Any, keys: Sequence[str] = ()) -> ChosenTensors:
    """The tensors of the saved mapping, or of one inside it.

    Args:
        path: The file, for messages.
        value: What it holds.
        keys: Where the mapping of the weights lies: a key, a key inside that, and so on.

    Raises:
        UnknownName: There is no such key.
        ConfigurationError: Tensors are only in mappings inside this one.
        UnsupportedModel: There is no mapping with tensors, or one of them has no text for a name.
    """
    for key in keys:
        inside = [each for each in _keys(value) if isinstance(each, str)]
        if key not in inside:
            raise UnknownName("key", key, [name[:80] for name in inside[:_MOST_SHOWN]])
        value = value[key]
    items = value if isinstance(value, dict) else {}
    tensors = {key: each for key, each in items.items() if isinstance(each, PickledTensor)}
    if not tensors:
        raise _without_tensors(path, value)
    unnamed = next((key for key in tensors if not isinstance(key, str)), None)
    if unnamed is not None:
        raise UnsupportedModel(
            f"{path}: a tensor is called {unnamed}, which is a number and no name",
            way_out="save the state dict of a module, or choose another mapping with --key",
        )
    counter, left_out = TensorCount(), list[str]()
    for key, each in items.items():
        if key not in tensors:
            count = counter.inside(each)
            left_out.append(f"{key} ({count} tensors)" if count else str(key))
    return ChosenTensors({str(key): tensor for key, tensor in tensors.items()}, tuple(left_out))


def _keys(value: Any) -> Sequence[Any]:
    return list(value) if isinstance(value, dict) else []


def _without_tensors(path: Path, value: Any) -> AuditorError:
    counter = TensorCount()
    found = {key: counter.inside(value[key]) for key in _keys(value)}
    shown = [f"'{str(key)[:80]}' ({count})" for key, count in found.items() if count]
    if not shown:
        return UnsupportedModel(
            f"{path}: no mapping of names to tensors", way_out="save the state dict of the module"
        )
    return ConfigurationError(
        f"{path}: no tensors at this place; tensors are inside {', '.join(shown[:_MOST_SHOWN])}; "
        "choose one with --key"
    )


class TensorCount:
    """Counts tensors inside values, in bounded time: a file may hold one value inside a million.

    Args:
        most: Values that are walked in all; those behind them count nothing.
    """

    def __init__(self, most: int = 1_000_000) -> None:
        self._left = most

    def inside(self, value: Any) -> int:
        """Tensors inside a value; what is there twice counts once."""
        waiting, seen, count = [iter((value,))], set[int](), 0
        while waiting and self._left > 0:
            each = next(waiting[-1], _END)
            if each is _END:
                waiting.pop()
                continue
            self._left -= 1
            if id(each) in seen:
                continue
            seen.add(id(each))
            count += isinstance(each, PickledTensor)
            if isinstance(each, dict):
                waiting.append(iter(each.values()))
            elif isinstance(each, list | tuple):
                waiting.append(iter(each))
        return count
