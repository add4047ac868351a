"""A changed torch model, saved with everything else its old folder holds."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError

from auditor.errors import OperationFailed
from auditor.language.causal_lm import CausalLM
from auditor.language.opening import quiet_transformers
from auditor.models.transformers_folder import copy_beside_weights


def save_model(model: CausalLM, old: CausalLM, made: Path) -> None:
    """Weights and configuration of a model, and the other files of the old one's folder.

    Raises:
        OperationFailed: The weights cannot be written.
    """
    try:
        with quiet_transformers():
            model.model.save_pretrained(made)
    except SafetensorError as error:
        raise OperationFailed(
            f"cannot write {made}: {error}; {old.folder.path} is as it was"
        ) from None
    copy_beside_weights(old.folder, made)
