"""Text as token ids with the bytes that each of them covers, by a file of `tokenizers`.

A long text is cut into pieces of at most `PIECE_BYTES` behind a line end, else before white
space, so that memory does not grow with its length. Bytes that are no UTF-8, and tokens that the
tokenizer does not know, become `UNKNOWN`, which matches nothing: equal tokens would not mean
equal text there. No special token is added.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError, FileMissing, RefusedInput
from auditor.library_faults import faults_told
from auditor.trace.manifest import Manifest

PIECE_BYTES: Final = 2**16
"""Most bytes that are given to the tokenizer at once."""
UNKNOWN: Final = 2**32 - 1
"""The id of what the tokenizer does not know."""
MAX_TOKENIZER_BYTES: Final = 256 * 2**20
MAX_ID: Final = 2**24 - 2

_LAST_LINE_END: Final = re.compile(rb"(?s).*\n(?=\S)")
_LAST_WORD_END: Final = re.compile(rb"(?s).*\S(?=\s)")
_INVALID: Final = re.compile("[\udc80-\udcff]+")

UInt32 = NDArray[np.uint32]
Int64 = NDArray[np.int64]


class Encoded(NamedTuple):
    """Tokens of a text in their order.

    Attributes:
        ids: Their ids, [tokens]; `UNKNOWN` for what is not known.
        begins: First byte that each covers, never falling, [tokens].
        ends: One behind the last one, [tokens]. Tokens that share a character all cover it.
    """

    ids: UInt32
    begins: Int64
    ends: Int64


class TextEncoder:
    """A tokenizer of which only the ids of tokens count.

    Args:
        content: The bytes of `tokenizer.json`.
        name: Where they are from, for errors.

    Raises:
        ConfigurationError: They are no tokenizer, or one that tokenises at random.
    """

    def __init__(self, content: bytes, name: Path | str) -> None:
        from tokenizers import Tokenizer  # loaded late: indexes of bytes do without

        self.name, self.content = str(name), content
        with faults_told(lambda problem: ConfigurationError(
            f"{name} is no tokenizer: {problem}; give a tokenizer.json"
        )):  # fmt: skip
            plain = json.loads(content)
            self._tokenizer = Tokenizer.from_buffer(content)
        model = plain.get("model", {})
        if model.get("dropout"):
            raise ConfigurationError(
                f"{name} tokenises at random (dropout {model['dropout']}); set it to null"
            )
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._unknown = self._unknown_id(model)
        self.vocabulary = 1 + max(self._tokenizer.get_vocab().values(), default=0)
        if self.vocabulary - 1 > MAX_ID:
            raise ConfigurationError(
                f"{name} has a token with the id {self.vocabulary - 1}, and {MAX_ID} is the "
                "largest that is taken; use another tokenizer"
            )

    @cached_property
    def digest(self) -> str:
        """`sha256:<hex>` of the file."""
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    def encode(self, text: bytes) -> Encoded:
        """All tokens of a text.

        Raises:
            ConfigurationError: The tokenizer fails at it.
        """
        pieces = list(self.pieces(text))
        return Encoded(
            np.concatenate([np.zeros(0, np.uint32), *(each.ids for each in pieces)]),
            np.concatenate([np.zeros(0, np.int64), *(each.begins for each in pieces)]),
            np.concatenate([np.zeros(0, np.int64), *(each.ends for each in pieces)]),
        )

    def pieces(self, text: bytes | memoryview) -> Iterator[Encoded]:
        """The same, a piece at a time, with places in the whole text."""
        start = 0
        while start < len(text):
            stop = _cut(text, start)
            decoded = bytes(text[start:stop]).decode("utf-8", "surrogateescape")
            at = 0
            for gap in _INVALID.finditer(decoded):
                start = yield from self._part(decoded[at : gap.start()], start)
                end = start + gap.end() - gap.start()
                yield Encoded(np.array([UNKNOWN], np.uint32), np.array([start]), np.array([end]))
                start, at = end, gap.end()
            start = yield from self._part(decoded[at:], start)

    def _part(self, part: str, start: int) -> Any:
        """Yields the tokens of valid text that begins at a byte; returns where it ends."""
        if not part:
            return start
        with faults_told(lambda problem: ConfigurationError(
            f"{self.name} cannot tokenise {part[:40]!r}: {problem}; use another one"
        )):  # fmt: skip
            encoding = self._tokenizer.encode(part, add_special_tokens=False)
        ids = np.array(encoding.ids, dtype=np.uint32)
        ids[ids == self._unknown] = UNKNOWN
        ends_of = _byte_ends(part)
        offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        offsets = ends_of[np.clip(offsets, 0, len(part))] + start
        begins = np.maximum.accumulate(offsets[:, 0])
        yield Encoded(ids, begins, np.maximum(offsets[:, 1], begins))
        return start + int(ends_of[-1])

    def _unknown_id(self, model: dict[str, Any]) -> int:
        token = model.get("unk_token")
        found = self._tokenizer.token_to_id(token) if token else model.get("unk_id")
        return UNKNOWN if found is None else int(found)


def read_encoder(path: Path) -> TextEncoder:
    """The tokenizer of a file.

    Raises:
        FileMissing: There is no such file.
        RefusedInput: It is larger than `MAX_TOKENIZER_BYTES`.
        ConfigurationError: It is no tokenizer.
    """
    if not path.is_file():
        raise FileMissing(path, "tokenizer")
    if path.stat().st_size > MAX_TOKENIZER_BYTES:
        raise RefusedInput(f"{path} has more than {MAX_TOKENIZER_BYTES} bytes; it is no tokenizer")
    return TextEncoder(path.read_bytes(), path)


def tokenizer_of(folder: Path, manifest: Manifest) -> TextEncoder | None:
    """The tokenizer of an index; None if it is of bytes.

    Raises:
        RefusedInput: Its file is missing, a link, or not as it was.
    """
    if manifest.mode == "bytes":
        return None
    path = folder / tokenizer_name(manifest)
    if path.is_symlink() or not path.is_file():
        raise RefusedInput(f"{path} is no file of the index; build the index anew")
    encoder = read_encoder(path)
    if encoder.digest != manifest.tokenizer:
        raise RefusedInput(f"{path} is damaged; build the index anew")
    return encoder


def tokenizer_name(manifest: Manifest) -> str:
    """Named after what it holds, so that it is never written over another one."""
    return f"tokenizer-{manifest.tokenizer.removeprefix('sha256:')[:16]}.json"


def _cut(text: bytes | memoryview, start: int) -> int:
    """Where a piece that begins at a byte ends."""
    stop = start + PIECE_BYTES
    if stop >= len(text):
        return len(text)
    middle = start + PIECE_BYTES // 2
    window = bytes(text[middle : stop + 1])
    found = _LAST_LINE_END.match(window) or _LAST_WORD_END.match(window)
    if found:
        return middle + found.end()
    inside = next((back for back in range(4) if text[stop - back] & 0xC0 != 0x80), 0)
    return stop - inside


def _byte_ends(text: str) -> Int64:
    """How many bytes of UTF-8 the first 0, 1, ... characters take, [characters + 1]."""
    if text.isascii():
        return np.arange(len(text) + 1)
    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
    widths = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000).astype(np.int64)
    return np.concatenate([[0], np.cumsum(widths)])
