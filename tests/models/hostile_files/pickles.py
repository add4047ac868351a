"""Pickles under any name: plain, compressed, cut, doubled, and with imports that lists miss."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from tests.models.hostile_files.case import HostileCase, file, refused
from tests.models.hostile_files.payload import calling, imported, line, text, touching

PICKLE = "pickle-content pickle-import"
JOBLIB = "CVE-2024-34997"


def _harmless(marker: Path) -> bytes:
    return pickle.dumps({"weights": [0.5, 1.5]}, 4)


def _several(marker: Path) -> bytes:
    return _harmless(marker) + pickle.dumps([1], 2) + touching(marker, 2)


def _cut(marker: Path) -> bytes:
    return touching(marker)[:-2]


def _broken_after_payload(marker: Path) -> bytes:
    """The call happens before the byte that is no opcode is reached."""
    return touching(marker)[:-1] + b"\xff\xff\xff."


def _frame_that_lies(marker: Path) -> bytes:
    """A frame longer than the stream."""
    content = touching(marker)
    return content[:2] + b"\x95" + (2**40).to_bytes(8, "little") + content[11:]


def _instance(marker: Path) -> bytes:
    """The old opcode INST imports and calls at once."""
    return b"(" + text(str(marker)) + text("w") + b"iio\nopen\n."


def _object(marker: Path) -> bytes:
    """OBJ calls what lies deepest on the stack."""
    return b"\x80\x02(" + imported("io", "open") + text(str(marker)) + text("w") + b"o."


def _through_the_memo(marker: Path) -> bytes:
    """STACK_GLOBAL whose two names come out of the memo."""
    names = text("pathlib") + b"q\x00" + text("Path.touch") + b"q\x01"
    path = imported("pathlib", "PosixPath") + b"(" + text(str(marker)) + b"tR"
    return b"\x80\x04" + names + b"00h\x00h\x01\x93" + path + b"\x85R."


def _registered_extension(marker: Path) -> bytes:
    """EXT1 names a function by a number; which one depends on the program that reads."""
    return b"\x80\x02\x82\x01(" + text(str(marker)) + b"tR."


def _set_state(marker: Path) -> bytes:
    """BUILD hands a state to a class, whose `__setstate__` is a function of its own."""
    made = imported("functools", "partial") + b"(" + imported("io", "open") + b"tR"
    state = b"(" + imported("io", "open") + b"(" + text(str(marker)) + text("w") + b"t}Nt"
    return b"\x80\x02" + made + state + b"b."


def _array_of_objects(marker: Path) -> bytes:
    """What `numpy.save` writes for objects: its own header, then a pickle."""
    stream = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": (1,)}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + touching(marker)


def _numbers() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(3, np.float32))
    return stream.getvalue()


def _arrays_one_of_objects(marker: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("plain.npy", _numbers())
        archive.writestr("objects.npy", _array_of_objects(marker))
    return stream.getvalue()


def _joblib_array(marker: Path) -> bytes:
    """joblib puts the bytes of an array between the opcodes; the payload comes behind them."""
    wrapper = imported("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81}b"
    raw = b"\x10" + bytes(16) + np.arange(64, dtype=np.float64).tobytes()
    return b"\x80\x02(" + wrapper + raw + touching(marker, 2)[2:-1] + b"t."


def _estimator(marker: Path) -> bytes:
    """A scikit-learn estimator with a call among its fields."""
    made = imported("sklearn.linear_model._logistic", "LogisticRegression") + b")\x81}"
    return b"\x80\x02" + made + text("coef_") + touching(marker, 2)[2:-1] + b"sb."


CASES: tuple[HostileCase, ...] = (
    *(
        refused(f"pickle-protocol-{protocol}", "any pickle", file(
            "model.pkl", partial(touching, protocol=protocol)
        ), PICKLE)
        for protocol in range(6)
    ),
    refused("pickle-without-a-call", "any pickle", file("model.pkl", _harmless), PICKLE),
    refused("pickle-named-safetensors", "containers", file("model.safetensors", touching), PICKLE),
    refused("pickle-named-onnx", "any pickle", file("model.onnx", touching), PICKLE),
    refused("pickle-named-json", "CVE-2025-1889", file("config.json", touching), PICKLE),
    refused("pickle-named-png", "CVE-2025-1889", file("picture.png", touching), PICKLE),
    refused("pickle-without-a-name", "CVE-2025-1889, CVE-2025-10155", file("data", touching),
            PICKLE),
    refused("pickle-named-bin", "CVE-2025-10155", file("pytorch_model.bin", touching), PICKLE),
    refused("several-pickles-in-one-stream", "containers", file("a.pkl", _several), PICKLE),
    refused("truncated-pickle", "containers", file("a.pkl", _cut), PICKLE),
    refused("pickle-broken-after-its-payload", "CVE-2026-56304", file(
        "a.pkl", _broken_after_payload), PICKLE),
    refused("pickle-frame-longer-than-the-file", "CVE-2026-56304", file(
        "a.pkl", _frame_that_lies), PICKLE),
    refused("pickle-inst-opcode", "deny-lists", file("a.pkl", _instance), PICKLE),
    refused("pickle-obj-opcode", "deny-lists", file("a.pkl", _object), PICKLE),
    refused("pickle-names-in-the-memo", "deny-lists", file("a.pkl", _through_the_memo), PICKLE),
    refused("pickle-extension-code", "deny-lists", file("a.pkl", _registered_extension), PICKLE),
    refused("pickle-set-state", "deny-lists", file("a.pkl", _set_state), PICKLE),
    refused("pickle-calls-pip", "CVE-2025-1716", file("a.pkl", lambda marker: calling(
        "pip", "main", "--version", "--log", str(marker))), PICKLE, "pip"),
    refused("pickle-calls-a-subclass-of-what-is-listed", "CVE-2025-10157", file(
        "a.pkl", lambda marker: calling("asyncio.unix_events", "_UnixSubprocessTransport", "touch",
                                        str(marker))), PICKLE, "asyncio.unix_events"),
    refused("pickle-calls-a-test-helper", "CVE-2026-56315", file("a.pkl", lambda marker: calling(
        "numpy.testing._private.utils", "runstring", line(marker))), PICKLE, "numpy.testing"),
    refused("pickle-calls-a-profiler", "CVE-2026-56315", file("a.pkl", lambda marker: calling(
        "cProfile", "run", line(marker))), PICKLE, "cProfile"),
    refused("pickle-calls-the-shell", "any pickle", file("a.pkl", lambda marker: calling(
        "posix", "system", f"touch '{marker}'")), PICKLE, "posix"),
    refused("joblib-plain", JOBLIB, file("model.joblib", _joblib_array), PICKLE),
    refused("joblib-zlib", JOBLIB, file("model.joblib", lambda m: zlib.compress(touching(m))),
            PICKLE),
    refused("joblib-gzip", JOBLIB, file("model.joblib", lambda m: gzip.compress(touching(m))),
            PICKLE),
    refused("joblib-bz2", JOBLIB, file("model.joblib", lambda m: bz2.compress(touching(m))),
            PICKLE),
    refused("joblib-xz", JOBLIB, file("model.joblib", lambda m: lzma.compress(touching(m))),
            PICKLE),
    refused("joblib-lzma", JOBLIB, file("model.joblib", lambda m: lzma.compress(
        touching(m), format=lzma.FORMAT_ALONE)), PICKLE),
    refused("numpy-array-of-objects", "CVE-2019-6446", file("a.npy", _array_of_objects), PICKLE),
    refused("numpy-arrays-one-of-objects", "CVE-2019-6446", file(
        "a.npz", _arrays_one_of_objects), PICKLE, "objects.npy"),
    refused("numpy-array-then-pickle", "containers: valid prefix then pickle", file(
        "a.npy", lambda marker: _numbers() + touching(marker)), f"trailing-data {PICKLE}"),
    refused("scikit-learn-estimator", "CVE-2020-13092", file("model.sav", _estimator), PICKLE),
)  # fmt: skip
