"""A causal language model of a transformers folder: continue, score, and ask in its own format.

Five lines from Python:

    model = CausalLM.open(Path("folder"))
    [answer] = model.generate([model.chat("How do I knit a scarf?")], max_new_tokens=40)
    print(answer.text, model.perplexity(["Wool comes from sheep."]))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.language.opening import Precision, open_folder
from auditor.language.text_model import TextModel, added_start, as_ends, token_limit
from auditor.language.torch_network import TorchNetwork
from auditor.models.transformers_folder import TransformersFolder


@dataclass(frozen=True, eq=False)
class CausalLM(TextModel):
    """A model that torch runs; see `TextModel` for its calls.

    Attributes:
        folder: Where it came from, with its digest.
        model: transformers' model, in evaluation mode, for hooks.
    """

    folder: TransformersFolder
    network: TorchNetwork
    model: Any

    @classmethod
    def open(
        cls,
        folder: Path,
        device: str = "cpu",
        expected_digest: str | None = None,
        *,
        precision: Precision = "float32",
    ) -> CausalLM:
        """The model of a folder: safetensors, local files, no code of the folder.

        Args:
            folder: As transformers saves it.
            device: `auto`, `cpu` or `cuda`.
            expected_digest: `sha256:...` of the folder, checked before it is opened.
            precision: `float32`, or the type the weights are `stored` in.

        Raises:
            FileMissing: Folder, config.json or weights are not there.
            RefusedModel: Not safe to open.
            UnsupportedModel: Not a whole causal language model.
            DeviceUnavailable: No such device here.
        """
        opened = open_folder(Path(folder), device, precision, expected_digest)
        return cls(
            folder=opened.folder,
            device=opened.model.device.type,
            tokenizer=opened.tokenizer,
            max_tokens=token_limit(opened.model.config),
            start=added_start(opened.tokenizer),
            network=TorchNetwork(opened.model),
            ends=as_ends(opened.model.generation_config.eos_token_id, opened.tokenizer),
            model=opened.model,
        )
