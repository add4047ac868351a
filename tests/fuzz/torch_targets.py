"""Targets: files of `torch.save`, whose weights are read without running their pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fuzz.inert_unpickler import asked_by
from tests.fuzz.target import Check, only, parts_of, require_equal

MEMBERS = ("data.pkl", "data/0", "data/1", "byteorder")
_MOST_BYTES = 2**26


def open_torch_values(folder: Path) -> Check:
    """One pickle; what is read of it asks for no name but those of weights."""
    from auditor.models.torch_weights.names import NAMED
    from auditor.models.torch_weights.pickled_value import PickleUnread, read_value

    known = {tuple(name) for name in NAMED}

    def check(data: bytes) -> None:
        with only(PickleUnread):
            end = read_value(data).end
            require_equal("strange names", asked_by(data[:end]).imports - known, set())

    return check


def open_torch_stream(folder: Path) -> Check:
    """A whole file as it is."""
    return _check_of_conversion(folder)


def open_torch_archive(folder: Path) -> Check:
    """The members of an archive, whose directory and checksums are right."""
    from tests.models.packed import zipped

    check_file = _check_of_conversion(folder)

    def check(data: bytes) -> None:
        parts = dict(parts_of(data, len(MEMBERS)))
        check_file(zipped({f"m/{MEMBERS[place]}": part for place, part in parts.items()}))

    return check


def _check_of_conversion(folder: Path) -> Check:
    """What is converted, the safetensors library reads, and it is not much longer."""
    import safetensors

    from auditor.errors import ConfigurationError, RefusedModel, UnsupportedModel
    from auditor.models.torch_weights.conversion import convert_file

    source, out = folder / "model.pt", folder / "model.safetensors"

    def check(data: bytes) -> None:
        source.write_bytes(data)
        out.unlink(missing_ok=True)
        converted = None
        with only(RefusedModel, UnsupportedModel, ConfigurationError):
            converted = convert_file(source, out)
        require_equal("written", out.exists(), converted is not None)
        if converted is not None:
            content = out.read_bytes()
            read: Any = safetensors.deserialize
            names = [name for name, _ in read(content)]
            require_equal("tensors", sorted(names), sorted(converted.names))
            require_equal("larger than allowed", len(content) > _MOST_BYTES, False)

    return check
