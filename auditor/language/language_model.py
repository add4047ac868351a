"""What the engines here ask of a language model, and opening one whatever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from auditor.language.causal_lm import CausalLM
from auditor.language.generation import Completion, Progress
from auditor.language.onnx_lm import OnnxCausalLM
from auditor.language.text_model import TextModel
from auditor.models.onnx_folder import holds_graph

if TYPE_CHECKING:
    from transformers import LogitsProcessor


class LanguageModel(Protocol):
    """A model that completes prompts; every `auditor.language.text_model.TextModel` is one."""

    @property
    def tokenizer(self) -> Any:
        """Transformers' tokenizer."""

    @property
    def max_tokens(self) -> int:
        """How many tokens the model can see at once."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text as the model is given it."""

    def chat(self, prompt: str, system: str | None = None) -> str:
        """The prompt as the model was trained to be asked; as it is without a chat template."""

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        seed: int = 0,
        temperature: float = 0.0,
        processors: Sequence[LogitsProcessor] = (),
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> list[Completion]:
        """One completion for each prompt, in order."""


@runtime_checkable
class NextTokenModel(Protocol):
    """A model that says how likely tokens are after a prompt."""

    @property
    def tokenizer(self) -> Any:
        """Transformers' tokenizer."""

    def next_token_log_probabilities(
        self, prompts: Sequence[str], *, tokens: Sequence[int] | None = None, batch_size: int = 16
    ) -> NDArray[np.float32]:
        """Natural logarithms, [prompts, tokens or vocabulary], float32."""


def open_language_model(
    path: Path, device: str = "cpu", expected_digest: str | None = None
) -> TextModel:
    """The model of a folder: onnxruntime runs one with a model.onnx, torch one of safetensors.

    Args:
        path: The folder.
        device: `auto`, `cpu` or `cuda`.
        expected_digest: `sha256:...` of the folder, checked before it is opened.

    Raises:
        FileMissing: Folder, config.json, or graph and weights are not there.
        RefusedModel: Not safe to open.
        UnsupportedModel: Not a causal language model that can be run here.
        DeviceUnavailable: No such device here.
    """
    if holds_graph(Path(path)):
        return OnnxCausalLM.open(path, device, expected_digest)
    return CausalLM.open(path, device, expected_digest)
