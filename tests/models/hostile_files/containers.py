"""Zips that lie about what they hold, lead out of their folder, or grow when they are read."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

from tests.models.hostile_files.case import Builder, HostileCase, file, refused, stopped
from tests.models.hostile_files.payload import touching
from tests.models.hostile_files.weights import sound
from tests.models.packed import zipped
from tests.models.zip_bytes import Packed, pack_zip

PICKLE = "pickle-content pickle-import"
NAME = "path-like-name member-name link-escape zip-structure container traversal"
BOMB = "inflation-ratio size-limit"
_CENTRAL, _LOCAL, _END = b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"
_LOCAL_BYTES, _END_BYTES = 30, 22
LARGE = 96 * 2**20  # inflated bytes of a bomb, more than a scan lets through unasked
_COPIES = 400


def _changed(content: bytes, magic: bytes, at: int, put: bytes) -> bytes:
    """The archive with bytes of its first header of a kind replaced."""
    start = content.index(magic) + at
    return content[:start] + put + content[start + len(put) :]


def _plain(marker: Path) -> bytes:
    return zipped({"note.txt": b"sound and readable, " * 20})


def _bad_checksum(marker: Path) -> bytes:
    """A wrong CRC stops readers that check it; torch and others do not."""
    content = zipped({"archive/data.pkl": touching(marker, 2)})
    return _changed(_changed(content, _LOCAL, 14, b"\0\0\0\1"), _CENTRAL, 16, b"\0\0\0\1")


def _bad_checksum_of_text(marker: Path) -> bytes:
    content = _plain(marker)
    return _changed(_changed(content, _LOCAL, 14, b"\0\0\0\1"), _CENTRAL, 16, b"\0\0\0\1")


def _flag_of_a_pickle(marker: Path) -> bytes:
    """The flag for encryption, set on a member that is not encrypted: readers give up on it."""
    content = zipped({"archive/data.pkl": touching(marker, 2)})
    return _changed(_changed(content, _LOCAL, 6, b"\x01"), _CENTRAL, 8, b"\x01")


def _encrypted(marker: Path) -> bytes:
    """Bytes that nobody can read without the password."""
    content = zipped({"weights.dat": bytes(range(7, 250)) * 2})
    return _changed(_changed(content, _LOCAL, 6, b"\x01"), _CENTRAL, 8, b"\x01")


def _two_names(marker: Path) -> bytes:
    """The header before the member and the list at the end disagree about its name."""
    content = zipped({"archive/data.pkl": touching(marker, 2)})
    return _changed(content, _LOCAL, _LOCAL_BYTES, b"archive/data.txt")


def _two_sizes(marker: Path) -> bytes:
    """They disagree about how long it is."""
    return _changed(_plain(marker), _LOCAL, 22, struct.pack("<I", 7))


def _hidden_member(marker: Path) -> bytes:
    """A pickle that the list at the end leaves out."""
    hidden = zipped({"data.pkl": touching(marker, 2)})
    before = hidden[: hidden.index(_CENTRAL)]
    content = _plain(marker)
    shift = len(before)
    moved = _changed(content, _CENTRAL, 42, struct.pack("<I", shift))
    start = struct.unpack("<I", moved[-6:-2])[0]
    return before + moved[:-6] + struct.pack("<I", start + shift) + moved[-2:]


def _count_that_lies(marker: Path) -> bytes:
    return _changed(_plain(marker), _END, 8, struct.pack("<HH", 60_000, 60_000))


def _same_name_twice(marker: Path) -> bytes:
    """Which of the two is read depends on the reader."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.txt", b"sound")
        archive.writestr("b.txt", b"other")
    return stream.getvalue().replace(b"b.txt", b"a.txt")


def _overlapping(marker: Path) -> bytes:
    """One member that the list names hundreds of times: it grows with each."""
    content = zipped({"a.txt": bytes(2**20)}, zipfile.ZIP_DEFLATED)
    listed = content[content.index(_CENTRAL) : -_END_BYTES]
    local = content[: content.index(_CENTRAL)]
    copies = b"".join(
        listed.replace(b"a.txt", f"{number:05}".encode()) for number in range(_COPIES)
    )
    end = struct.pack("<4s4H2IH", _END, 0, 0, _COPIES, _COPIES, len(copies), len(local), 0)
    return local + copies + end


def _zip_bomb(marker: Path) -> bytes:
    return zipped({"weights.dat": bytes(LARGE)}, zipfile.ZIP_DEFLATED)


