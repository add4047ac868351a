"""What a run knows of a model from its bytes, refused ones included."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditor.errors import FileMissing
from auditor.models.diffusion_folder import read_diffusion_folder
from auditor.models.digest import file_digest
from auditor.models.subject_files import folder_kind, look_at, read_weights_folder
from auditor.models.transformers_folder import read_folder
from tests.models.model_folders import write_folder
from tests.models.onnx_networks import dense_network, write_model
from tests.models.tiny_diffusion import transformer_folder


def test_a_file_and_a_folder_have_their_digest_and_size(tmp_path: Path) -> None:
    """Those of the modules that open them."""
    path, folder = write_model(tmp_path, dense_network([3, 2])), write_folder(tmp_path / "m")
    file, whole = look_at(path, "onnx"), look_at(folder, "transformers")
    assert (file.digest, file.size, file.refusal) == (file_digest(path), path.stat().st_size, None)
    known = read_folder(folder)
    assert (whole.digest, whole.size, whole.refusal) == (known.digest, known.size, None)


def test_a_refused_folder_has_a_digest_that_changes_with_it(tmp_path: Path) -> None:
    """So that an answer about one refused folder is not taken for another's."""
    folder = write_folder(tmp_path / "m")
    seen = set()
    for content in ("import os", "import sys"):
        (folder / "code.py").write_text(content)
        found = look_at(folder, "transformers")
        assert found.refusal is not None
        assert found.refusal.rule == "custom-code"
        seen.add(found.digest)
    (folder / "link").symlink_to("/nowhere")
    seen.add(look_at(folder, "transformers").digest)
    assert len(seen) == 3


def test_what_a_link_points_at_is_not_part_of_a_refused_folder(tmp_path: Path) -> None:
    """Nothing outside of the folder is read."""
    folder = write_folder(tmp_path / "m")
    (folder / "vocab.txt").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").write_text("one")
    before = look_at(folder, "transformers")
    (tmp_path / "outside").write_text("another")
    assert look_at(folder, "transformers").digest == before.digest


def test_a_folder_without_configuration_is_an_error_and_no_refusal(tmp_path: Path) -> None:
    """It is not a model at all."""
    with pytest.raises(FileMissing, match=r"config\.json"):
        look_at(tmp_path, "transformers")


def test_a_folder_that_is_called_onnx_is_refused(tmp_path: Path) -> None:
    """And still has a digest to speak of it."""
    found = look_at(write_folder(tmp_path / "m"), "onnx")
    assert found.refusal is not None
    assert (found.refusal.rule, found.digest[:7]) == ("not-a-file", "sha256:")


def test_a_diffusion_folder_is_told_apart_by_the_names_in_it(tmp_path: Path) -> None:
    """And is looked at as one."""
    folder = transformer_folder(tmp_path / "d")
    assert folder_kind(folder) == "diffusers"
    assert folder_kind(write_folder(tmp_path / "m")) == "transformers"
    known = read_diffusion_folder(folder)
    assert look_at(folder, "diffusers").digest == known.digest
    assert read_weights_folder(folder).digest == known.digest
