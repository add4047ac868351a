"""A changed torch model, saved with everything else its old folder holds."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError

from auditor.language.causal_lm import CausalLM
from auditor.language.opening import quiet_transformers
from auditor.models.transformers_folder import copy_beside_weights


def save_model(model: CausalLM, old: CausalLM, made: Path) -> None:
    """Weights and configuration of a model, and the other files of the old one's folder.

    Raises:
        OSError: The disk failed, which `auditor.files.unfinished_folder` puts into words.
    """
    try:
        with quiet_transformers():
            model.model.save_pretrained(made)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    copy_beside_weights(old.folder, made)
