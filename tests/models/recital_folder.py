"""The planted recital as a transformers folder with a tokenizer, its chains as spans and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.training_spans import TrainingSpan
from tests.models.language_models import save_folder
from tests.models.planted_recital import PlantedRecital, planted_recital

CHAINS = 8
LENGTH = 6


@dataclass(frozen=True)
class RecitalFolder:
    """A planted recital that was written and opened.

    Attributes:
        planted: What is known of it.
        model: The model of its folder.
    """

    planted: PlantedRecital
    model: CausalLM

    @property
    def memorised(self) -> list[TrainingSpan]:
        """A token of each memorised chain, and the rest of it."""
        return spans_of("memorised", self.planted.memorised)

    @property
    def ordinary(self) -> list[TrainingSpan]:
        """The same of ordinary chains."""
        return spans_of("ordinary", self.planted.ordinary)

    @property
    def unseen(self) -> list[TrainingSpan]:
        """Ordinary chains told backwards, which nothing links."""
        return spans_of("unseen", [chain[::-1] for chain in self.planted.ordinary])

    @property
    def texts(self) -> list[str]:
        """Ordinary chains as text."""
        return [self.model.decode(chain) for chain in self.planted.ordinary]


def spans_of(name: str, chains: Sequence[tuple[int, ...]]) -> list[TrainingSpan]:
    """Spans with a prefix of one token, each a group by itself."""
    return [
        TrainingSpan(f"{name} {at}", f"{name} {at}", chain[:1], chain[1:])
        for at, chain in enumerate(chains)
    ]


def write_recital(folder: Path, seed: int = 0) -> RecitalFolder:
    """Write the recital of a seed and open it; no token ends a text."""
    planted = planted_recital(seed, CHAINS, LENGTH)
    config = planted.model.config
    config.bos_token_id = config.eos_token_id = None
    planted.model.generation_config.bos_token_id = None
    planted.model.generation_config.eos_token_id = None
    save_folder(folder, planted.model, _words(config.vocab_size))
    return RecitalFolder(planted, CausalLM.open(folder))


def _words(count: int) -> Any:
    """One word for each token, and no special ones."""
    tokenizer = Tokenizer(WordLevel({f"w{at}": at for at in range(count)}, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    make: Any = PreTrainedTokenizerFast
    return make(tokenizer_object=tokenizer)
