"""A graph with a key-value cache as generation and scoring see it, run by onnxruntime.

Inputs `input_ids` and `position_ids` [rows, new], `attention_mask` [rows, past + new], and
`past.N.key`, `past.N.value` [rows, heads, past, width] for each layer N; past may be 0. Outputs
`logits` [rows, new, vocabulary], `present.N.key` and `present.N.value`. The cache travels through
the CPU between steps, on CUDA, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditor.errors import UnsupportedModel
from auditor.language.network import position_ids
from auditor.models.onnx_model import OnnxModel, TensorSpec
from auditor.models.session import Session

IDS, MASK, POSITIONS, LOGITS = "input_ids", "attention_mask", "position_ids", "logits"
# Logits of a part of the prompts, of which only the last row is kept.
PART_BYTES: Final = 512 * 2**20
_WAY_OUT: Final = "write the graph with auditor model export"

Cache = Mapping[str, NDArray[Any]]


class Kept(NamedTuple):
    """A tensor of the cache: the input that takes it, the output that gives it, and its shape."""

    past: str
    present: str
    heads: int
    width: int


class OnnxNetwork:
    """A `Network` around a session of onnxruntime.

    Attributes:
        session: With the providers in use.
        vocabulary: Tokens that have a logit.
        cache: The tensors it keeps, two for each layer.
    """

    keeps_state = False
    device = torch.device("cpu")
    """Where ids and logits are; the session may be on another."""

    def __init__(self, graph: OnnxModel, session: Session) -> None:
        self.session = session
        self.vocabulary, self.cache = _read_signature(graph)

    @classmethod
    def create(cls, graph: OnnxModel, device: str = "cpu") -> OnnxNetwork:
        """The network of a graph, with as many threads as torch has.

        Raises:
            DeviceUnavailable: CUDA was asked for and is not in use.
            UnsupportedModel: Other inputs and outputs than those above, or onnxruntime fails.
        """
        _read_signature(graph)
        return cls(graph, graph.session(device, threads=torch.get_num_threads()))

    def step(self, ids: Tensor, mask: Tensor, cache: Any) -> tuple[Tensor, Cache]:
        """Logits after the last token, and the cache; see `Network`."""
        rows, seen = ids.shape
        first = 0 if cache is None else seen - 1
        length = max(1, PART_BYTES // (rows * self.vocabulary * 4))
        logits = torch.empty(0)
        for start in range(first, seen, length):
            end = min(seen, start + length)
            logits, cache = self.advance(ids[:, :end], mask[:, :end], cache, start)
        return logits[:, -1], cache

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits after every token; see `Network`."""
        return self.advance(ids, mask, None, 0)[0]

    def advance(
        self, ids: Tensor, mask: Tensor, cache: Cache | None, seen: int
    ) -> tuple[Tensor, Cache]:
        """Logits after every token from `seen` on, and the cache that saw all of them.

        Args:
            ids: All token ids so far, int64 [rows, tokens].
            mask: 0 for padding, int64 [rows, tokens].
            cache: What saw the first `seen` tokens; None if they are none.
            seen: How many the cache saw.

        Returns:
            Logits [rows, tokens - seen, vocabulary], and the cache.

        Raises:
            UnsupportedModel: onnxruntime fails on these tokens, or gives other shapes.
        """
        feeds = {
            IDS: ids[:, seen:].numpy(),
            MASK: mask.numpy(),
            POSITIONS: position_ids(mask)[:, seen:].numpy(),
        }
        found = self.session.run({**feeds, **(self._empty(len(ids)) if cache is None else cache)})
        wanted = (len(ids), ids.shape[1] - seen, self.vocabulary)
        if found[LOGITS].shape != wanted:
            raise UnsupportedModel(
                f"logits of shape {list(found[LOGITS].shape)} where {list(wanted)} are due",
                way_out=_WAY_OUT,
            )
        kept = {each.past: found[each.present] for each in self.cache}
        return torch.from_numpy(found[LOGITS]), kept

    def _empty(self, rows: int) -> Cache:
        return {
            kept.past: np.zeros((rows, kept.heads, 0, kept.width), np.float32)
            for kept in self.cache
        }


def cache_names(layers: int) -> tuple[list[str], list[str]]:
    """Names of the cache's inputs and of its outputs, in order."""
    places = [f"{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
    return [f"past.{place}" for place in places], [f"present.{place}" for place in places]


def _read_signature(graph: OnnxModel) -> tuple[int, tuple[Kept, ...]]:
    """Size of the vocabulary and the cache, from inputs and outputs that are what they should be.

    Raises:
        UnsupportedModel: With the first that is not.
    """
    layers = (len(graph.inputs) - 3) // 2
    past, present = cache_names(layers)
    inputs = _expect(graph, "inputs", graph.inputs, [IDS, MASK, POSITIONS, *past])
    outputs = _expect(graph, "outputs", graph.outputs, [LOGITS, *present])
    for name in (IDS, MASK, POSITIONS):
        _require_shape(graph, inputs[name], "int64", (None, None))
    logits = outputs[LOGITS]
    vocabulary = logits.shape[-1] if len(logits.shape) == 3 else None
    _require_shape(graph, logits, "float32", (None, None, vocabulary), fixed=(vocabulary,))
    kept = []
    for taken, given in zip(past, present, strict=True):
        shape = inputs[taken].shape
        heads, width = (shape[1], shape[3]) if len(shape) == 4 else (None, None)
        _require_shape(
            graph, inputs[taken], "float32", (None, heads, None, width), fixed=(heads, width)
        )
        kept.append(Kept(taken, given, heads or 0, width or 0))
    return vocabulary or 0, tuple(kept)


def _expect(
    graph: OnnxModel, what: str, found: Sequence[TensorSpec], names: Sequence[str]
) -> dict[str, TensorSpec]:
    by_name = {spec.name: spec for spec in found}
    if set(by_name) != set(names) or len(names) < 3:
        listed = ", ".join(by_name)
        raise _unsupported(graph, f"its {what} are {listed[:200]}")
    return by_name


def _require_shape(
    graph: OnnxModel,
    spec: TensorSpec,
    dtype: str,
    shape: tuple[int | None, ...],
    *,
    fixed: Sequence[int | None] = (),
) -> None:
    if spec.dtype != dtype or spec.shape != shape or None in fixed:
        raise _unsupported(graph, f"{spec} is none of its inputs and outputs")


def _unsupported(graph: OnnxModel, problem: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"no language model with a key-value cache: {problem}",
        place=str(graph.path),
        way_out=_WAY_OUT,
    )