def _linked(marker: Path) -> bytes:
    """A member that is a symbolic link out of the folder."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.create_system = 3
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "../../outside/secret.bin")
    return stream.getvalue()


def _comment_that_is_a_zip(marker: Path) -> bytes:
    """From the front a zip with a long comment, from the end another zip behind a prefix."""
    evil, plain = zipped({"data.pkl": touching(marker, 2)}), _plain(marker)
    return evil[:-2] + struct.pack("<H", len(plain)) + plain


def _nested(marker: Path) -> bytes:
    content = touching(marker, 2)
    for level in range(2):
        content = zipped({f"level{level}.zip": content})
    return content


def _too_nested(marker: Path) -> bytes:
    content = sound(marker)
    for level in range(12):
        content = zipped({f"level{level}.zip": content})
    return content


def _member(name: str) -> Builder:
    return file("a.zip", lambda marker: zipped({name: b"text\n"}))


CASES: tuple[HostileCase, ...] = (
    refused("zip-of-a-pickle-with-a-bad-checksum", "CVE-2025-10156, containers: bad CRC", file(
        "a.zip", _bad_checksum), f"bad-checksum {PICKLE}", "data.pkl"),
    refused("zip-with-a-bad-checksum", "containers: bad CRC", file("a.zip", _bad_checksum_of_text),
            "bad-checksum", "note.txt"),
    refused("zip-flag-on-a-pickle", "CVE-2025-1945, containers: flags", file(
        "model.pt", _flag_of_a_pickle), f"encrypted {PICKLE} zip-structure", "data.pkl"),
    stopped("zip-encrypted", "containers: flags", file("a.zip", _encrypted), "encrypted",
              "weights.dat"),
    refused("zip-two-names", "CVE-2025-1944", file("model.pt", _two_names),
            f"zip-structure {PICKLE}", "data."),
    refused("zip-two-sizes", "CVE-2025-1944", file("a.zip", _two_sizes), "zip-structure",
            "note.txt"),
    refused("zip-hidden-member", "CVE-2025-1944", file("a.zip", _hidden_member),
            f"zip-structure trailing-data {PICKLE}"),
    refused("zip-count-that-lies", "containers", file("a.zip", _count_that_lies),
            "zip-structure truncated malformed"),
    refused("zip-same-name-twice", "containers", file("a.zip", _same_name_twice),
            "zip-structure duplicate-name duplicate-member", "a.txt"),
    refused("zip-bomb-of-overlaps", "zip bomb", file("a.zip", _overlapping),
            f"zip-structure member-overlap {BOMB}"),
    refused("zip-bomb", "zip bomb", file("a.zip", _zip_bomb), BOMB, "weights.dat"),
    refused("zip-link", "containers", file("a.zip", _linked),
            "link-escape zip-structure symbolic-link", "link"),
    refused("zip-member-in-the-parent", "containers", _member("../../evil.txt"), NAME,
            "../../evil.txt"),
    refused("zip-member-absolute", "containers", _member("/etc/evil.txt"), NAME, "/etc/evil.txt"),
    refused("zip-member-with-backslashes", "containers", _member("..\\..\\evil.txt"), NAME,
            "evil.txt"),
    refused("zip-member-with-nul", "CVE-2025-1944, text: NUL", file("a.zip", lambda marker: zipped({
        "dataQtxt": b"text\n"}).replace(b"dataQtxt", b"data\0txt")), "control-character", "\\x00"),
    refused("zip-member-with-escape", "text: ESC", _member("a\x1b[2J.txt"), "control-character",
            "\\x1b"),
    refused("zip-in-its-own-comment", "containers", file("a.zip", _comment_that_is_a_zip),
            f"zip-structure trailing-data polyglot {PICKLE}"),
    refused("zip-in-zip-of-a-pickle", "also inside zip", file("a.zip", _nested), PICKLE, "level0"),
    stopped("zip-nested-too-deep", "nesting", file("a.zip", _too_nested),
            "nesting-limit container"),
    refused("zip-of-lzma", "also inside zip", file("a.zip", lambda marker: zipped(
        {"a.pkl": touching(marker)}, zipfile.ZIP_LZMA)), PICKLE, "a.pkl"),
    stopped("zip-of-another-method", "nothing skipped is called clean", file(
        "a.zip", lambda marker: pack_zip([Packed(b"a.pkl", touching(marker), method=98)])),
        "container", "a.pkl"),
    refused("zip-behind-a-prefix", "containers: valid prefix then pickle", file(
        "a.txt", lambda marker: b"Read me.\n" + zipped({"data.pkl": touching(marker, 2)})),
        f"trailing-data zip-structure container polyglot {PICKLE}"),
    refused("zip-then-pickle", "containers: valid prefix then pickle", file(
        "a.zip", lambda marker: _plain(marker) + touching(marker)),
        f"trailing-data zip-structure {PICKLE}"),
    stopped("7z", "containers: 7z", file("a.7z", lambda marker: b"7z\xbc\xaf\x27\x1c\0\4" + bytes(
        24)), "container unknown-format"),
    stopped("rar", "containers", file("a.rar", lambda marker: b"Rar!\x1a\x07\x01\0" + bytes(
        24)), "container unknown-format"),
)  # fmt: skip
