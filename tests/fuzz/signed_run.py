"""A run of two files that never changes, and a key to sign it with that is no secret."""

from __future__ import annotations

from pathlib import Path

_SECRET = 0x5EED


def write_signed_run(folder: Path) -> tuple[Path, Path]:
    """Write the run and the public key; returns both paths."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    run, public_key = folder / "run", folder / "public.pem"
    run.mkdir(exist_ok=True)
    (run / "ledger.jsonl").write_bytes(b"")
    (run / "audit.json").write_bytes(b"{}\n")
    public_key.write_bytes(
        ec.derive_private_key(_SECRET, ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return run, public_key


def sign(folder: Path) -> bytes:
    """The signature of that run."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    from auditor.audit.signing import sign_run

    run, _ = write_signed_run(folder)
    private_key, signature = folder / "private.pem", folder / "made.sig"
    private_key.write_bytes(
        ec.derive_private_key(_SECRET, ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
    )
    sign_run(run, private_key, signature)
    return signature.read_bytes()
