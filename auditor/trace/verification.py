"""Every byte of a shard is what it should be: digests, order, and that all follows from the text.

That suffixes are in order is proved in linear time (Burkhardt and Kärkkäinen 2003).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from auditor.errors import RefusedInput
from auditor.files import plain_digest
from auditor.trace.encoder import TextEncoder
from auditor.trace.manifest import SEPARATOR
from auditor.trace.shard import PADDING, Shard
from auditor.trace.shard_writer import sorted_tokens
from auditor.trace.suffix_kernel import count_pairs, first_disorder, invert
from auditor.trace.token_shard import SEPARATOR_ID, symbols_of


def verify_shard(shard: Shard, encoder: TextEncoder | None) -> None:
    """Check a shard whole; with a tokenizer if its tokens are indexed.

    Raises:
        RefusedInput: The first thing that is wrong.
    """
    for name, stored in shard.record.files.items():
        if plain_digest(shard.folder / name) != stored.digest:
            raise RefusedInput(f"{shard.folder / name} is damaged; build the index anew")
    _verify_starts(shard)
    if encoder:
        _verify_symbols(shard, encoder)
    _verify_order(shard)
    if encoder:
        counts = np.bincount(shard.sequence, minlength=len(shard.alphabet) + 1)
    else:
        counts = count_pairs(shard.text)
    if not np.array_equal(np.diff(shard.buckets), counts) or shard.buckets[0]:
        raise RefusedInput(f"{shard.folder}: its buckets are not those of its text")
    if not np.array_equal(sorted_tokens(shard.text), shard.tokens):
        raise RefusedInput(f"{shard.folder}: its words are not those of its text")


def _verify_starts(shard: Shard) -> None:
    """Documents begin at the text's start and behind its separators, of which two more end it."""
    ends = np.flatnonzero(shard.text == SEPARATOR)
    inner, padding = ends[: shard.record.documents], ends[shard.record.documents :]
    last = np.arange(len(shard.text) - PADDING, len(shard.text))
    if not np.array_equal(inner + 1, shard.starts[1:]) or not np.array_equal(padding, last):
        raise RefusedInput(f"{shard.folder}: its documents do not begin where its text says")


def _verify_order(shard: Shard) -> None:
    """The suffixes are a permutation of the places, and in order."""
    ranks = np.empty(len(shard.suffixes) + 1, dtype=np.int32)
    if not invert(shard.suffixes, ranks):
        raise RefusedInput(f"{shard.folder}: its suffixes are no permutation")
    at = int(first_disorder(shard.sequence, shard.suffixes, ranks))
    if at >= 0:
        raise RefusedInput(f"{shard.folder}: suffixes {at} and {at + 1} are out of order")


def _verify_symbols(shard: Shard, encoder: TextEncoder) -> None:
    """Symbols, their places and the alphabet are those of the text, tokenised again."""
    ids = np.append(shard.alphabet.astype(np.int64), SEPARATOR_ID)
    if int(shard.sequence.max()) != len(ids) - 1:
        raise RefusedInput(f"{shard.folder}: its alphabet is not that of its symbols")
    counts = np.bincount(shard.sequence, minlength=len(ids))[:-1]
    order = list(zip((-counts).tolist(), ids[:-1].tolist(), strict=True))
    if any(one >= other for one, other in pairwise(order)) or not counts.all():
        raise RefusedInput(f"{shard.folder}: its alphabet is not in order")
    at = 0
    for found, covered in symbols_of(shard.text, shard.starts, encoder):
        stop = at + len(found)
        if not np.array_equal(ids[shard.sequence[at:stop]], found) or not np.array_equal(
            shard.places[at:stop], covered
        ):
            raise RefusedInput(
                f"{shard.folder}: its symbols are not the tokens of its text; this version of "
                "the package tokenizers may cut otherwise, build the index anew"
            )
        at = stop
    if at != len(shard.sequence):
        raise RefusedInput(f"{shard.folder}: it has symbols beyond its text")
