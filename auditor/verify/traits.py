"""What the verifier is as a method, in the words of ISO/IEC 24029-2, for the facts of a result."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

VERIFIER_TRAITS: Final[Mapping[str, str]] = MappingProxyType({
    "complete": "no: a question may stay open, at a limit, at an exact tie, or where a layer is "
    "only bounded; an answer that is given is sound",
    "deterministic": "yes, for the same versions and seed, unless a limit of time ends a search",
    "sees the model": "yes: it reads layers and weights",
})  # fmt: skip
