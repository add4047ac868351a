"""Vectors of sentences: all-MiniLM-L6-v2 (Reimers, Gurevych 2019; Wang et al. 2020), offline.

The default weights come from an installed package and are checked against their SHA-256
before they are opened. Cosine sees topic, not stance: contradicting sentences are close.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigurationError, UnsupportedModel
from auditor.language.embedder_folder import (
    DEFAULT_DIGEST,
    default_folder,
    find_folder,
    vet_folder,
)
from auditor.language.opening import choose_device, quiet_transformers

Float32 = NDArray[np.float32]


class Embedded(NamedTuple):
    """Vectors [texts, width], float32 of length 1, and whether each text was cut, [texts]."""

    vectors: Float32
    truncated: NDArray[np.bool_]


class SentenceEmbedder:
    """Turns texts into vectors of length 1.

    Attributes:
        digest: `sha256:<hex>` of the weights file.
        width: Numbers in a vector, 384 for the default.
        max_tokens: Tokens of a text that are read; longer texts are cut, and flagged.
    """

    def __init__(self, model: Any, digest: str, batch_size: int, cache_size: int) -> None:
        self._model, self._batch_size, self._cache_size = model, batch_size, cache_size
        self._cache: OrderedDict[bytes, tuple[Float32, bool]] = OrderedDict()
        self.digest = digest
        self.max_tokens = int(model.max_seq_length)
        self.width = len(self._compute(["one sentence"])[0][0])

    @classmethod
    def open(
        cls,
        source: Path | str | None = None,
        *,
        online: bool = False,
        device: str = "cpu",
        expected_digest: str | None = None,
        batch_size: int = 64,
        cache_size: int = 20_000,
    ) -> SentenceEmbedder:
        """The default embedder, one in a folder, or, online only, one of the hub.

        Args:
            source: Folder as sentence-transformers saves it, or a name on the hub.
            online: Whether a name may be downloaded; otherwise nothing leaves the machine.
            device: `auto`, `cpu` or `cuda`.
            expected_digest: `sha256:...` of model.safetensors; the default's is always checked.
            batch_size: Texts at once.
            cache_size: Vectors kept, least recently used dropped first.

        Raises:
            ConfigurationError: A name without `online`.
            FileMissing: Folder, package or one of its files is not there.
            RefusedModel: Other weights than expected, or not safe to open.
            UnsupportedModel: Parts other than a transformer, pooling and normalisation.
            OperationFailed: The download failed.
        """
        if batch_size < 1 or cache_size < 0:
            raise ConfigurationError(
                f"batch size {batch_size} and cache size {cache_size}; give at least 1 and 0"
            )
        if source is None:
            folder, expected_digest = default_folder(), DEFAULT_DIGEST
        else:
            folder = find_folder(source, online=online)
        vetted = vet_folder(folder, expected_digest)
        model = _load(folder, choose_device(device), vetted.numbers)
        return cls(model, vetted.digest, batch_size, cache_size)

    def embed(self, texts: Sequence[str]) -> Float32:
        """Vectors of the texts, [texts, width], float32, each of length 1."""
        return self.embed_flagged(texts).vectors

    def embed_flagged(self, texts: Sequence[str]) -> Embedded:
        """Vectors of the texts, and which texts were longer than `max_tokens`."""
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        found = {key: self._cache[key] for key in keys if key in self._cache}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        found.update(zip(new, self._compute(list(new.values())), strict=True))
        for key in keys:
            self._cache[key] = found[key]
            self._cache.move_to_end(key)
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        vectors = np.zeros((len(keys), self.width), np.float32)
        for row, key in enumerate(keys):
            vectors[row] = found[key][0]
        return Embedded(vectors, np.array([found[key][1] for key in keys], bool))

    def _compute(self, texts: list[str]) -> list[tuple[Float32, bool]]:
        if not texts:
            return []
        # A lone surrogate is no text to a tokenizer; it reads the replacement character instead.
        readable = [text.encode("utf-8", "replace").decode() for text in texts]
        vectors = self._model.encode(
            readable,
            batch_size=self._batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=True,
        )
        return [
            (vector.astype(np.float32), self._length(text) > self.max_tokens)
            for vector, text in zip(vectors, readable, strict=True)
        ]

    def _length(self, text: str) -> int:
        tokens = self._model.tokenizer(text, truncation=False, verbose=False)["input_ids"]
        return len(tokens)


def _load(folder: Path, device: str, held: int) -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    try:
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            model = SentenceTransformer(
                str(folder),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
    except (ValueError, TypeError, KeyError, OSError, RuntimeError, AttributeError) as error:
        raise UnsupportedModel(
            f"sentence-transformers cannot open it: {(str(error).splitlines() or [''])[0][:200]}",
            place=str(folder),
            way_out="save the model again",
        ) from error
    # The pooler of BERT is unused here, and many files leave it out.
    numbers = sum(
        weight.numel() for name, weight in model.named_parameters() if "pooler" not in name
    )
    if numbers > held:
        raise UnsupportedModel(
            f"the model has {numbers} numbers and its weights hold {held}",
            place=str(folder),
            way_out="save the whole model",
        )
    return model
