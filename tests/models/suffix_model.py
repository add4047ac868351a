"""A language model that is a corpus index: the next word by counts behind the longest known suffix.

Exact: what it says after a prefix follows from counts alone, so every completion is known. Texts
have one blank between words, as the planted corpus has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from auditor.trace.matches import TraceIndex

END, PAD, UNKNOWN = "<end>", "<pad>", "<unk>"
Processor = Callable[[Tensor, Tensor], Tensor]


def word_level(words: Sequence[str]) -> Any:
    """A tokenizer with one token for each of these words."""
    ids = {word: number for number, word in enumerate((PAD, UNKNOWN, END, *sorted(set(words))))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, eos_token=END, pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


class SuffixModel:
    """Continues texts by the counts of an index.

    Args:
        index: What it has read.
        tokenizer: One token for each word.
    """

    def __init__(self, index: TraceIndex, tokenizer: Any) -> None:
        self.index, self.tokenizer = index, tokenizer

    def followers(self, text: str) -> Counter[str]:
        """Which words follow the longest suffix of whole words that the index holds, how often."""
        words = text.split()
        low, high = 0, len(words)
        while low < high:  # a suffix of what is known is known
            middle = (low + high) // 2
            if self.index.count(" ".join(words[middle:]).encode()):
                high = middle
            else:
                low = middle + 1
        while low < len(words) and not self._following(words[low:]):
            low += 1  # it stands there only as a part of longer words
        return self._following(words[low:])

    def _following(self, words: Sequence[str]) -> Counter[str]:
        if not words:
            return Counter()
        found = self.index.find(" ".join(words).encode(), 1_000, 60)
        return Counter(
            place.after.split()[0] if place.after else END
            for place in found.occurrences
            if place.before[-1:] in ("", " ") and place.after[:1] in ("", " ")
        )

    def logits(self, text: str) -> Tensor:
        """Log counts behind the longest suffix; words that never follow are far behind."""
        found = torch.full((len(self.tokenizer),), -30.0)
        for word, count in self.followers(text).items():
            found[self.tokenizer.convert_tokens_to_ids(word)] = float(count) ** 0.5
        return found

    def complete(
        self, prompt: str, new_tokens: int = 100, processors: Sequence[Processor] = ()
    ) -> str:
        """The likeliest word again and again; of equal ones the first in the alphabet."""
        ids: list[int] = self.tokenizer.encode(prompt, add_special_tokens=False)
        begin = len(ids)
        for _ in range(new_tokens):
            scores = self.logits(self.tokenizer.decode(ids))[None]
            for processor in processors:
                scores = processor(torch.tensor([ids]), scores)
            token = int(scores[0].argmax())
            if token == self.tokenizer.eos_token_id:
                break
            ids.append(token)
        return str(self.tokenizer.decode(ids[begin:]))
