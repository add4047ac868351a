"""Hypothesis strategies of pickles, archives and GGUF files, nearly as they should be."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from typing import Final

from hypothesis import strategies as st

_LONG = st.one_of(
    st.integers(0, 5), st.sampled_from([127, 128, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1])
)
_WORDS = st.sampled_from(["", "a", "llama", "{{ messages }}", "é", "\0"])


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """The bytes with up to three of them changed, sometimes cut or followed by more."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.integers(0, 9)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    if draw(st.integers(0, 9)) == 0:
        data += draw(st.binary(max_size=20))
    return bytes(data)


_NAMES = st.sampled_from(
    ["os", "path", "collections", "OrderedDict", "torch._utils", "é", "", "a b"]
)
_CHUNKS: Final[st.SearchStrategy[bytes]] = st.one_of(
    st.sampled_from([
        b"(", b".", b"0", b"1", b"2", b"N", b"\x88", b"\x89", b"K\x01", b"]", b"}", b")", b"\x8f",
        b"a", b"e", b"s", b"u", b"t", b"\x85", b"\x86", b"\x87", b"R", b"b", b"\x81", b"\x92",
        b"\x93", b"\x94", b"o", b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"r\x02\0\0\0",
        b"j\x02\0\0\0", b"p1\n", b"g1\n", b"Q", b"Pid\n", b"I1\n", b"I01\n", b"F1.5\n",
        b"L5L\n", b"\x8a\x01\x05", b"\x80\x02", b"\x80\x04", b"\x82\x01", b"\x90", b"\x91",
        b"\x97", b"\x98", b"l", b"d",
        b"\x95\x03\0\0\0\0\0\0\0", b"S'a'\n", b"Va\n", b"J\x01\0\0\0", b"M\x01\0", b"G" + bytes(8),
    ]),
    st.builds(lambda m, n: f"c{m}\n{n}\n".encode(), _NAMES, _NAMES),
    st.builds(lambda m, n: f"i{m}\n{n}\n".encode(), _NAMES, _NAMES),
    st.builds(lambda n: b"\x8c" + bytes([len(n.encode())]) + n.encode(), _NAMES),
    st.builds(lambda n: b"X" + struct.pack("<I", len(n.encode())) + n.encode(), _NAMES),
    st.builds(lambda n: b"U" + bytes([len(n.encode())]) + n.encode(), _NAMES),
    st.builds(lambda n: b"V" + n.encode("raw_unicode_escape") + b"\n", _NAMES),
    st.builds(lambda n: b"S'" + n.encode() + b"'\n", _NAMES),
)  # fmt: skip


@st.composite
def pickles(draw: st.DrawFn) -> bytes:
    """Opcodes with their arguments, in any order; often a call of an import comes out."""
    parts = draw(st.lists(_CHUNKS, max_size=12))
    if draw(st.booleans()):
        first, second = draw(_NAMES), draw(_NAMES)
        texts = [b"\x8c" + bytes([len(n.encode())]) + n.encode() for n in (first, second)]
        parts += draw(st.sampled_from([
            [*texts, b"\x93)R"], [texts[0], b"\x94", texts[1], b"\x94", b"h\x00h\x01\x93"],
            [texts[1], b"q\x05", texts[0], b"h\x05\x93"], [texts[0], b"2", b"\x93"],
        ]))  # fmt: skip
    return b"".join([*parts, b"."]) + draw(st.sampled_from([b"", b"", b"\0\0", b"K\x01."]))


_TORCH_NAMES = st.sampled_from([
    b"ctorch\nFloatStorage\n", b"ctorch\nBoolStorage\n", b"ctorch.storage\nUntypedStorage\n",
    b"ctorch._utils\n_rebuild_tensor\n", b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_tensor_v3\n", b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch\nSize\n", b"ctorch\nfloat32\n", b"ctorch\nuint16\n", b"ctorch\ndevice\n",
    b"ccollections\nOrderedDict\n", b"c_codecs\nencode\n",
])  # fmt: skip
_COUNTS = st.integers(0, 5).map(lambda count: b"K" + bytes([count]))
_KEYS = st.sampled_from([b"X\x01\0\0\0w", b"X\x01\0\0\0v", b"X\x01\0\0\00"])
_AXES = st.lists(_COUNTS, max_size=3).map(lambda counts: b"(" + b"".join(counts) + b"t")
_STORAGES = st.builds(
    lambda kind, key, count: (
        b"(X\x07\0\0\0storage" + kind + key + b"X\x03\0\0\0cpu" + count + b"tQ"
    ),
    _TORCH_NAMES, _KEYS, _COUNTS,
)  # fmt: skip
_TENSORS = st.builds(
    lambda maker, storage, offset, shape, strides, rest: (
        maker + b"(" + storage + offset + shape + strides + rest + b"tR"
    ),
    _TORCH_NAMES, _STORAGES, _COUNTS, _AXES, _AXES,
    st.sampled_from([b"", b"\x89}", b"\x89}N", b"\x89ccollections\nOrderedDict\n)R",
                     b"\x89}ctorch\nuint16\n", b"\x89}ctorch\nuint16\nN"]),
)  # fmt: skip


