"""What a corpus index says of itself: `index.json`, written last and swapped whole."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from auditor.bounded_json import UnreadableJson, parse_json
from auditor.errors import ConfigurationError, FileMissing, RefusedInput
from auditor.files import write_atomically

MANIFEST: Final = "index.json"
SEPARATOR: Final = 0xFF
"""Follows every document; no byte of UTF-8 is equal to it."""
MAX_MANIFEST_BYTES: Final = 64 * 2**20

_Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class StoredFile(_Record):
    """One file of a shard."""

    size: int = Field(ge=0, le=2**48)
    """Its bytes."""
    digest: _Digest
    """Their SHA-256."""


class ShardRecord(_Record):
    """One shard, a folder of files below `shards/`."""

    name: _Name
    """The folder."""
    symbols: int = Field(ge=1, le=2**31 - 1)
    """Bytes of its text, separators included."""
    documents: int = Field(ge=1)
    """Its documents."""
    tokens: int = Field(default=0, ge=0, le=2**31 - 1)
    """In token mode its tokens, with one separator for each document; else 0."""
    width: Literal[0, 2, 4] = 0
    """In token mode the bytes of a token's rank; else 0."""
    files: dict[_Name, StoredFile]
    """Its files by name."""


class Manifest(_Record):
    """What an index holds."""

    format: Literal["auditor-trace-index"] = "auditor-trace-index"
    """What the folder is."""
    version: Literal[1, 2] = 1
    """Version of the format: 1 for bytes, 2 for tokens."""
    mode: Literal["bytes", "tokens"] = "bytes"
    """What a symbol is."""
    tokenizer: _Digest | Literal[""] = ""
    """In token mode the SHA-256 of the tokenizer file; else nothing."""
    normaliser: Literal["ascii-lower-words-1"] = "ascii-lower-words-1"
    """By which rules tokens are counted."""
    shards: tuple[ShardRecord, ...]
    """In the order in which they were added."""
    empty_documents: int = Field(default=0, ge=0)
    """Documents without a byte, which are counted and not kept."""
    digest: str = ""
    """SHA-256 of this record as canonical JSON with an empty digest."""

    @model_validator(mode="after")
    def _agrees(self) -> Manifest:
        tokens = self.mode == "tokens"
        if (self.version == 2) != tokens or bool(self.tokenizer) != tokens:
            raise ValueError("version, mode and tokenizer do not agree")
        if any(bool(shard.width and shard.tokens) != tokens for shard in self.shards):
            raise ValueError("a shard is of another mode")
        return self

    def sealed(self) -> Manifest:
        """The same with its digest."""
        return self.model_copy(update={"digest": _digest_of(self)})


def _plain(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON; that of bytes as version 1 has it, which knows of no tokens."""
    plain = manifest.model_dump(mode="json")
    if manifest.mode == "bytes":
        del plain["tokenizer"]
        for shard in plain["shards"]:
            del shard["tokens"], shard["width"]
    return plain


def _digest_of(manifest: Manifest) -> str:
    plain = _plain(manifest.model_copy(update={"digest": ""}))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Swap the manifest of an index for another one; returns it with its digest.

    Raises:
        OutputNotWritable, OperationFailed: The folder cannot be written; the old one stays.
    """
    sealed = manifest.sealed()
    text = json.dumps(_plain(sealed), indent=1, sort_keys=True) + "\n"
    write_atomically(folder / MANIFEST, text.encode())
    return sealed


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an index.

    Raises:
        FileMissing: There is none.
        ConfigurationError: Another version.
        RefusedInput: It is damaged, or names something outside of the index.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise FileMissing(path, "index")
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise RefusedInput(f"{path} has more than {MAX_MANIFEST_BYTES} bytes; build the index anew")
    try:
        raw: Any = parse_json(path.read_bytes())
    except UnreadableJson as error:
        raise RefusedInput(f"{path} is damaged: {error}; build the index anew") from None
    if isinstance(raw, dict) and raw.get("format") == "auditor-trace-index":
        version = raw.get("version")
        if version not in (1, 2):
            raise ConfigurationError(
                f"{path} is of version {repr(version)[:40]}, and this auditor reads versions 1 "
                "and 2; build the index anew"
            )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "record"
        raise RefusedInput(
            f"{path} is damaged: {place}: {first['msg']}; build the index anew"
        ) from None
    if manifest.digest != _digest_of(manifest):
        raise RefusedInput(f"{path} is damaged: its digest is another; build the index anew")
    return manifest
