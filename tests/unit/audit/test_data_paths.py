"""Files and folders in a check's parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.audit.data_paths import locate_files
from auditor.check import CheckParams, FolderPath, path_parameters
from auditor.errors import ConfigurationError, FileMissing, RefusedFolder
from auditor.folders import folder_digest
from auditor.models.digest import file_digest


class Params(CheckParams):
    """One of each."""

    file: Path | None = None
    """A file."""
    index: FolderPath | None = None
    """A folder."""
    other: FolderPath = Path("index")
    """A folder that is always there."""
    count: int = 1
    """No path."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plan's folder with a file and a folder."""
    (tmp_path / "index" / "sub").mkdir(parents=True)
    (tmp_path / "index" / "sub" / "a").write_text("one")
    (tmp_path / "file").write_text("text")
    return tmp_path


def test_parameters_say_whether_they_name_a_file_or_a_folder() -> None:
    """Also when they are optional, and in the published schema."""
    assert path_parameters(Params) == {"file": "file", "index": "folder", "other": "folder"}
    schema = Params.model_json_schema()["properties"]
    assert schema["other"]["format"] == "directory-path"
    assert schema["index"]["anyOf"][0]["format"] == "directory-path"
    assert schema["file"]["anyOf"][0]["format"] == "path"


def test_files_and_folders_become_absolute_and_get_their_digests(folder: Path) -> None:
    """A parameter that is left out gets none."""
    given = Params(file=Path("file"))
    located, digests = locate_files(given, folder, "AUD900")
    assert located == Params(file=folder / "file", other=folder / "index")
    assert digests == {
        "file": file_digest(folder / "file"), "other": folder_digest(folder / "index"),
    }  # fmt: skip


def test_a_folder_that_stands_twice_is_hashed_once(folder: Path) -> None:
    """The second digest is the first, even if the folder has changed meanwhile."""
    known: dict[Path, str] = {}
    first = locate_files(Params(), folder, "AUD900", known)[1]
    (folder / "index" / "b").write_text("two")
    assert locate_files(Params(index=Path("index/../index")), folder, "AUD901", known)[1] == {
        "index": first["other"], "other": first["other"],
    }  # fmt: skip
    assert locate_files(Params(), folder, "AUD900")[1] != first


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (Params(file=Path("index")), r"AUD900 \(file\) takes a file, and .*index is a folder"),
        (Params(other=Path("file")), r"AUD900 \(other\) takes a folder, and .*file is none"),
    ],
)
def test_a_path_of_the_other_kind_is_named(folder: Path, params: Params, message: str) -> None:
    """With the check, the parameter and what to name."""
    with pytest.raises(ConfigurationError, match=message):
        locate_files(params, folder, "AUD900")


@pytest.mark.parametrize(
    ("params", "role"),
    [
        (Params(file=Path("none")), r"file of AUD900 \(file\)"),
        (Params(index=Path("none")), r"folder of AUD900 \(index\)"),
    ],
)
def test_a_missing_path_names_the_parameter(folder: Path, params: Params, role: str) -> None:
    """Whichever kind it would be."""
    with pytest.raises(FileMissing, match=f"{role} not found"):
        locate_files(params, folder, "AUD900")


def test_a_folder_with_a_link_out_is_refused(folder: Path) -> None:
    """The digest would speak of files that are not in it."""
    (folder / "index" / "link").symlink_to("../file")
    with pytest.raises(RefusedFolder, match="link-escape"):
        locate_files(Params(), folder, "AUD900")
