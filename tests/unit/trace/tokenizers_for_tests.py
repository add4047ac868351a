"""Tokenizers made on the spot: one of bytes and words, one of whole words, one that fails."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

SENTENCES = (
    "the cat sat on the mat", "the dog sat on the cat", "a bird and a cat", "é 😀 naïve the end",
)  # fmt: skip


def byte_tokenizer(path: Path, *, merges: int = 40) -> Path:
    """Byte-level pieces with some merges, as most language models have; it knows all text."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train_from_iterator(
        SENTENCES * 3,
        trainers.BpeTrainer(
            vocab_size=257 + merges,
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<eos>"],
        ),
    )
    made.save(str(path))
    return path


def word_tokenizer(path: Path, words: int = 100) -> Path:
    """Words `w0`, `w1`, ... between white space, which is of no token; others are unknown."""
    vocabulary = {f"w{number}": number for number in range(words)} | {"[UNK]": words}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.save(str(path))
    return path
