"""Reading a property file: VNN-LIB or YAML, told apart by content, plain or gzip."""

from __future__ import annotations

import gzip
import io
import itertools
import re
import zlib
from pathlib import Path

from auditor.errors import FileMissing, InvalidText, UnsupportedProperty
from auditor.verify.property.cases import Property, number_text
from auditor.verify.property.vnnlib import parse_vnnlib

MAX_BYTES = 32_000_000
MAX_BITS = 500
_GZIP_MAGIC = b"\x1f\x8b"
# A version 2 file opens with its version, or at least with a network.
_VERSION_2 = re.compile(r"\A(?:\s++|;[^\n]*+(?:\n|\Z))*+\((?:vnnlib-version\b|declare-network\b)")

_LINE = re.compile(r"[^\r\n]+")


def load_property(path: Path | str, *, num_inputs: int, num_outputs: int) -> Property:
    """Read a property for a network of the given flat sizes.

    Args:
        path: A VNN-LIB (1 or 2) or YAML file, possibly gzip-compressed; the content decides.
        num_inputs: Number of inputs of the network.
        num_outputs: Number of its outputs.

    Raises:
        FileMissing: The file does not exist.
        InvalidText: A problem of the text, with its place.
        UnsupportedProperty: A form that is not expressed here.
        PropertyMismatch: Written for a network of another size.
    """
    path = Path(path)
    text = _read_text(path)
    if _looks_like_vnnlib(text):
        name = path.name.removesuffix(".gz").removesuffix(".vnnlib")
        parse = parse_vnnlib
        if _VERSION_2.search(text):
            from auditor.verify.property.vnnlib2 import parse_vnnlib2  # few files are version 2

            parse = parse_vnnlib2
        prop = parse(text, name, source=str(path), num_inputs=num_inputs, num_outputs=num_outputs)
        return _within_range(prop, path)
    # Its records take time to build, and most properties are VNN-LIB.
    from auditor.verify.property.property_yaml import parse_property_yaml

    prop = parse_property_yaml(
        text, source=str(path), num_inputs=num_inputs, num_outputs=num_outputs
    )
    return _within_range(prop, path)


def _within_range(prop: Property, path: Path) -> Property:
    """The property, if engines may compute with its numbers in float64.

    Raises:
        UnsupportedProperty: A number is so large that a product with another one may overflow.
    """
    seen: set[int] = set()
    for case in prop.cases:
        rows = [(*row.coefficients, row.bound, *row.input_coefficients)
                for row in case.rows if id(row) not in seen]  # fmt: skip
        ends = [end for end in (case.lower, case.upper) if id(end) not in seen]
        seen.update(map(id, (*case.rows, case.lower, case.upper)))
        for value in itertools.chain(*rows, *ends):
            if value.numerator.bit_length() - value.denominator.bit_length() > MAX_BITS:
                raise UnsupportedProperty(
                    f"{path}: the number {number_text(value)} is beyond 2 to the {MAX_BITS}; write "
                    "smaller ones"
                )
    return prop


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise FileMissing(path, "property file")
    with path.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if content.startswith(_GZIP_MAGIC):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
                content = stream.read(MAX_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidText(str(path), f"not a whole gzip file: {error}") from None
    if len(content) > MAX_BYTES:
        raise InvalidText(str(path), f"larger than {MAX_BYTES} bytes; split the property")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidText(str(path), f"not UTF-8 text at byte {error.start}") from None


def _looks_like_vnnlib(text: str) -> bool:
    """Whether the first line that is neither blank nor a comment opens a parenthesis."""
    for line in _LINE.finditer(text):
        content = line[0].strip()
        if content and not content.startswith((";", "#")):
            return content.startswith("(")
        if content.startswith(";"):
            return True
    return False
