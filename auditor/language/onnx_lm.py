"""A causal language model of a folder with an ONNX graph, run by onnxruntime.

The same calls as `auditor.language.causal_lm.CausalLM`; `onnx_export` writes such folders.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from auditor.errors import UnsupportedModel
from auditor.language.onnx_network import OnnxNetwork
from auditor.language.opening import (
    open_config,
    open_tokenizer,
    quiet_transformers,
    require_causal,
)
from auditor.language.text_model import TextModel, added_start, as_ends, token_limit
from auditor.models.onnx_folder import OnnxFolder, read_onnx_folder

GENERATION: Final = "generation_config.json"


@dataclass(frozen=True, eq=False)
class OnnxCausalLM(TextModel):
    """A model that onnxruntime runs; see `TextModel` for its calls.

    Attributes:
        folder: Where it came from, with its digest and its graph.
        network: The session and its cache; `network.session.providers_in_use` runs it.
    """

    folder: OnnxFolder
    network: OnnxNetwork

    @classmethod
    def open(
        cls, folder: Path, device: str = "cpu", expected_digest: str | None = None
    ) -> OnnxCausalLM:
        """The model of a folder as `export_causal_lm` writes it: local files, no code.

        Args:
            folder: With model.onnx, config.json and a tokenizer.
            device: `auto`, `cpu` or `cuda`.
            expected_digest: `sha256:...` of the folder, checked before it is opened.

        Raises:
            FileMissing: Folder, config.json or graph are not there.
            RefusedModel: Not safe to open.
            FileChanged: The digest is another one.
            UnsupportedModel: Not a causal language model with a key-value cache.
            DeviceUnavailable: No such device here.
        """
        read = read_onnx_folder(Path(folder), expected_digest)
        require_causal(str(read.path), read.configs["config.json"])
        network = OnnxNetwork.create(read.graph, device)
        with quiet_transformers():
            config, tokenizer = open_config(read.path), open_tokenizer(read.path)
        return cls(
            folder=read,
            device=network.session.device,
            tokenizer=tokenizer,
            max_tokens=token_limit(config),
            start=added_start(tokenizer),
            network=network,
            ends=as_ends(_named_ends(read, config), tokenizer),
        )


def _named_ends(folder: OnnxFolder, config: Any) -> list[int]:
    """`eos_token_id` of generation_config.json; of config.json where there is none."""
    if GENERATION in folder.configs:
        named = folder.configs[GENERATION].get("eos_token_id")
    else:
        named = getattr(config.get_text_config(decoder=True), "eos_token_id", None)
    many = named if isinstance(named, list) else [] if named is None else [named]
    if not all(type(token) is int for token in many):
        raise UnsupportedModel(
            f"eos_token_id {named!r:.60} is neither a token nor a list of tokens",
            place=str(folder.path),
            way_out=f"mend {GENERATION}",
        )
    return many
