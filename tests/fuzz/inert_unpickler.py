"""What a pickle asks to import, found by unpickling it with nothing real in reach.

`pickle._Unpickler`, written in Python, is given classes that do nothing for whatever it asks for.
Opcodes that only take memory are left out.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

_LARGEST: Final = 1 << 16
_BYTEARRAY8: Final = 0x96


@dataclass
class Asked:
    """What pickles ask for.

    Attributes:
        imports: Modules and names.
        called: Those of them that are called, or made an instance of.
    """

    imports: set[tuple[str, str]] = field(default_factory=set)
    called: set[tuple[str, str]] = field(default_factory=set)


class _Nothing:
    """Takes every argument and every state, and does nothing with it."""

    asked: ClassVar[Asked] = Asked()
    name: ClassVar[tuple[str, str]] = ("", "")

    def __new__(cls, *_: Any, **__: Any) -> _Nothing:
        cls.asked.called.add(cls.name)
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> _Nothing:
        return self

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...

    def append(self, _: Any) -> None:
        """As of a list."""

    def extend(self, _: Any) -> None:
        """As of a list."""

    def add(self, _: Any) -> None:
        """As of a set."""


class _WholeLines(io.BytesIO):
    """A stream whose last line counts only if it is ended, as for the unpickler written in C."""

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n"):
            raise EOFError("a line that does not end")
        return line


class _Asking(pickle._Unpickler):
    """Notes every name and never looks one up."""

    asked: Asked

    def find_class(self, module: str, name: str) -> Any:
        if not module or not name:  # nothing is called that
            raise pickle.UnpicklingError("an import without a name")
        self.asked.imports.add((module, name))
        return type("Nothing", (_Nothing,), {"asked": self.asked, "name": (module, name)})

    def persistent_load(self, pid: Any) -> Any:
        return object.__new__(_Nothing)

    def _no_byte_array(self) -> None:
        raise pickle.UnpicklingError("byte arrays are left out")

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch, _BYTEARRAY8: _no_byte_array,
    }  # fmt: skip


def asked_by(data: bytes, most: int = 20) -> Asked:
    """What the pickles in some bytes, one behind the other, ask for.

    What an unpickler would fail at ends it, as do further pickles than `most`.
    """
    stream = _WholeLines(data[:_LARGEST])
    asked = Asked()
    for _ in range(most):
        unpickler = _Asking(stream)
        unpickler.asked = asked
        try:
            unpickler.load()
        except Exception:  # noqa: BLE001 - a broken pickle breaks an unpickler in many ways
            break
    return asked
