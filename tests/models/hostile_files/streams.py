"""Tars and compressed streams: where they lead, what they hide, and what follows their end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.models.hostile_files.case import Builder, HostileCase, file, refused, stopped
from tests.models.hostile_files.containers import BOMB, LARGE, NAME, PICKLE
from tests.models.hostile_files.payload import touching

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LONG = f"../../evil{'-long' * 60}.txt"


def _tar_member(member: tarfile.TarInfo, content: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _tar(name: str, content: bytes = b"text\n") -> bytes:
    return _tar_member(tarfile.TarInfo(name), content)


def _tar_format(name: str, kind: int) -> bytes:
    """A name that does not fit the header, as one of the extensions writes it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as archive:
        archive.addfile(tarfile.TarInfo(name))
    return stream.getvalue()


def _tar_special(kind: bytes, target: str = "") -> bytes:
    member = tarfile.TarInfo("inner")
    member.type, member.linkname = kind, target
    return _tar_member(member)


def _tar_checksum(marker: Path) -> bytes:
    content = bytearray(_tar("data.pkl", touching(marker, 2)))
    content[0:1] = b"D"
    return bytes(content)


def _packed(name: str, compress: Callable[[bytes], bytes]) -> Builder:
    return file(name, lambda marker: compress(touching(marker)))


def _zeros(compress: Callable[[bytes], bytes]) -> bytes:
    return compress(bytes(LARGE))


CASES: tuple[HostileCase, ...] = (
    refused("gzip-bomb", "zip ratio", file("a.gz", lambda marker: _zeros(gzip.compress)), BOMB),
    refused("bz2-bomb", "zip ratio", file("a.bz2", lambda marker: _zeros(bz2.compress)), BOMB),
    refused("tar-member-in-the-parent", "CVE-2024-5187", file(
        "a.tar", lambda marker: _tar("../../evil.txt")), NAME, "../../evil.txt"),
    refused("tar-member-absolute", "CVE-2024-5187", file(
        "a.tar", lambda marker: _tar("/etc/evil.txt")), NAME, "/etc/evil.txt"),
    refused("tar-of-a-downloaded-model-in-the-parent", "CVE-2024-5187, CVE-2026-28500", file(
        "model.tar.gz", lambda marker: gzip.compress(_tar("../model.onnx"))), NAME,
        "../model.onnx"),
    refused("tar-long-name-in-the-parent", "CVE-2024-5187", file(
        "a.tar", lambda marker: _tar_format(_LONG, tarfile.GNU_FORMAT)), NAME, "../../evil"),
    refused("tar-name-of-a-pax-header-in-the-parent", "CVE-2024-5187", file(
        "a.tar", lambda marker: _tar_format(_LONG, tarfile.PAX_FORMAT)), NAME, "../../evil"),
    refused("tar-symbolic-link", "containers", file("a.tar", lambda marker: _tar_special(
        tarfile.SYMTYPE, "/etc/passwd")), "link-escape symbolic-link container", "inner"),
    refused("tar-hard-link", "containers", file("a.tar", lambda marker: _tar_special(
        tarfile.LNKTYPE, "../outside/secret.bin")), "link-escape hard-link container", "inner"),
    refused("tar-device", "containers", file("a.tar", lambda marker: _tar_special(
        tarfile.CHRTYPE)), "not-a-file link-escape container", "inner"),
    refused("tar-of-a-pickle", "also inside tar", file("a.tar", lambda marker: _tar(
        "data.txt", touching(marker, 2))), PICKLE, "data.txt"),
    refused("tar-then-pickle", "containers: valid prefix then pickle", file(
        "a.tar", lambda marker: _tar("a.txt") + touching(marker)), f"trailing-data {PICKLE}"),
    refused("tar-with-a-bad-checksum", "containers", file("a.tar", _tar_checksum),
            f"bad-checksum malformed tar-structure {PICKLE}"),
    refused("xz-of-a-pickle", "any pickle", _packed("a.xz", lzma.compress), PICKLE),
    refused("zstd-of-a-pickle", "any pickle", _packed("a.zst", zstd.compress), PICKLE),
    refused("gzip-in-gzip-of-a-pickle", "any pickle", _packed(
        "a.gz", lambda content: gzip.compress(gzip.compress(content))), PICKLE),
    stopped("gzip-of-two-streams", "several pickles", file("a.gz", lambda marker: gzip.compress(
        b"text\n") + gzip.compress(touching(marker))),
        f"trailing-data malformed unknown-format {PICKLE}"),
    refused("gzip-then-pickle", "containers: valid prefix then pickle", file(
        "a.gz", lambda marker: gzip.compress(b"text\n") + touching(marker)),
        f"trailing-data malformed {PICKLE}"),
    refused("gzip-cut", "containers", file("a.gz", lambda marker: gzip.compress(
        b"text\n" * 50)[:-9]), "truncated malformed bad-checksum"),
)  # fmt: skip
