"""Ordinary models and what lies beside them are accepted: a false refusal is a bug like any."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxscript
import pytest
import safetensors.torch
import torch
from onnxscript import opset17

from auditor.language.onnx_export import export_causal_lm
from auditor.models.scan.answer import PathScan
from auditor.models.scan.decision import Decision
from auditor.models.scan.scanner import scan_path
from tests.models.canary_lm import trained_canary
from tests.models.chat_templates import TEMPLATES
from tests.models.exported_networks import NETWORKS, export_network, export_script
from tests.models.hostile_files.weights import gguf, gguf_string
from tests.models.language_models import random_model, save_folder, word_tokenizer
from tests.models.model_folders import write_folder, write_sharded
from tests.models.moe_fixture import trained_moe
from tests.models.onnx_networks import conv_network
from tests.models.ordinary_files import ordinary_files, write_ordinary
from tests.models.tiny_diffusion import flux_folder, latent_folder, sdxl_folder, transformer_folder

SHARED = Path(__file__).parents[4] / "../shared/data"


def _doubled(x: Any) -> Any:
    """A graph, to onnxscript."""
    return opset17.Add(x, x)


def check_accepted(path: Path) -> PathScan:
    """The scan, after it has been seen to find nothing."""
    found = scan_path(path)
    assert list(found.all_problems()) == []
    assert found.decision is Decision.ACCEPTED
    assert all(file.sha256 for file in found.files)
    return found


def networks_of(folder: Path) -> list[Path]:
    """ONNX files below a folder, or a skip where it is missing."""
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return sorted(folder.rglob("*.onnx*"))


def test_the_networks_of_the_competition_are_accepted() -> None:
    """As they came from many exporters, plain and compressed."""
    found = networks_of(SHARED)
    assert {path.suffix for path in found} == {".onnx", ".gz"}
    for path in found:
        check_accepted(path)


@pytest.mark.parametrize(
    "dynamo", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["script", "dynamo"]
)
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_what_torch_exports_is_accepted(tmp_path: Path, name: str, dynamo: bool) -> None:
    """By either exporter."""
    path = export_network(name, tmp_path / f"{name}.onnx", dynamo=dynamo)
    assert check_accepted(path).files[0].content.format == "onnx"


def test_weights_beside_an_export_are_accepted(tmp_path: Path) -> None:
    """The graph by itself, and the folder with the file of its numbers."""
    path = export_network("attention", tmp_path / "a.onnx", dynamo=True, external=True)
    assert (tmp_path / "a.onnx.data").exists()
    check_accepted(path)
    assert len(check_accepted(tmp_path).files) == 2


def test_a_condition_and_a_loop_are_accepted(tmp_path: Path) -> None:
    """Graphs inside the graph."""
    path = export_script(tmp_path / "a.onnx")
    assert {"If", "Loop"} <= {node.op_type for node in onnx.load(path).graph.node}
    check_accepted(path)


def test_what_other_libraries_save_is_accepted(tmp_path: Path) -> None:
    """onnx-ir with numbers beside the graph, onnxscript, and onnx itself."""

    script: Any = onnxscript.script(default_opset=opset17)(_doubled)
    onnx.save(script.to_model_proto(), tmp_path / "script.onnx")
    model = conv_network(batch_norm=True)
    onnx_ir.save(
        onnx_ir.from_proto(model), tmp_path / "ir.onnx", external_data="ir.onnx.data",
        size_threshold_bytes=0,
    )  # fmt: skip
    onnx.save(
        model, tmp_path / "apart.onnx", save_as_external_data=True, location="apart.data",
        size_threshold=0,
    )  # fmt: skip
    assert len(check_accepted(tmp_path).files) == 5


@pytest.mark.parametrize("family", ["gpt2", "llama", "mamba", "qwen3_moe"])
def test_a_language_model_is_accepted(tmp_path: Path, family: str) -> None:
    """As transformers saves it, in several files with an index, with a template."""
    tokenizer = word_tokenizer(template=TEMPLATES["qwen"])
    folder = save_folder(tmp_path / "model", random_model(family), tokenizer, shard="20KB")  # type: ignore[arg-type]
    names = {file.name for file in check_accepted(folder).files}
    assert {"model.safetensors.index.json", "chat_template.jinja"} <= names


@pytest.mark.parametrize("make", [latent_folder, sdxl_folder, flux_folder, transformer_folder])
def test_a_diffusion_model_is_accepted(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """As diffusers saves it, one folder for each component."""
    check_accepted(make(tmp_path / "model"))


@pytest.mark.parametrize("folder", [trained_canary, lambda: trained_moe("planted")])
def test_the_models_of_these_tests_are_accepted(folder: Callable[[], Path]) -> None:
    """Trained here and saved by transformers."""
    check_accepted(folder())


@pytest.mark.slow
def test_an_exported_language_model_is_accepted(tmp_path: Path) -> None:
    """A folder around an ONNX graph."""
    source = save_folder(tmp_path / "source", random_model("llama", layers=1), word_tokenizer())
    export_causal_lm(source, tmp_path / "graph", inline_bytes=0)
    names = {file.name for file in check_accepted(tmp_path / "graph").files}
    assert {"model.onnx", "model.onnx.data"} <= names


@pytest.mark.parametrize("family", sorted(TEMPLATES))
def test_an_ordinary_template_is_accepted(tmp_path: Path, family: str) -> None:
    """In a file of its own, in a tokenizer's configuration, in GGUF and in safetensors."""
    text = TEMPLATES[family]
    folder = write_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(text)
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "chat_template": [{"name": "default", "template": text}, {"name": "rag", "template": text}]
    }))  # fmt: skip
    (tmp_path / "m.gguf").write_bytes(gguf({"tokenizer.chat_template": gguf_string(text)}))
    (tmp_path / "m.safetensors").write_bytes(safetensors.torch.save(
        {"w": torch.zeros(2)}, {"chat_template": text, "format": "pt"}))  # fmt: skip
    check_accepted(tmp_path)


