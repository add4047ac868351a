"""A pruned model as a new folder: the changed weights, and every other file of the old one."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError

from auditor.errors import UnsupportedModel
from auditor.language.onnx_export import write_graph
from auditor.memorization.diffusion.denoiser_graph import require_alike, trace_denoiser
from auditor.memorization.diffusion.model import DiffusionModel
from auditor.memorization.masks.onnx_masks import prune_onnx
from auditor.memorization.masks.weight_masks import WeightMasks
from auditor.memorization.masks.weight_sites import SiteKind, WeightSite, find_sites
from auditor.models.diffusion_folder import read_diffusion_folder


def write_pruned_diffusion(model: DiffusionModel, made: Path) -> str:
    """The denoiser as it is at this moment, and the other components; returns the digest.

    Raises:
        OSError: The disk failed, which `auditor.files.unfinished_folder` puts into words.
        FileChanged: A file of the old folder is no longer the one that was measured.
    """
    read_diffusion_folder(model.folder.path, model.folder.digest)
    part = model.folder.denoiser.name
    try:
        model.denoiser.save_pretrained(made / part, safe_serialization=True)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    for name in model.folder.files:
        weights = name.startswith(f"{part}/") and ".safetensors" in name
        if not weights:
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(model.folder.path / name, made / name)
    return read_diffusion_folder(made).digest


def write_pruned_denoiser(
    model: DiffusionModel, untouched: DiffusionModel, masks: WeightMasks, made: Path
) -> None:
    """The pruned denoiser as `model.onnx`, held to say what torch says.

    The untouched model's graph is edited; where more than masked weights changed, the model is
    traced as it is.

    Raises:
        UnsupportedModel: It cannot be exported, or a weight is not found in its graph.
        OperationFailed: The graph says something else than torch; nothing is written.
    """
    sites = _masked_sites(untouched, masks)
    if _only_masked(model, untouched, masks):
        graph = prune_onnx(trace_denoiser(untouched), sites, masks)
    else:
        graph = trace_denoiser(model)
    require_alike(graph, model, made)
    write_graph(graph, made)


def _masked_sites(model: DiffusionModel, masks: WeightMasks) -> list[WeightSite]:
    found = []
    for kind in SiteKind:
        with contextlib.suppress(UnsupportedModel):
            found += [s for s in find_sites(model.denoiser, [kind]) if s.name in masks.masks]
    return found


def _only_masked(model: DiffusionModel, untouched: DiffusionModel, masks: WeightMasks) -> bool:
    """Whether the two differ by masked weights alone."""
    before = untouched.denoiser.state_dict()
    for name, value in model.denoiser.state_dict().items():
        mask = masks.masks.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
        expected = before[name]
        if mask is not None:
            expected = expected.masked_fill(mask.to(expected.device), 0)
        if not torch.equal(value, expected):
            return False
    return True
