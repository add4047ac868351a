"""The names that a pickle of weights may use, and what each stands for here.

None of them is imported. What torch would build by calling one is described instead, by a few
lines of our own; a pickle that uses any other name is refused.

Source: torch/_utils.py, torch/serialization.py and torch/_weights_only_unpickler.py (2.13).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeGuard

from auditor.models.scan.pickles.stack import Import
from auditor.models.scan.pickles.torch_types import DTYPES, STORAGES
from auditor.models.torch_weights.tensors import NotRead, PickledTensor, Storage

_MOST_CHARACTERS: Final = 80


def storage_of(identifier: object) -> Storage:
    """What a persistent id stands for: `("storage", class, key, place, count)`.

    Raises:
        NotRead: It is anything else.
    """
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6):
        raise NotRead("a persistent id that is no storage")
    word, kind, key, _, count = identifier[:5]
    if word != "storage" or not isinstance(key, str) or type(count) is not int or count < 0:
        raise NotRead("a persistent id that is no storage")
    dtype = _dtype_of(kind, STORAGES, "a storage")
    if identifier[5:] not in ((), (None,)):
        raise NotRead("a storage that is a part of another, as torch wrote before version 0.4")
    return Storage(key, dtype, count)


def _dtype_of(name: object, types: Mapping[Import, str | None], what: str) -> str:
    found = types.get(name) if isinstance(name, Import) else None
    if found is None:
        raise NotRead(f"{what} of the type {_shown(name)}, which safetensors cannot hold")
    return found


def _tensor(arguments: tuple[Any, ...]) -> PickledTensor:
    return _view(arguments, None)


def _tensor_of_version_2(arguments: tuple[Any, ...]) -> PickledTensor:
    shape, extras = arguments[:4], arguments[4:]
    if len(extras) not in (2, 3):
        raise NotRead(f"a tensor that is described by {len(arguments)} values")
    _refuse_attributes(extras[1:])
    return _view(shape, None)


def _tensor_of_version_3(arguments: tuple[Any, ...]) -> PickledTensor:
    shape, extras = arguments[:4], arguments[4:]
    if len(extras) not in (3, 4):
        raise NotRead(f"a tensor that is described by {len(arguments)} values")
    _refuse_attributes((extras[1], *extras[3:]))
    return _view(shape, _dtype_of(extras[2], DTYPES, "a tensor"))


def _parameter(arguments: tuple[Any, ...]) -> PickledTensor:
    if len(arguments) != 3 or not isinstance(arguments[0], PickledTensor):
        raise NotRead("a parameter that is no tensor")
    _refuse_attributes(arguments[2:])
    return arguments[0]


def _view(arguments: tuple[Any, ...], dtype: str | None) -> PickledTensor:
    if len(arguments) != 4 or not isinstance(arguments[0], Storage):
        raise NotRead("a tensor without a storage")
    storage, offset, shape, strides = arguments
    if not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise NotRead("a tensor without a shape")
    return PickledTensor(storage, dtype or storage.dtype, offset, shape, strides)


def _refuse_attributes(attributes: tuple[Any, ...]) -> None:
    """Hooks and marks (conjugated, negated) change what numbers mean; most tensors have none."""
    if any(each not in ({}, None) for each in attributes):
        raise NotRead("a tensor with hooks or marks of its own")


def _mapping(arguments: tuple[Any, ...]) -> dict[str | int, Any]:
    if not arguments:
        return {}
    pairs = arguments[0]
    if len(arguments) != 1 or not isinstance(pairs, list):
        raise NotRead("a mapping that is not made of pairs")
    found: dict[str | int, Any] = {}
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise NotRead("a mapping that is not made of pairs")
        put_item(found, pair[0], pair[1])
    return found


def _has_own_hash(key: object) -> TypeGuard[int]:
    # Larger ones could be chosen so that all of them have one and the same.
    return type(key) is int and abs(key) < sys.hash_info.modulus


def put_item(mapping: dict[str | int, Any], key: object, value: object) -> None:
    """Add to a mapping what it does not have.

    Raises:
        NotRead: The key stands there already, or is neither a text nor a whole number that is
            shorter than 61 bits.
    """
    if not isinstance(key, str) and not _has_own_hash(key):
        raise NotRead(f"a key that is {_shown(key)}")
    if key in mapping:
        raise NotRead(f"the key {_shown(key)} twice")
    mapping[key] = value


def _size(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(arguments) != 1 or not isinstance(arguments[0], list | tuple):
        raise NotRead("a shape that is none")
    return tuple(arguments[0])


def _device(arguments: tuple[Any, ...]) -> str:
    return ":".join(str(each) for each in arguments if isinstance(each, str | int))


def _bytes(arguments: tuple[Any, ...]) -> bytes:
    if len(arguments) != 2 or not isinstance(arguments[0], str) or arguments[1] != "latin1":
        raise NotRead("bytes that are written in another way than pickle does")
    try:
        return arguments[0].encode("latin1")
    except UnicodeEncodeError:
        raise NotRead("bytes that are none") from None


CALLED: Final[Mapping[Import, Callable[[tuple[Any, ...]], object]]] = MappingProxyType({
    Import("collections", "OrderedDict"): _mapping,
    Import("torch._utils", "_rebuild_tensor"): _tensor,
    Import("torch._utils", "_rebuild_tensor_v2"): _tensor_of_version_2,
    Import("torch._utils", "_rebuild_tensor_v3"): _tensor_of_version_3,
    Import("torch._utils", "_rebuild_parameter"): _parameter,
    Import("torch", "Size"): _size,
    Import("torch", "device"): _device,
    Import("_codecs", "encode"): _bytes,
})  # fmt: skip
"""What a call of each name gives."""

NAMED: Final = frozenset({*CALLED, *STORAGES, *DTYPES})
"""Every name a pickle of weights may use."""


def _shown(value: object) -> str:
    """A value of the file, as short as a message may hold it."""
    if isinstance(value, Import):
        value = ".".join(value)
    known = isinstance(value, str | int | float | bool | None)
    return repr(value)[:_MOST_CHARACTERS] if known else f"a {type(value).__name__}"
