"""Masks prune what they say, are undone to the bit, travel in files and into graphs."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.errors import ConfigurationError, FileMissing, UnsupportedModel
from auditor.language.onnx_export import export_causal_lm, write_graph
from auditor.language.onnx_lm import OnnxCausalLM
from auditor.memorization.masks.mask_file import MaskFileRejected, read_masks, restore, write_masks
from auditor.memorization.masks.mask_rules import random_mask
from auditor.memorization.masks.onnx_masks import prune_onnx
from auditor.memorization.masks.weight_masks import (
    WeightMasks,
    overlap,
    overlap_by_chance,
    prune,
    pruned,
)
from auditor.memorization.masks.weight_sites import SiteKind, WeightSite, find_sites
from auditor.models.onnx_folder import GRAPH
from auditor.models.onnx_model import OnnxModel
from tests.models.language_models import random_model, save_folder, word_tokenizer

BOTH = (SiteKind.FEED_FORWARD, SiteKind.ATTENTION)
IDS = torch.tensor([[6, 7, 8, 9, 10]])


def _masks(sites: tuple[WeightSite, ...], share: float = 0.1, seed: int = 0) -> WeightMasks:
    return WeightMasks({
        site.name: random_mask(
            (site.outputs, site.inputs), int(share * site.outputs * site.inputs), seed + number
        )
        for number, site in enumerate(sites)
    })  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_pruned_model_is_as_before_afterwards(family: Any) -> None:
    model = random_model(family).eval()
    sites = find_sites(model, BOTH)
    masks = _masks(sites)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plain = model(input_ids=IDS).logits
    with pruned(sites, masks):
        assert sum(int((site.weight == 0).sum()) for site in sites) == masks.pruned
        assert not torch.allclose(model(input_ids=IDS).logits, plain)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(input_ids=IDS).logits, plain)


def test_an_error_inside_leaves_the_model_whole() -> None:
    model = random_model("llama")
    sites = find_sites(model)
    before = [site.weight.clone() for site in sites]
    with pytest.raises(KeyError), pruned(sites, _masks(sites)):
        raise KeyError
    assert all(torch.equal(site.weight, was) for site, was in zip(sites, before, strict=True))


def test_masks_of_another_model_are_refused() -> None:
    sites = find_sites(random_model("llama"))
    with pytest.raises(ConfigurationError, match="not among the layers"):
        prune(sites, WeightMasks({"nowhere": torch.ones(2, 2, dtype=torch.bool)}))
    with pytest.raises(ConfigurationError, match=r"is \[2, 2\] and its weight"):
        prune(sites, WeightMasks({sites[0].name: torch.ones(2, 2, dtype=torch.bool)}))
    with pytest.raises(ConfigurationError, match="give a boolean one"):
        WeightMasks({"any": torch.ones(2, 2)})


@settings(max_examples=20, deadline=None)
@given(first=st.floats(0.05, 0.95), second=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_random_masks_overlap_as_chance_says(first: float, second: float, seed: int) -> None:
    sizes = (200, 300)
    masks = [
        WeightMasks({"a": random_mask(sizes, round(share * 60_000), 2 * seed + number)})
        for number, share in enumerate((first, second))
    ]
    expected = overlap_by_chance(masks[0].density, masks[1].density)
    assert abs(overlap(*masks) - expected) < 0.02


def test_overlap_of_equal_and_of_other_masks() -> None:
    mask = WeightMasks({"a": random_mask((10, 10), 20, 0)})
    empty = WeightMasks({"a": torch.zeros(10, 10, dtype=torch.bool)})
    assert (overlap(mask, mask), overlap(mask, empty), overlap(empty, empty)) == (1.0, 0.0, 0.0)
    assert overlap_by_chance(0.1, 0.1) == pytest.approx(0.1 / 1.9)
    with pytest.raises(ConfigurationError, match="different layers"):
        overlap(mask, WeightMasks({"b": mask.masks["a"]}))


def test_a_union_prunes_what_either_does() -> None:
    first, second = (random_mask((6, 6), 9, seed) for seed in (0, 1))
    both = WeightMasks({"a": first}) | WeightMasks({"a": second, "b": second})
    assert torch.equal(both.masks["a"], first | second)
    assert torch.equal(both.masks["b"], second)


def test_a_file_holds_masks_and_undoes_them(tmp_path: Path) -> None:
    model = random_model("gpt2")
    sites = find_sites(model, BOTH)
    masks, path = _masks(sites), tmp_path / "masks.safetensors"
    before = [site.weight.clone() for site in sites]
    write_masks(path, masks, sites, base="sha256:1", rule="wanda_diff 0.1")
    again = path.read_bytes()
    write_masks(path, masks, sites, base="sha256:1", rule="wanda_diff 0.1")
    assert path.read_bytes() == again
    file = read_masks(path)
    assert (file.head.base, file.head.rule) == ("sha256:1", "wanda_diff 0.1")
    assert overlap(file.masks, masks) == 1.0
    with pytest.raises(ConfigurationError, match="is not pruned with these masks"):
        restore(sites, file)
    prune(sites, file.masks)
    restore(sites, file)
    assert all(torch.equal(site.weight, was) for site, was in zip(sites, before, strict=True))


def test_every_changed_byte_of_a_file_is_found(tmp_path: Path) -> None:
    sites = find_sites(random_model("llama"))
    path = tmp_path / "masks.safetensors"
    write_masks(path, _masks(sites), sites, base="sha256:1", rule="any")
    content = path.read_bytes()
    for place in range(0, len(content), 97):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(bytes(changed))
        with pytest.raises(MaskFileRejected, match="prune again"):
            read_masks(path)
    with pytest.raises(FileMissing):
        read_masks(tmp_path / "none")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """A model and the folder of its graph, each exported once."""

    @cache
    def export(family: Any) -> tuple[Any, Path]:
        folder = tmp_path_factory.mktemp(family)
        model = random_model(family).eval()
        export_causal_lm(save_folder(folder / "torch", model, word_tokenizer()), folder / "onnx")
        return model, folder / "onnx"

    return export


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_pruned_graph_says_what_torch_says(
    family: str, exported: Callable[[str], tuple[Any, Path]], tmp_path: Path
) -> None:
    model, folder = exported(family)
    graph = OnnxModel.open(folder / GRAPH)
    sites = find_sites(model, BOTH)
    masks = _masks(sites)
    changed = OnnxModel.from_proto(prune_onnx(graph.proto, sites, masks))
    assert _zeros(changed) - _zeros(graph) == masks.pruned
    with pruned(sites, masks), torch.inference_mode():
        expected = model(input_ids=IDS).logits.numpy()
    shutil.copytree(folder, tmp_path / "pruned")
    write_graph(changed.proto, tmp_path / "pruned")
    written = OnnxCausalLM.open(tmp_path / "pruned")
    found = written.network.read(IDS, torch.ones_like(IDS)).numpy()
    assert np.abs(found - expected).max() < 1e-5


def _zeros(graph: OnnxModel) -> int:
    matrices = [tensor for tensor in graph.initialisers.values() if tensor.ndim == 2]
    return sum(int((tensor == 0).sum()) for tensor in matrices)


def test_a_weight_that_is_not_in_the_graph_is_refused(
    exported: Callable[[str], tuple[Any, Path]],
) -> None:
    model, folder = exported("llama")
    graph = OnnxModel.open(folder / GRAPH)
    sites = find_sites(copy.deepcopy(model))
    sites[0].weight[0, 0] += 1
    with pytest.raises(UnsupportedModel, match="its weight is not in the graph"):
        prune_onnx(graph.proto, sites, _masks(sites))
