"""A model of transformers as generation and scoring see it: logits and a key-value cache."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from auditor.errors import UnsupportedModel
from auditor.language.network import position_ids


def forward_parameters(model: Any) -> frozenset[str]:
    """Names of what the model's forward takes: not every family has position ids."""
    return frozenset(inspect.signature(model.forward).parameters)


def keeps_state(model: Any) -> bool:
    """Whether the model folds what it read into a state, see `Network.keeps_state`."""
    return bool(getattr(model, "_is_stateful", False))


class TorchNetwork:
    """A `Network` around a causal language model of transformers in evaluation mode.

    Attributes:
        model: The model, which stays as it is.
        takes: Names of what its forward takes.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.takes = forward_parameters(model)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device

    @property
    def vocabulary(self) -> int:
        """Tokens that have a logit."""
        return int(self.model.config.get_text_config(decoder=True).vocab_size)

    @property
    def keeps_state(self) -> bool:
        """Whether it folds what it read into a state; see `Network`."""
        return keeps_state(self.model)

    @property
    def cache_name(self) -> str:
        """What the model calls its cache: `past_key_values` before transformers 5.24."""
        return "cache" if "cache" in self.takes else "past_key_values"

    def step(self, ids: Tensor, mask: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Logits after the last token, and the cache; see `Network`."""
        new = ids if cache is None else ids[:, -1:]
        optional = {"position_ids": position_ids(mask)[:, -new.shape[1] :], "logits_to_keep": 1}
        output = self.model(
            input_ids=new,
            # Without padding the mask says nothing, and a state's next step takes none.
            attention_mask=None if self.keeps_state else mask,
            use_cache=True,
            **{self.cache_name: cache},
            **{key: value for key, value in optional.items() if key in self.takes},
        )
        cache = getattr(output, self.cache_name, None)
        if cache is None:
            raise UnsupportedModel(
                "generation needs a key-value cache",
                place=type(self.model).__name__,
                way_out="use a model that returns one",
            )
        return output.logits[:, -1], cache

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits after every token; see `Network`."""
        inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        if "position_ids" in self.takes:
            inputs["position_ids"] = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        logits: Tensor = self.model(**inputs).logits
        return logits
