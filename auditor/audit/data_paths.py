"""Files and folders that a check's parameters name: found, told apart and digested."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from auditor.check import CheckParams, path_parameters
from auditor.errors import ConfigurationError, FileMissing
from auditor.folders import folder_digest
from auditor.models.digest import file_digest


def locate_files(
    params: CheckParams, folder: Path, code: str, digests: dict[Path, str] | None = None
) -> tuple[CheckParams, dict[str, str]]:
    """Parameters with every path made absolute, and each digest by field name.

    Args:
        params: The parameters.
        folder: Where relative paths start.
        code: The check, for messages.
        digests: Digests of folders that are known already, by absolute path; added to.

    Raises:
        FileMissing: A file or folder does not exist.
        ConfigurationError: There is a folder where a file belongs, or the other way round.
        RefusedFolder: A folder holds links that leave it, or what is no file.
    """
    known = {} if digests is None else digests
    located: dict[str, Path] = {}
    found: dict[str, str] = {}
    for name, kind in path_parameters(type(params)).items():
        value = getattr(params, name)
        if value is None:
            continue
        path = (folder / value).resolve()
        _check_path(folder / value, path, kind, f"{code} ({name})")
        located[name] = path
        if kind == "file":
            found[name] = file_digest(path)
        else:
            known[path] = found[name] = known.get(path) or folder_digest(path)
    return params.model_copy(update=located), found


def _check_path(named: Path, path: Path, kind: Literal["file", "folder"], place: str) -> None:
    if path.is_dir() if kind == "folder" else path.is_file():
        return
    if not path.exists():
        raise FileMissing(named, f"{kind} of {place}")
    if kind == "folder":
        raise ConfigurationError(f"{place} takes a folder, and {named} is none; name the folder")
    raise ConfigurationError(
        f"{place} takes a file, and {named} is {'a folder' if path.is_dir() else 'none'}; "
        "name the file"
    )
