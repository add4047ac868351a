"""Writes the files that `model_scanners.py` gives to every scanner.

    python -m benchmarks.model_scanners_files FOLDER

It prints one record of JSON for each: the part and the group it belongs to, its name, its path, the
marker that its payload would create, and what auditor has to answer. Parts:

| part | what |
|---|---|
| `table` | every case of the committed table, with its payload `pathlib.Path.touch` |
| `shell` | those of them whose payload can be exchanged, with `posix.system("touch ...")` instead |
| `ordinary` | what torch, transformers, diffusers and others write |
| `pickles` | ordinary pickles, which auditor refuses for what they are |
| `timed` | a large safetensors file of random numbers and two state dicts of a few MB |

A process of its own, because the libraries that write them are large, and the memory of a process
counts in what it starts. Nothing that is written here is ever loaded.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pickle
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np
import onnx
import torch
from sklearn.linear_model import LogisticRegression

from tests.models.canary_lm import trained_canary
from tests.models.chat_templates import TEMPLATES
from tests.models.exported_networks import NETWORKS, export_network, export_script
from tests.models.hostile_files import table
from tests.models.hostile_files.case import HostileCase
from tests.models.hostile_files.payload import Touch
from tests.models.hostile_files.templates import changed_template
from tests.models.language_models import random_model, save_folder, word_tokenizer
from tests.models.model_folders import write_folder, write_sharded
from tests.models.moe_fixture import trained_moe
from tests.models.onnx_networks import conv_network
from tests.models.ordinary_files import ordinary_files, write_ordinary
from tests.models.packed import tarred, zipped
from tests.models.tiny_diffusion import flux_folder, latent_folder, sdxl_folder, transformer_folder

LARGE_MB: Final = 256
_MEGABYTE: Final = 2**20
_SEED: Final = 0
_TENSORS: Final = 64


@dataclass(frozen=True)
class Written:
    """Something to scan.

    Attributes:
        part: One of the parts above.
        group: A kind within the part.
        name: Its name, of its own within the part.
        path: The file or folder.
        marker: What its payload would create; empty where there is none.
        expected: What auditor has to answer; several words where it has the choice.
    """

    part: str
    group: str
    name: str
    path: str
    marker: str = ""
    expected: str = ""


def group_of(case: HostileCase) -> str:
    """The module of the table that holds a case."""
    modules = [each for each in vars(table).values() if hasattr(each, "CASES")]
    (found,) = (each for each in modules if case in each.CASES)
    return str(found.__name__).rpartition(".")[2].replace("_", " ")


def write_table(root: Path) -> Iterator[Written]:
    """All cases with the payload of the table."""
    for case in table.CASES:
        yield _write(case, "table", root)


def write_shell(root: Path) -> Iterator[Written]:
    """The cases whose payload is written by `touching`, with one that every deny-list holds."""
    used: list[Path] = []

    def reduce(self: Touch) -> tuple[object, ...]:
        used.append(self.marker)
        return os.system, (f"touch '{self.marker}'",)

    with patch.object(Touch, "__reduce__", reduce):
        for case in table.CASES:
            used.clear()
            written = _write(case, "shell", root)
            if used:
                yield written


def _write(case: HostileCase, part: str, root: Path) -> Written:
    marker = root / part / "markers" / case.id
    marker.parent.mkdir(parents=True, exist_ok=True)
    path = case.build(root / part / case.id, marker)
    words = " or ".join(sorted(case.decisions))
    return Written(part, group_of(case), case.id, str(path), str(marker), words)


def write_all_ordinary(root: Path) -> Iterator[Written]:
    """Files and folders of every kind that lies around models."""
    for group, make in ORDINARY.items():
        folder = root / "ordinary" / group.replace(" ", "-")
        folder.mkdir(parents=True)
        for path in make(folder):
            name = f"{path.parent.name}/{path.name}"
            yield Written("ordinary", group, name, str(path), "", "accepted")


def _exports(folder: Path) -> list[Path]:
    plain = [export_network(name, folder / f"{name}.onnx", dynamo=False) for name in NETWORKS]
    (folder / "external").mkdir()
    export_network("attention", folder / "external" / "a.onnx", dynamo=True, external=True)
    onnx.save(conv_network(batch_norm=True), folder / "apart.onnx", save_as_external_data=True,
              location="apart.data", size_threshold=0)  # fmt: skip
    script = export_script(folder / "script.onnx")
    return [*plain, folder / "external", folder / "apart.onnx", script]


def _language(folder: Path) -> list[Path]:
    tokenizer = word_tokenizer(template=TEMPLATES["qwen"])
    families: tuple[Any, ...] = ("gpt2", "llama", "mamba", "qwen3_moe")
    made = [save_folder(folder / family, random_model(family), tokenizer, shard="20KB")
            for family in families]  # fmt: skip
    return [*made, trained_canary(), trained_moe("planted"), write_sharded(folder / "sharded")]


def _diffusion(folder: Path) -> list[Path]:
    makers = (latent_folder, sdxl_folder, flux_folder, transformer_folder)
    return [make(folder / make.__name__) for make in makers]


def _templates(folder: Path) -> list[Path]:
    return [changed_template(folder / family, text) for family, text in TEMPLATES.items()]


def _single(folder: Path) -> list[Path]:
    for name, content in ordinary_files().items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())


def _packed(folder: Path) -> list[Path]:
    source = write_sharded(folder / "model")
    kinds = ("zip", "tar", "gztar", "xztar")
    packed = [shutil.make_archive(str(folder / kind / "model"), kind, source) for kind in kinds]
    network = gzip.compress(conv_network().SerializeToString())
    inner = zipped({"network.onnx.gz": network})
    (folder / "nested.tar").write_bytes(tarred({"inner.zip": inner}))
    return [*map(Path, packed), folder / "nested.tar"]


def _folders(folder: Path) -> list[Path]:
    linked = write_folder(folder / "linked")
    (linked / "LICENSE.txt").symlink_to("LICENSE")
    return [write_ordinary(folder / "files"), linked]


ORDINARY: Final[dict[str, Callable[[Path], list[Path]]]] = {
    "ONNX exports": _exports, "language models": _language, "diffusion models": _diffusion,
    "chat templates": _templates, "single files": _single, "packed models": _packed,
    "folders of files": _folders,
}  # fmt: skip


def _state(megabytes: float) -> dict[str, torch.Tensor]:
    """Random float32 tensors under the names of a language model."""
    generator = torch.Generator().manual_seed(_SEED)
    size = round(megabytes * _MEGABYTE / 4 / _TENSORS)
    return {f"model.layers.{number}.mlp.down_proj.weight": torch.randn(size, generator=generator)
            for number in range(_TENSORS)}  # fmt: skip


def write_pickles(root: Path) -> Iterator[Written]:
    """What torch, numpy, scikit-learn and Python write of ordinary models."""
    folder = root / "pickles"
    folder.mkdir()
    state = _state(0.1)
    torch.save(state, folder / "model.pt")
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    points = np.linspace(-1, 1, 20).reshape(10, 2)
    estimator = LogisticRegression().fit(points, points[:, 0] > 0)
    arrays = {name: value.numpy() for name, value in state.items()}
    np.save(folder / "words.npy", np.array(["a", None], object), allow_pickle=True)
    for name, value in (("estimator.pkl", estimator), ("arrays.pkl", arrays),
                        ("settings.pkl", {"layers": 2, "rates": [0.1, 0.2]})):  # fmt: skip
        (folder / name).write_bytes(pickle.dumps(value))
    for path in sorted(folder.iterdir()):
        yield Written("pickles", "pickles", path.name, str(path), "", "refused")


def write_timed(root: Path) -> Iterator[Written]:
    """Random numbers: what a scan takes does not depend on them."""
    folder = root / "timed"
    folder.mkdir()
    source, size = random.Random(_SEED), LARGE_MB * _MEGABYTE // _TENSORS
    entries = {f"t{n}": {"dtype": "F32", "shape": [size // 4],
                         "data_offsets": [n * size, (n + 1) * size]}
               for n in range(_TENSORS)}  # fmt: skip
    header = json.dumps(entries).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        for _ in range(_TENSORS):
            stream.write(source.randbytes(size))
    torch.save(_state(4), folder / "state.pt")
    lists = {name: value.tolist() for name, value in _state(1).items()}
    (folder / "lists.pkl").write_bytes(pickle.dumps(lists))
    for path in sorted(folder.iterdir()):
        yield Written("timed", "timed", path.name, str(path))


def main() -> None:
    """Write everything and say where it is."""
    parser = argparse.ArgumentParser(description="Write the files that scanners are tried on.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    for write in (write_table, write_shell, write_all_ordinary, write_pickles, write_timed):
        for written in write(folder):
            print(json.dumps(asdict(written)), file=sys.stdout, flush=True)


if __name__ == "__main__":
    main()
