"""Compiling kernels with numba, cached on disk wherever a place can be written.

Numba keeps compiled code beside the module, else in the user's cache folder, else under
NUMBA_CACHE_DIR; where none of them can be written it refuses to decorate at all. A
read-only installation must still work: then every process compiles for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from numba import njit

Decorator = Callable[[Callable[..., Any]], Any]


def compiled(fastmath: Iterable[str] = ()) -> Decorator:
    """A decorator that compiles a function without the interpreter lock.

    Args:
        fastmath: LLVM fast-math flags the function's error analysis allows.

    Division follows IEEE 754 (no ZeroDivisionError), as the bounds expect.
    """
    flags = set(fastmath) or False

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, nogil=True, error_model="numpy", fastmath=flags)(function)
        except RuntimeError:
            return njit(nogil=True, error_model="numpy", fastmath=flags)(function)

    return decorate
