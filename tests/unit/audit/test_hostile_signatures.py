"""Signatures and keys of strangers: an answer in one line, and memory in proportion to the file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from auditor.audit import signing
from auditor.audit.signing import MAX_KEY_BYTES, MAX_VALUES, sign_run, verify_run
from auditor.errors import ConfigurationError, FileMissing
from auditor.findings import Verdict
from tests.models.written_run import made_result, write_run

ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
pytest.importorskip("model_signing", reason="auditor[sign] is not installed")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pair of keys; do not write to it."""
    folder = tmp_path_factory.mktemp("keys")
    key, pem = ec.generate_private_key(ec.SECP256R1()), serialization.Encoding.PEM
    plain, form = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    (folder / "pem").write_bytes(key.private_bytes(pem, form, plain))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / "pub").write_bytes(key.public_key().public_bytes(pem, public))
    return folder


@pytest.fixture
def folder(keys: Path, tmp_path: Path) -> Path:
    """A folder with a signed run."""
    write_run(tmp_path / "run", [made_result("AUD201", Verdict.VIOLATED)])
    sign_run(tmp_path / "run", keys / "pem", tmp_path / "run.sig")
    assert verify_run(tmp_path / "run", keys / "pub", tmp_path / "run.sig").valid
    return tmp_path


def problem(folder: Path, keys: Path, content: bytes) -> str:
    """Why a signature of these bytes does not fit, on one short line."""
    (folder / "other.sig").write_bytes(content)
    found = verify_run(folder / "run", keys / "pub", folder / "other.sig")
    assert not found.valid
    assert found.problem.isprintable()
    assert len(found.problem) <= signing.MOST_CHARACTERS
    return found.problem


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"\x00" * 100, b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000,
        b'{"mediaType":' + b"1" * 5_000 + b"}", b'{"mediaType":NaN}', b'{"mediaType":"\\ud800"}',
    ],
    ids=lambda content: str(content[:16]),
)  # fmt: skip
def test_what_is_no_bundle_is_no_signature(folder: Path, keys: Path, content: bytes) -> None:
    """Empty, another kind, deep, of endless digits, no text."""
    assert (
        problem(folder, keys, content) == "it is no signature by an elliptic-curve key, or damaged"
    )


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("dsseEnvelope", None), ("dsseEnvelope", []), ("dsseEnvelope.payload", "!!"),
        ("dsseEnvelope.payload", ""), ("dsseEnvelope.payload", 7),
        ("dsseEnvelope.signatures", []), ("dsseEnvelope.signatures", [{"sig": "", "keyid": ""}]),
        ("dsseEnvelope.payloadType", "text/html"), ("verificationMaterial", {}),
        ("verificationMaterial.tlogEntries", [{}] * 9), ("mediaType", 5), ("unknown", 1),
    ],
)  # fmt: skip
def test_a_bundle_with_another_part_does_not_fit(
    folder: Path, keys: Path, place: str, value: object
) -> None:
    """Each part missing, empty or of another type."""
    whole: Any = json.loads((folder / "run.sig").read_text())
    *parents, last = place.split(".")
    part = whole
    for name in parents:
        part = part[name]
    part[last] = value
    assert problem(folder, keys, json.dumps(whole).encode())


def test_a_bundle_of_many_values_is_not_parsed(
    folder: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bytes would become a hundred; the library is never asked."""
    from model_signing import verifying

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(verifying.Config, "verify", fail)
    content = b'{"mediaType":[' + b"[]," * MAX_VALUES + b"[]]}"
    assert "no signature" in problem(folder, keys, content)


@pytest.mark.parametrize("half", ["public", "private"])
def test_a_key_that_is_no_file_of_a_key_is_named(folder: Path, keys: Path, half: str) -> None:
    """A pipe, a folder, an endless device, a file that is larger than any key."""
    os.mkfifo(folder / "pipe")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "large").write_bytes((keys / "pub").read_bytes() + b"\n" * MAX_KEY_BYTES)

    def use(key: Path) -> None:
        if half == "public":
            verify_run(folder / "run", key, folder / "run.sig")
        else:
            sign_run(folder / "run", key, folder / "new.sig")

    for name in ("pipe", "zero", ".", "none", "a\0b"):
        with pytest.raises(FileMissing, match="key not found"):
            use(folder / name)
    with pytest.raises(ConfigurationError, match=f"no {half} key"):
        use(folder / "large")


@pytest.mark.parametrize("name", ["file", "folder"])
def test_a_link_in_a_run_is_not_followed(folder: Path, keys: Path, name: str) -> None:
    """To a file and to a folder; neither is read, and the answer names it."""
    (folder / "home").mkdir()
    (folder / "home" / "file").write_text("x")
    (folder / "run" / name).symlink_to(folder / "home" / ("file" if name == "file" else "."))
    found = verify_run(folder / "run", keys / "pub", folder / "run.sig")
    assert "link" in found.problem
    with pytest.raises(ConfigurationError, match="link"):
        sign_run(folder / "run", keys / "pem", folder / "new.sig")
    assert not (folder / "new.sig").exists()


def test_a_name_with_an_escape_is_spelt_out(folder: Path, keys: Path) -> None:
    """A file that was added may be called anything."""
    (folder / "run" / 'x\n\x1b[31m"], [evil').write_text("a")
    found = verify_run(folder / "run", keys / "pub", folder / "run.sig")
    assert "Extra files" in found.problem
    assert found.problem.isprintable()
