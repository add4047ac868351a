"""What generation and scoring ask of a language model: logits, one step or one text at a time.

torch (`torch_network`) and onnxruntime (`onnx_network`) implement it. Token ids and masks are
tensors of torch for both, as processors and sampling are written for them.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor


class Network(Protocol):
    """A causal language model that runs."""

    @property
    def device(self) -> torch.device:
        """Where ids and masks have to be, and logits are."""

    @property
    def vocabulary(self) -> int:
        """Tokens that have a logit."""

    @property
    def keeps_state(self) -> bool:
        """Whether it folds what it read into a state, as Mamba does, wholly or in part.

        Such a state would take in padding, so prompts that run together must be of one length.
        """

    def step(self, ids: Tensor, mask: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Logits after the last token, and the cache that saw all of them.

        Args:
            ids: All token ids so far, int64 [rows, tokens]; of these the cache saw all but the
                last.
            mask: 0 for padding, which stands on the left, int64 [rows, tokens].
            cache: What the step before returned; None for the first.

        Returns:
            Logits [rows, vocabulary] and the new cache. The old one may have been changed.

        Raises:
            UnsupportedModel: It keeps no key-value cache, or fails on these tokens.
        """

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits after every token, [rows, tokens, vocabulary]; padding stands on the right.

        Raises:
            UnsupportedModel: It fails on these tokens.
        """


def position_ids(mask: Tensor) -> Tensor:
    """Positions that count only what the mask keeps, [rows, tokens]; padding gets 0."""
    return (mask.cumsum(1) - 1).clamp(min=0)
