"""Torch's names for types of numbers, and what safetensors calls them.

Source: the classes of storages in torch/__init__.py and the dtypes of torch (2.13); the safetensors
format description.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from auditor.models.scan.pickles.stack import Import

STORAGES: Final[Mapping[Import, str | None]] = MappingProxyType({
    Import("torch", f"{kind}Storage"): dtype
    for kind, dtype in (
        ("Double", "F64"), ("Float", "F32"), ("Half", "F16"), ("BFloat16", "BF16"),
        ("Long", "I64"), ("Int", "I32"), ("Short", "I16"), ("Char", "I8"), ("Byte", "U8"),
        ("Bool", "BOOL"), ("ComplexFloat", "C64"), ("ComplexDouble", None),
    )
} | {Import("torch.storage", "UntypedStorage"): "U8"})  # fmt: skip
"""By the class of a storage; None for numbers that safetensors does not know."""

DTYPES: Final[Mapping[Import, str | None]] = MappingProxyType({
    Import("torch", name): dtype
    for name, dtype in (
        ("float64", "F64"), ("float32", "F32"), ("float16", "F16"), ("bfloat16", "BF16"),
        ("int64", "I64"), ("int32", "I32"), ("int16", "I16"), ("int8", "I8"), ("uint8", "U8"),
        ("bool", "BOOL"), ("complex64", "C64"), ("complex128", None), ("uint16", "U16"),
        ("uint32", "U32"), ("uint64", "U64"), ("float8_e4m3fn", "F8_E4M3"),
        ("float8_e5m2", "F8_E5M2"), ("float8_e8m0fnu", "F8_E8M0"), ("float8_e4m3fnuz", None),
        ("float8_e5m2fnuz", None),
    )
})  # fmt: skip
"""By the name of a type; None likewise."""
