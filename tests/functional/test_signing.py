"""Signing a run and verifying it: whatever is touched breaks the signature."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.findings import Verdict
from tests.functional.command import auditor
from tests.models.written_run import made_result, write_run

ec = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ec")
serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
pytest.importorskip("model_signing", reason="auditor[sign] is not installed")


def write_keys(folder: Path, name: str) -> None:
    """A new pair of keys, NAME.pem and NAME.pub."""
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / f"{name}.pem").write_bytes(key.private_bytes(pem, form, plain))
    public = serialization.PublicFormat.SubjectPublicKeyInfo
    (folder / f"{name}.pub").write_bytes(key.public_key().public_bytes(pem, public))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with keys and a signed run; do not write to it."""
    folder = tmp_path_factory.mktemp("signed")
    write_run(folder / "run", [made_result("AUD201", Verdict.VIOLATED)])
    write_keys(folder, "ours")
    write_keys(folder, "theirs")
    assert auditor("runs", "sign", "run", "--private-key", "ours.pem", cwd=folder).code == 0
    return folder


@pytest.fixture
def folder(signed: Path, tmp_path: Path) -> Path:
    """A copy of it that may be written to."""
    return Path(shutil.copytree(signed, tmp_path / "copy"))


def test_the_command_says_that_a_signature_fits(folder: Path) -> None:
    """Also where the run was moved, and its signature is named."""
    (folder / "run").rename(folder / "moved")
    verify = ("runs", "verify", "moved", "--public-key", "ours.pub")
    ended = auditor(*verify, "--signature", "run.sig", cwd=folder)
    files = [path for path in (folder / "moved").rglob("*") if path.is_file()]
    assert (ended.code, f"fits, {len(files)} files" in ended.out) == (0, True)
    missing = auditor(*verify, cwd=folder)
    assert (missing.code, "signature not found" in missing.err) == (2, True)


def _append(run: Path) -> None:
    with (run / "ledger.jsonl").open("a") as file:
        file.write("\n")


def _alter_evidence(run: Path) -> None:
    (file,) = (path for path in (run / "evidence").rglob("*") if path.is_file())
    file.write_bytes(b"other evidence")


TAMPERINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file": (_append, "ledger.jsonl"),
    "evidence": (_alter_evidence, "evidence/"),
    "the report": (lambda run: (run / "audit.json").write_text("{}"), "audit.json"),
    "removed": (lambda run: (run / "plan.yaml").unlink(), "plan.yaml"),
    "added": (lambda run: (run / "evidence" / "more").write_text("x"), "evidence/more"),
    "added for git": (lambda run: (run / ".gitignore").write_text("*"), ".gitignore"),
    "linked": (lambda run: (run / "link").symlink_to(run / "plan.yaml"), "link"),
}


@pytest.mark.parametrize("what", sorted(TAMPERINGS))
def test_whatever_is_touched_is_found(folder: Path, what: str) -> None:
    """The file is named."""
    from auditor.audit.signing import verify_run

    tamper, name = TAMPERINGS[what]
    keys = folder / "ours.pub", folder / "run.sig"
    assert verify_run(folder / "run", *keys).valid
    tamper(folder / "run")
    found = verify_run(folder / "run", *keys)
    assert (found.valid, name in found.problem) == (False, True)


def test_the_command_fails_where_it_does_not_fit(folder: Path) -> None:
    """With exit code 1 and the file's name."""
    (folder / "run" / "added").write_text("x")
    ended = auditor("runs", "verify", "run", "--public-key", "ours.pub", cwd=folder)
    assert (ended.code, "Extra files found" in ended.err, "added" in ended.err) == (1, True, True)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "null", '{"dsseEnvelope": {}}'])
def test_a_file_that_is_no_signature_does_not_fit(folder: Path, content: str) -> None:
    """Nor does it end in a traceback."""
    from auditor.audit.signing import verify_run

    (folder / "run.sig").write_text(content)
    found = verify_run(folder / "run", folder / "ours.pub", folder / "run.sig")
    assert found.problem == "it is no signature by an elliptic-curve key, or damaged"


def test_a_signature_by_another_key_or_an_altered_one_does_not_fit(folder: Path) -> None:
    """One bit of it is enough."""
    import base64
    import json

    from auditor.audit.signing import verify_run

    run, signature = folder / "run", folder / "run.sig"
    assert verify_run(run, folder / "theirs.pub", signature).problem == (
        "it was made with another key"
    )
    bundle = json.loads(signature.read_text())
    payload = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload + b" ").decode()
    signature.write_text(json.dumps(bundle))
    assert verify_run(run, folder / "ours.pub", signature).problem == (
        "it was made with another key, or altered"
    )


def test_what_cannot_be_signed_is_refused_in_one_line(folder: Path) -> None:
    """A wrong key, a signature that is there or would lie in the run, a link, no run."""
    from auditor.audit.signing import sign_run
    from auditor.errors import ConfigurationError

    run, key, new = folder / "run", folder / "ours.pem", folder / "new.sig"
    (folder / "odd").write_text("no key")
    for arguments, part in (
        ((run, folder / "odd", new), "is no private key"),
        ((run, folder / "ours.pub", new), "is no private key"),
        ((run, folder / "none", new), "private key not found"),
        ((run, key, folder / "run.sig"), "exists; remove it"),
        ((run, key, run / "evidence" / "sig"), "lies in the run"),
        ((folder, key, new), "run not found"),
    ):
        with pytest.raises(ConfigurationError, match=part):
            sign_run(*arguments)
    (run / "link").symlink_to("/")
    with pytest.raises(ConfigurationError, match=r"the link .* cannot be signed"):
        sign_run(run, key, new)
    assert not new.exists()


def test_an_encrypted_key_is_told_apart_and_never_quoted(folder: Path) -> None:
    """What is wrong with it is one line."""
    from auditor.audit.signing import sign_run
    from auditor.errors import ConfigurationError

    key = ec.generate_private_key(ec.SECP256R1())
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    locked = serialization.BestAvailableEncryption(b"secret")
    (folder / "locked.pem").write_bytes(key.private_bytes(pem, form, locked))
    with pytest.raises(ConfigurationError, match=r"locked\.pem is encrypted; give an unencrypted"):
        sign_run(folder / "run", folder / "locked.pem", folder / "new.sig")


def test_without_the_library_the_way_out_is_one_line(folder: Path, tmp_path: Path) -> None:
    """It is an extra."""
    hidden = tmp_path / "hidden" / "model_signing"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError(name='model_signing')\n")
    path = os.pathsep.join([str(hidden.parent), os.environ.get("PYTHONPATH", "")])
    ended = auditor(
        "runs", "verify", "run", "--public-key", "ours.pub", cwd=folder, env={"PYTHONPATH": path}
    )
    assert (ended.code, ended.err) == (
        2, "auditor: a signature needs model_signing, which is not installed; install "
        "auditor[sign]\n",
    )  # fmt: skip
