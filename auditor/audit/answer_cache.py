"""Answers of earlier runs, kept by their keys: what is known need not be computed again.

A key covers model, check and version, parameters, data, seed, limits and numerical environment, so
an answer holds wherever its key comes up again. Only `holds` and `violated` are kept: an open
verdict may have hung on the clock. Evidence is copied with the answer, texts in full among it, so
nobody has a cache who did not ask for one. A damaged entry counts as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import ValidationError

from auditor.audit.ledger import EvidenceFolder
from auditor.errors import AuditorError, ConfigurationError
from auditor.files import write_atomically
from auditor.findings import Answer, BlobRef, CheckResult, Record, blob_of

REUSED_FACT: Final = "reused from"
"""The fact of an answer that was not computed in its run: which run it came from."""
_ANSWERS, _EVIDENCE, _MARK = "answers", "evidence", "auditor-cache"
_MARK_TEXT: Final = b"Answers of auditor. `auditor cache clear` removes them.\n"
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_HEAD: Final = 200


class CachedAnswer(Record):
    """One entry.

    Attributes:
        key: Of the result.
        code: Of the check.
        origin: The run that computed it, for readers.
        answer: As it was committed, without what was left out of the report.
    """

    version: Literal[1] = 1
    key: str
    code: str
    origin: str
    answer: Answer


@dataclass(frozen=True)
class CacheEntry:
    """A file of the cache.

    Attributes:
        path: Where it lies.
        size: Bytes, with the evidence it names.
        used: When it was last written or read.
        entry: Its content; None if it is damaged.
    """

    path: Path
    size: int
    used: datetime
    entry: CachedAnswer | None


@dataclass(frozen=True)
class AnswerCache:
    """A folder of answers.

    Attributes:
        folder: Made when the first answer is kept.
    """

    folder: Path

    def take(self, key: str, evidence: EvidenceFolder) -> Answer | None:
        """The answer of a key, with its evidence copied and a fact that says where it came from.

        None where there is none, or not all of it.
        """
        entry = self._find(key)
        if entry is None:
            return None
        own = EvidenceFolder(self.folder / _EVIDENCE)
        try:
            for blob in _blobs(entry.answer):
                evidence.put(own.get(blob, _MOST_BYTES), blob.media_type, blob.name)
        except AuditorError:
            return None
        os.utime(self._path(key))
        facts = {**entry.answer.facts, REUSED_FACT: entry.origin}
        return entry.answer.model_copy(update={"facts": facts})

    def holds(self, key: str) -> bool:
        """Whether a key has an answer."""
        return self._find(key) is not None

    def keep(self, result: CheckResult, evidence: EvidenceFolder, origin: str) -> None:
        """Keep the answer of a result, if it is one and was computed.

        Raises:
            AuditorError: Evidence is missing or too large, or the folder cannot be written.
        """
        if result.verdict.is_open or REUSED_FACT in result.answer.facts:
            return
        self._begin()
        own = EvidenceFolder(self.folder / _EVIDENCE)
        for blob in _blobs(result.answer):
            own.put(evidence.get(blob, _MOST_BYTES), blob.media_type, blob.name)
        entry = CachedAnswer(
            key=result.key, code=result.code, origin=origin, answer=result.answer
        ).model_dump_json()
        digest = hashlib.sha256(entry.encode()).hexdigest()
        content = f'{{"digest":"{digest}","entry":{entry}}}\n'.encode()
        write_atomically(self._path(result.key), content)

    def entries(self) -> Iterator[CacheEntry]:
        """Every entry, by name.

        Raises:
            ConfigurationError: The folder is there and is no cache.
        """
        if not self.is_there():
            return
        own = EvidenceFolder(self.folder / _EVIDENCE)
        for path in self._files(_ANSWERS, "*.json"):
            entry = _read(path)
            size = path.lstat().st_size
            for blob in () if entry is None else _blobs(entry.answer):
                kept = own.path(blob.digest)
                size += kept.stat().st_size if kept.is_file() else 0
            used = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
            yield CacheEntry(path, size, used, entry)

    def prune(self, before: datetime | None = None, most_bytes: int | None = None) -> int:
        """Remove what is damaged, what was last used before a time, and the oldest beyond a size.

        Evidence that no entry names goes with it. Returns how many entries were removed.
        """
        kept: list[CacheEntry] = []
        total = removed = 0
        for each in sorted(self.entries(), key=lambda each: each.used, reverse=True):
            total += each.size
            old = before is not None and each.used < before
            if each.entry is None or old or (most_bytes is not None and total > most_bytes):
                each.path.unlink(missing_ok=True)
                removed += 1
            else:
                kept.append(each)
        own = EvidenceFolder(self.folder / _EVIDENCE)
        named = {own.path(blob.digest) for each in kept if each.entry for blob in
                 _blobs(each.entry.answer)}  # fmt: skip
        for path in self._files(_EVIDENCE, "*"):
            if path not in named:
                path.unlink(missing_ok=True)
        return removed

    def clear(self) -> int:
        """Remove every entry and all evidence; returns how many entries there were."""
        count = sum(1 for _ in self.entries())
        for part in (_ANSWERS, _EVIDENCE):
            if (self.folder / part).is_symlink():
                (self.folder / part).unlink()
            elif (self.folder / part).is_dir():
                shutil.rmtree(self.folder / part)
        return count

    def _files(self, part: str, pattern: str) -> list[Path]:
        """The cache's own files by name: none that a linked folder leads to, and no folder."""
        outer = self.folder / part
        folders = [] if outer.is_symlink() else list(outer.glob("??"))
        return sorted(
            path
            for folder in folders
            if folder.is_dir() and not folder.is_symlink()
            for path in folder.glob(pattern)
            if path.is_symlink() or path.is_file()
        )

    def _find(self, key: str) -> CachedAnswer | None:
        entry = _read(self._path(key))
        return None if entry is None or entry.key != key else entry

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / _ANSWERS / name[:2] / f"{name}.json"

    def _begin(self) -> None:
        if not self.is_there():
            # For its owner alone from the start: answers hold texts in full.
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            write_atomically(self.folder / _MARK, _MARK_TEXT)

    def is_there(self) -> bool:
        """Whether the folder is a cache already; nothing is ever removed from another one.

        Raises:
            ConfigurationError: It holds something and is no cache.
        """
        if (self.folder / _MARK).is_file():
            return True
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise ConfigurationError(
                f"{self.folder} holds something and is no cache of auditor; name an empty or a "
                "new folder"
            )
        return False


def _read(path: Path) -> CachedAnswer | None:
    """An entry; None where there is none that fits its digest."""
    try:
        if path.is_symlink() or path.stat().st_size > _MOST_BYTES:
            return None
        text = path.read_text("utf-8")
        head, sign, rest = text.partition(',"entry":')
        entry = rest.removesuffix("}\n")
        if (
            not sign
            or len(head) > _MOST_HEAD
            or json.loads(head + "}")["digest"] != hashlib.sha256(entry.encode()).hexdigest()
        ):
            return None
        return CachedAnswer.model_validate_json(entry)
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None


def _blobs(answer: Answer) -> list[BlobRef]:
    return [blob for each in answer.every_evidence() if (blob := blob_of(each)) is not None]
