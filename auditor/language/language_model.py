"""What a check may ask of a language model, and opening one whatever runs it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from auditor.language.causal_lm import CausalLM
from auditor.language.generation import Completion, Progress
from auditor.language.onnx_lm import OnnxCausalLM
from auditor.models.onnx_folder import holds_graph
from auditor.models.transformers_folder import ModelFolder

if TYPE_CHECKING:
    from transformers import LogitsProcessor


class LanguageModel(Protocol):
    """A causal language model, opened; what the calls mean says `auditor.language.text_model`."""

    @property
    def folder(self) -> ModelFolder:
        """Where it came from, with its digest."""

    @property
    def device(self) -> str:
        """`cpu` or `cuda`."""

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, as transformers opens it."""

    @property
    def max_tokens(self) -> int:
        """How many tokens it can see at once."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, after the beginning-of-text token if there is one."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""

    def chat(self, prompt: str, system: str | None = None) -> str:
        """The prompt as the model was trained to be asked."""

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        seed: int = 0,
        temperature: float = 0.0,
        processors: Sequence[LogitsProcessor] = (),
        batch_size: int = 16,
        stop: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> list[Completion]:
        """One completion for each prompt, in order."""

    def token_nll(
        self,
        texts: Sequence[str],
        *,
        window: int | None = None,
        stride: int | None = None,
        batch_size: int = 16,
        progress: Progress | None = None,
    ) -> list[NDArray[np.float64]]:
        """Nats of each token given the tokens before it, one array [tokens] for each text."""

    def mean_nats(self, texts: Sequence[str]) -> list[float]:
        """Mean nats of a token of each text."""

    def perplexity(
        self,
        texts: Sequence[str],
        *,
        window: int | None = None,
        stride: int | None = None,
        batch_size: int = 16,
    ) -> float:
        """Exp of the mean nats of all tokens of all texts."""


def open_language_model(
    path: Path, device: str = "cpu", expected_digest: str | None = None
) -> LanguageModel:
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
