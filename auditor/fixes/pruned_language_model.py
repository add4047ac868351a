"""A pruned language model as a new folder, held to act as the one that was measured.

As weights it is the old folder with other numbers; as a graph it is the untouched model, exported,
with its stored weights edited.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from auditor.errors import FileChanged, OperationFailed, UnsupportedModel
from auditor.files import refuse_existing, refuse_unwritable, unfinished_folder
from auditor.fixes.model_folder import save_model
from auditor.language.causal_lm import CausalLM
from auditor.language.onnx_comparison import compare, plan_comparisons
from auditor.language.onnx_export import export_causal_lm, write_graph
from auditor.language.onnx_lm import OnnxCausalLM
from auditor.memorization.language.subspace import IGNORED, span_batch
from auditor.memorization.language.training_spans import TrainingSpan
from auditor.memorization.masks.onnx_masks import prune_onnx
from auditor.memorization.masks.weight_masks import WeightMasks, pruned
from auditor.memorization.masks.weight_sites import SiteKind, WeightSite, find_sites
from auditor.models.onnx_folder import GRAPH, read_onnx_folder
from auditor.models.onnx_model import OnnxModel
from auditor.models.transformers_folder import copy_beside_weights, read_folder

TOLERANCE: Final = 1e-5
"""Largest difference to the pruned torch model: of a log-probability, or of a logit as a share of
the largest one where that is above 1."""


def write_pruned_language(model: CausalLM, made: Path, spans: Sequence[TrainingSpan]) -> str:
    """The model as it is at this moment as a transformers folder; returns the digest.

    Args:
        model: The pruned model.
        made: An unfinished folder.
        spans: On these the written model has to expect the same tokens, at least one.

    Raises:
        OSError: The disk failed, which `auditor.files.unfinished_folder` puts into words.
        FileChanged: A file of the old folder is no longer the one that was measured.
        OperationFailed: The written model acts otherwise.
    """
    read_folder(model.folder.path, model.folder.digest)
    save_model(model, model, made)
    single = model.model.dtype == torch.float32
    written = CausalLM.open(made, model.device, precision="float32" if single else "stored")
    apart = max(_furthest(written, model, span) for span in spans)
    # NaN is no small difference.
    if not apart <= TOLERANCE:
        raise OperationFailed(
            f"the written model differs from the pruned one by {apart:.2g} in a log-probability "
            f"({TOLERANCE:g} allowed); nothing was written"
        )
    return written.folder.digest


def _furthest(written: CausalLM, model: CausalLM, span: TrainingSpan) -> float:
    """Largest difference of a likely token's log-probability where a continuation is predicted."""
    ids, mask, labels = span_batch(model, [span])
    asked = labels[:, 1:] != IGNORED
    with torch.inference_mode():
        found, expected = (
            each.network.read(ids, mask)[:, :-1][asked].float().log_softmax(-1)
            for each in (written, model)
        )
    # Tokens that are all but impossible may differ by much in their logarithms.
    likely = expected.exp() > 1e-6
    return (found - expected)[likely].abs().max().item() if bool(likely.any()) else float("nan")


def write_pruned_onnx(
    folder: Path, out: Path, masks: WeightMasks, expected_digest: str | None = None
) -> str:
    """The untouched model's graph without the masked weights, as a new folder; returns its digest.

    Args:
        folder: The untouched model, as transformers saves it.
        out: The new folder. Nothing is there if this fails.
        masks: What is pruned.
        expected_digest: Of the untouched model; such as a mask file names.

    Raises:
        OutputNotWritable: Something is there already, or nothing can be written there.
        OperationFailed: The disk failed, or the graph says something else than torch.
        FileMissing, RefusedModel, FileChanged, ConfigurationError, UnsupportedModel: As for
            `fill_pruned_onnx`.
    """
    refuse_existing(out, "a pruned model")
    refuse_unwritable(out)
    with unfinished_folder(out, folder) as made:
        fill_pruned_onnx(folder, made, masks, expected_digest)
    return read_onnx_folder(out).digest


def fill_pruned_onnx(
    folder: Path, made: Path, masks: WeightMasks, expected_digest: str | None = None
) -> None:
    """The same into an unfinished folder.

    Raises:
        OSError: The disk failed, which `auditor.files.unfinished_folder` puts into words.
        FileMissing, RefusedModel, FileChanged: As for `CausalLM.open`.
        ConfigurationError: The masks are of another model.
        UnsupportedModel: It cannot be exported, or a weight is not in the graph by itself.
        OperationFailed: The graph says something else than torch.
    """
    model = CausalLM.open(folder, expected_digest=expected_digest)
    sites = _sites(model)
    with pruned(sites, masks):  # masks of another model are refused before long work
        wanted = plan_comparisons(model)
    exported = made / "exported"
    source = export_causal_lm(folder, exported).source
    if source != model.folder.digest:
        raise FileChanged(folder, model.folder.digest, source)
    write_graph(prune_onnx(OnnxModel.open(exported / GRAPH).proto, sites, masks), made)
    copy_beside_weights(read_onnx_folder(exported), made)
    shutil.rmtree(exported)
    network = OnnxCausalLM.open(made).network
    for each in (compare(network, asked) for asked in wanted):
        # NaN is no small difference.
        if not each.share <= TOLERANCE:
            raise OperationFailed(
                f"the graph gives other logits than the pruned model: {each}; the bound is "
                f"{TOLERANCE:g}, nothing was written"
            )


def _sites(model: CausalLM) -> list[WeightSite]:
    """Every layer that masks may be of."""
    found: list[WeightSite] = []
    for kind in (SiteKind.FEED_FORWARD, SiteKind.ATTENTION):
        with contextlib.suppress(UnsupportedModel):
            found += find_sites(model.model, [kind], str(model.folder.path))
    return found