@pytest.mark.parametrize("name", sorted(ordinary_files()))
def test_an_ordinary_file_is_accepted(tmp_path: Path, name: str) -> None:
    """Each kind by itself."""
    (tmp_path / name).write_bytes(ordinary_files()[name])
    check_accepted(tmp_path / name)


def test_a_folder_of_ordinary_files_is_accepted(tmp_path: Path) -> None:
    """All of them side by side, with folders in it."""
    folder = write_ordinary(tmp_path / "files")
    found = check_accepted(folder)
    assert len(found.files) == sum(path.is_file() for path in folder.rglob("*"))


def test_what_the_library_of_gguf_writes_is_accepted(tmp_path: Path) -> None:
    """Numbers of several types, a vocabulary and a template."""
    gguf = pytest.importorskip("gguf", reason="the gguf package is not installed")
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_block_count(1)
    writer.add_rope_freq_base(10_000.0)
    writer.add_token_list(["a", "b"])
    writer.add_chat_template(TEMPLATES["chatml"])
    writer.add_tensor("token_embd.weight", np.ones((2, 32), np.float32))
    writer.add_tensor("output.weight", np.ones((2, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_accepted(tmp_path / "m.gguf")


def test_sharded_weights_are_accepted(tmp_path: Path) -> None:
    """With their index."""
    check_accepted(write_sharded(tmp_path / "model"))


def test_a_snapshot_of_the_cache_is_accepted(tmp_path: Path) -> None:
    """Its links lead to the blobs of the same repository."""
    source = write_folder(tmp_path / "source")
    repository = tmp_path / "models--a--b"
    snapshot = repository / "snapshots" / "revision"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(source.iterdir())):
        shutil.copy(path, repository / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    assert len(check_accepted(snapshot).files) == len(list(source.iterdir()))


def test_a_packed_model_is_accepted(tmp_path: Path) -> None:
    """A zip, a tar and a compressed tar of a model's folder."""
    source = write_sharded(tmp_path / "model")
    for kind in ("zip", "tar", "gztar", "xztar"):
        shutil.make_archive(str(tmp_path / kind / "model"), kind, source)
        (path,) = (tmp_path / kind).iterdir()
        check_accepted(path)


def test_a_checkout_with_links_inside_is_accepted(tmp_path: Path) -> None:
    """A link that stays in the folder leads to nothing else."""
    folder = write_folder(tmp_path / "model")
    (folder / "LICENSE.txt").symlink_to("LICENSE")
    check_accepted(folder)


def test_archives_of_archives_are_accepted_within_the_depth(tmp_path: Path) -> None:
    """A compressed network inside a zip inside a tar."""
    network = gzip.compress(conv_network().SerializeToString())
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as archive:
        archive.writestr("network.onnx.gz", network)
    with tarfile.open(tmp_path / "outer.tar", "w") as outer:
        outer.add(tmp_path / "inner.zip", "inner.zip")
    check_accepted(tmp_path / "outer.tar")
