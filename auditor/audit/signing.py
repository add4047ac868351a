"""Signing a run's folder with an elliptic-curve key, and checking the signature; offline.

The format is that of OpenSSF Model Signing: a Sigstore bundle that holds the SHA-256 of every
file of the folder. Nothing is left out of it, so a file that was changed, removed or added
breaks the signature. The signature lies beside the folder, never in it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from auditor.audit.run_directory import REPORT, open_run
from auditor.bounded_json import UnreadableJson, parse_json
from auditor.errors import ConfigurationError, FileMissing, MissingExtra
from auditor.files import read_file, write_atomically

if TYPE_CHECKING:
    from model_signing import hashing

MAX_SIGNATURE_BYTES = 256_000_000
MAX_KEY_BYTES = 65_536
# A bundle has a dozen; what it says of a run's files is one text, read once its key has shown
# that the run's signer wrote it.
MAX_VALUES = 1_000
MOST_CHARACTERS = 500
SUFFIX = ".sig"
_NO_SIGNATURE = "it is no signature by an elliptic-curve key, or damaged"
_DIFFERENCES = re.compile(
    r"((?:Extra|Missing) files .*?|Hash mismatch for .*?)(?=: Expected|[\"'][,\]])"
)


@dataclass(frozen=True)
class Verification:
    """Whether a signature fits a folder.

    Attributes:
        problem: Why it does not, as one line; empty where it does.
        files: How many files it covers.
    """

    problem: str
    files: int

    @property
    def valid(self) -> bool:
        """Whether it fits."""
        return not self.problem


def signature_path(run: Path) -> Path:
    """Where a run's signature lies unless another file is named: beside the folder."""
    whole = run.resolve()
    return whole.with_name(whole.name + SUFFIX)


def sign_run(run: Path, private_key: Path, signature: Path) -> int:
    """Sign every file of a run; returns how many.

    Args:
        run: The run's folder.
        private_key: PEM, unencrypted, on the curve P-256, P-384 or P-521.
        signature: The file to write.

    Raises:
        MissingExtra: The library is not installed.
        FileMissing: There is no run, no report in it, or no key.
        ConfigurationError: The key cannot be used, the signature exists or would lie in the
            folder, or the folder holds links.
    """
    _require_library()
    open_run(run)
    if not (run / REPORT).is_file():
        raise FileMissing(run / REPORT, "report of the run")
    _check_place(run, signature)
    if signature.exists() or signature.is_symlink():
        raise ConfigurationError(f"{signature} exists; remove it, or name another --signature")
    odd, count = _survey(run)
    if odd:
        raise ConfigurationError(f"{odd} in a run cannot be signed; remove it")
    _require_key(private_key, "private")
    from model_signing import signing

    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "signature"
        try:
            config = signing.Config().use_elliptic_key_signer(private_key=private_key)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, AttributeError) as error:
            raise _bad_key(private_key, "private", error) from None
        config.set_hashing_config(_every_file()).sign(run, made)
        write_atomically(signature, made.read_bytes())
    return count


def verify_run(run: Path, public_key: Path, signature: Path) -> Verification:
    """Check that a run is, file for file, what was signed.

    Args:
        run: The run's folder.
        public_key: PEM, the other half of the key it was signed with.
        signature: The signature.

    Raises:
        MissingExtra: The library is not installed.
        FileMissing: There is no such folder, key or signature.
        ConfigurationError: The key cannot be used, or the signature lies in the folder.
    """
    _require_library()
    if not run.is_dir():
        raise FileMissing(run, "run")
    _check_place(run, signature)
    _require_key(public_key, "public")
    _require_file(signature, "signature")
    odd, count = _survey(run)
    if odd:
        return Verification(f"{odd} was not signed", count)
    if signature.stat().st_size > MAX_SIGNATURE_BYTES:
        return Verification(f"a signature has at most {MAX_SIGNATURE_BYTES:,} bytes", count)
    if not _is_bundle(signature):
        return Verification(_NO_SIGNATURE, count)
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying

    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, AttributeError) as error:
        raise _bad_key(public_key, "public", error) from None
    config.set_hashing_config(_every_file())
    try:
        # The library warns on stdout, which is for data.
        with contextlib.redirect_stdout(io.StringIO()):
            config.verify(run, signature)
    except InvalidSignature:
        return Verification("it was made with another key, or altered", count)
    except (
        ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError,
    ) as error:  # fmt: skip
        return Verification(_problem(error), count)
    return Verification("", count)


def _problem(error: Exception) -> str:
    """The library's message without digests, or that the file is no signature at all."""
    text = str(error)
    if text.startswith("Key mismatch"):
        return "it was made with another key"
    if text.startswith("Signature mismatch"):
        found = _DIFFERENCES.findall(text)
        return "; ".join(found)[:MOST_CHARACTERS] or "the files are not those that were signed"
    return _NO_SIGNATURE


def _is_bundle(signature: Path) -> bool:
    """Whether it is JSON with so few values that reading it takes no more than its own size."""
    content = read_file(signature, "signature", MAX_SIGNATURE_BYTES)
    try:
        parse_json(content, most_values=MAX_VALUES)
    except UnreadableJson:
        return False
    return True


def _every_file() -> hashing.Config:
    """Hashing that leaves nothing out, whatever a signature asks for."""
    from model_signing import hashing

    class EveryFile(hashing.Config):
        def add_ignored_paths(self, **_: object) -> None:
            """A signature has no say in what need not be signed."""

    config = EveryFile()  # type: ignore[no-untyped-call]
    config.use_file_serialization(hashing_algorithm="sha256", allow_symlinks=False)
    config.set_ignored_paths(paths=[], ignore_git_paths=False)
    return config


def _survey(run: Path) -> tuple[str, int]:
    """The first link or special file, and the number of files."""
    count = 0
    for parent, folders, names in os.walk(run, followlinks=False):
        for name in sorted(folders):
            if (Path(parent) / name).is_symlink():
                return f"the link {Path(parent) / name}", count
        for name in sorted(names):
            path = Path(parent) / name
            if path.is_symlink():
                return f"the link {path}", count
            if not path.is_file():
                return f"the special file {path}", count
            count += 1
    return "", count


def _check_place(run: Path, signature: Path) -> None:
    if signature.resolve().is_relative_to(run.resolve()):
        raise ConfigurationError(
            f"{signature} lies in the run it would sign; name a file outside with --signature"
        )


def _require_file(path: Path, role: str) -> None:
    if not path.is_file():
        raise FileMissing(path, role)


def _require_key(path: Path, half: str) -> None:
    _require_file(path, f"{half} key")
    if path.stat().st_size > MAX_KEY_BYTES:
        raise _bad_key(path, half)


def _require_library() -> None:
    try:
        import model_signing  # noqa: F401 - only whether it and what it imports are there
    except ModuleNotFoundError as error:
        raise MissingExtra("sign", error.name or "model_signing", "a signature") from None


def _bad_key(path: Path, half: str, error: Exception | None = None) -> ConfigurationError:
    # What the library says may quote the key.
    problem = "is encrypted" if isinstance(error, TypeError) else f"is no {half} key for signing"
    return ConfigurationError(
        f"{path} {problem}; give an unencrypted PEM file on the curve P-256, P-384 or P-521"
    )
