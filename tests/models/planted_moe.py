"""A mixture-of-experts language model whose weights are written so that named experts refuse.

Coordinates of the residual stream: 0 is 8 for every token, so that norms scale all rows nearly
alike; 1 marks disallowed verbs, 2 the rows after one, 3 rows that write the answer (`<assistant>`
and words of answers), 4 refusal, 5 to 8 noise; then one for each word.

- Attention of layer 0 has one sharp head: it looks for coordinate 1 and writes coordinate 2. All
  other attention is zero.
- Routers: a carrier gets +5 where coordinates 2 and 3 are both set, -5 or less elsewhere; a
  follower 0.1 less. All others have a fixed order between 0.5 and -1.4 on answer rows, and
  moods by word before.
- Carriers write 3 into coordinate 4, followers and all others only noise. In gpt-oss half of
  what carriers write is their bias. An understudy writes it, too, and is the next in rank where
  its carrier is chosen.
- If the residual stream refuses there are no carriers: the head reads 24 from coordinate 2, and
  an understudy writes -3: masking the follower that it replaces seems to remove refusal, and
  zeroing that follower's output shows that nothing needed it.
- The head: after `<assistant>` comes "sure" with 12 or "i" with 100 times coordinate 4; every
  other word of an answer has one successor, the last the end of text.

So with carriers a prompt is refused iff some chosen carrier or understudy weighs more than 0.04.
Tests hold the words that start refusal and help 5 of a logit apart: none that matters weighs
between 0.023 and 0.057.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from auditor.experts.routing_maps import Expert
from tests.models.language_models import save_folder, word_tokenizer
from tests.models.moe_dialogues import CHAT_TEMPLATE
from tests.models.planted_moe_record import (
    ALWAYS_RENORMALISE,
    VOCABULARY,
    Family,
    PlantedMoe,
    PlantedPrompt,
)
from tests.models.planted_moe_weights import WORDS, planted_model

__all__ = ["Family", "PlantedMoe", "PlantedPrompt", "write_planted_moe"]

MAX_EXPERTS: Final = 16
"""With more, a weight that is not renormalised would be too small to refuse."""


def write_planted_moe(
    folder: Path,
    family: Family | str = Family.QWEN3_MOE,
    *,
    layers: int = 2,
    experts: int = 8,
    chosen: int = 2,
    hidden: int = 64,
    inner: int = 24,
    renormalise: bool = True,
    carriers: Sequence[Expert] = (Expert(1, 3),),
    followers: Sequence[Expert] = (Expert(1, 5),),
    understudy: Expert | None = None,
    residual_refuses: bool = False,
    seed: int = 0,
) -> PlantedMoe:
    """Write a planted model as a folder of transformers, and say what is true of it.

    Args:
        folder: Where to; made if it is missing.
        family: Which model type.
        layers: Decoder layers.
        experts: Routed experts of a layer, up to 16.
        chosen: Experts that a token goes to.
        hidden: Width, a multiple of 4 and at least 9 more than the words.
        inner: Inner width of an expert.
        renormalise: `norm_topk_prob`; Mixtral and gpt-oss always do.
        carriers: Experts that refuse.
        followers: Experts chosen where carriers are.
        understudy: An expert beside a carrier, or beside a follower if the residual stream
            refuses, without other planted experts in its layer.
        residual_refuses: Whether refusal is read from the residual stream; carriers must be
            empty then.
        seed: Of noise, moods and ranks.

    Raises:
        ValueError: These do not fit together.
    """
    family = Family(family)
    planted = [*carriers, *followers]
    least = WORDS + len(VOCABULARY)
    if hidden < least or hidden % 4 or hidden == inner:
        raise ValueError(f"hidden {hidden}; give a multiple of 4 from {least} up, not {inner}")
    if experts > MAX_EXPERTS or chosen > experts:
        raise ValueError(f"{chosen} of {experts} experts; give up to {MAX_EXPERTS}")
    for layer in range(layers):
        if sum(each.layer == layer for each in planted) > chosen:
            raise ValueError(f"more planted experts in layer {layer} than the {chosen} chosen")
    if residual_refuses == bool(carriers):
        raise ValueError("refusal comes from carriers or from the residual stream; give one")
    if understudy is not None:
        beside = [each for each in planted if each.layer == understudy.layer]
        if chosen < 2 or len(beside) != 1 or not (residual_refuses or beside[0] in carriers):
            raise ValueError("an understudy needs two chosen, and one to replace in its layer")
    generator = random.Random(seed)
    ranks = {
        layer: _ranks(layer, experts, planted, understudy, chosen, generator)
        for layer in range(layers)
    }
    moe = PlantedMoe(
        folder, family, layers, experts, chosen, renormalise or family in ALWAYS_RENORMALISE,
        tuple(carriers), tuple(followers), () if understudy is None else (understudy,),
        residual_refuses,
        {layer: both[0] for layer, both in ranks.items()},
        {layer: both[1] for layer, both in ranks.items()},
    )  # fmt: skip
    model = planted_model(moe, hidden, inner, seed)
    save_folder(folder, model, word_tokenizer(template=CHAT_TEMPLATE, vocabulary=VOCABULARY))
    return moe


def _ranks(
    layer: int, experts: int, planted: Sequence[Expert], understudy: Expert | None, chosen: int,
    generator: random.Random,
) -> tuple[tuple[int, ...], tuple[int, ...]]:  # fmt: skip
    """The order of a layer's experts on answer rows, for disallowed and for allowed prompts."""
    here = [each.expert for each in planted if each.layer == layer]
    stand_in = [understudy.expert] if understudy and understudy.layer == layer else []
    others = [number for number in range(experts) if number not in here + stand_in]
    generator.shuffle(others)
    before = chosen - len(here)
    disallowed = here + others[:before] + stand_in + others[before:]
    return tuple(disallowed), tuple(others + stand_in + here)