@st.composite
def pickled_weights(draw: st.DrawFn) -> bytes:
    """A mapping of names to tensors that are nearly right, and to other values."""
    items = draw(st.lists(st.tuples(_KEYS, st.one_of(_TENSORS, _TENSORS, _CHUNKS)), max_size=3))
    return b"\x80\x02}(" + b"".join(key + value for key, value in items) + b"u."


_MEMBER_NAMES = st.sampled_from([
    "a", "b.txt", "inner/c", "inner/", "data.pkl", "../up", "/root", "a", "é", "c:\\d", "x" * 90,
    "config.json", "m/data/0", "m/version", "n\nl",
])  # fmt: skip
_CONTENTS = st.one_of(
    st.binary(max_size=40), st.sampled_from([b"0" * 300, b"\x80\x04K\x01.", b"{}"])
)


@st.composite
def zip_files(draw: st.DrawFn) -> bytes:
    """Members by several names and methods."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        names = draw(st.lists(_MEMBER_NAMES, max_size=4, unique=True))
        for name in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = draw(st.sampled_from([0, 0o100644 << 16, 0o120777 << 16]))
            info.compress_type = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
            wide = draw(st.booleans())
            with archive.open(info, "w", force_zip64=wide) as member:
                member.write(b"" if name.endswith("/") else draw(_CONTENTS))
    return written.getvalue()


@st.composite
def tar_files(draw: st.DrawFn) -> bytes:
    """Members by several names, layouts and kinds."""
    written = io.BytesIO()
    layout = draw(st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
    with tarfile.TarFile(fileobj=written, mode="w", format=layout) as archive:
        for name in draw(st.lists(_MEMBER_NAMES, max_size=3)):
            member = tarfile.TarInfo(name)
            member.type = draw(st.sampled_from([tarfile.REGTYPE] * 4 + [tarfile.SYMTYPE,
                               tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]))  # fmt: skip
            content = draw(_CONTENTS) if member.type == tarfile.REGTYPE else b""
            member.size, member.linkname = len(content), draw(_MEMBER_NAMES) if not content else ""
            archive.addfile(member, io.BytesIO(content))
        end = archive.offset
    return written.getvalue()[: end + draw(st.sampled_from([1024, 1024, 512, 0, 2048]))]


_GGUF_KEYS = st.sampled_from(["general.architecture", "general.alignment", "a.b", "A", "é",
                              "tokenizer.chat_template", "tokenizer.chat_template.x"])  # fmt: skip
_SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


@st.composite
def gguf_files(draw: st.DrawFn) -> bytes:
    """Keys of every type, and tensors whose offsets mostly follow each other."""
    order = draw(st.sampled_from("<<<>"))
    pairs = [draw(_gguf_text(order, _GGUF_KEYS)) + draw(_gguf_value(order, 0))
             for _ in range(draw(st.integers(0, 4)))]  # fmt: skip
    tensors, at = [], 0
    for number in range(draw(st.integers(0, 3))):
        dims = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
        count = 4
        for axis in dims:
            count *= axis
        offset = at if draw(st.integers(0, 7)) else draw(_LONG)
        name = struct.pack(f"{order}Q", 2) + f"t{number}".encode()
        kind = draw(st.sampled_from([0, 0, 0, 1, 8, 99]))
        tensors.append(
            name + struct.pack(f"{order}I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        )
        at = -(-(at + count) // 32) * 32
    counts = (len(tensors), len(pairs)) if draw(st.integers(0, 7)) else (draw(_LONG), draw(_LONG))
    head = b"GGUF" + struct.pack(f"{order}IQQ", draw(st.sampled_from([3, 3, 2, 1, 4])), *counts)
    whole = head + b"".join(pairs) + b"".join(tensors)
    return whole.ljust(-(-len(whole) // 32) * 32, b"\0") + bytes(at)


@st.composite
def _gguf_text(draw: st.DrawFn, order: str, words: st.SearchStrategy[str]) -> bytes:
    text = draw(words).encode()
    length = len(text) if draw(st.integers(0, 15)) else draw(_LONG)
    return struct.pack(f"{order}Q", length) + text


@st.composite
def _gguf_value(draw: st.DrawFn, order: str, depth: int) -> bytes:
    kind = draw(st.sampled_from([*_SIZES, 8, 8, 9 if depth < 2 else 8, 13]))
    head = struct.pack(f"{order}I", kind)
    if kind == 8:
        return head + draw(_gguf_text(order, _WORDS))
    if kind == 9:
        inner = draw(st.sampled_from(sorted(_SIZES)))
        count = draw(st.integers(0, 3))
        return head + struct.pack(f"{order}IQ", inner, count) + bytes(_SIZES[inner] * count)
    return head + draw(st.binary(min_size=_SIZES.get(kind, 0), max_size=_SIZES.get(kind, 0)))
