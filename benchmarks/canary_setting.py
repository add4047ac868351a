"""Small language models whose training text is known to the word, for the benchmarks about it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch

from auditor.fixes.language_items import LanguageItems
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.training_spans import TrainingSpan
from tests.models import train_canary_lm
from tests.models.canary_items import UNREAD, canary_items, is_note
from tests.models.canary_lm import CanaryCorpus, Variant, canary_spans, plant


@dataclass(frozen=True)
class Setting:
    """Text and models of one seed; models are trained when they are first asked for.

    Attributes:
        out: Where models are kept.
        seed: Of text and training.
    """

    out: Path
    seed: int

    @cached_property
    def corpus(self) -> CanaryCorpus:
        """The training text, and what is not in it."""
        return plant(self.seed)

    def folder(self, variant: Variant) -> Path:
        """The folder of a trained model."""
        name = {Variant.PLANTED: "seed", Variant.REFERENCE: "reference"}[variant]
        folder = self.out / f"{name}{self.seed}"
        if not (folder / "config.json").exists():
            started = time.monotonic()
            train_canary_lm.write(folder, variant, self.seed)
            print(f"{folder.name}: trained in {time.monotonic() - started:.0f} s", flush=True)
        return folder

    @cached_property
    def model(self) -> CausalLM:
        """The model that saw the canaries."""
        return CausalLM.open(self.folder(Variant.PLANTED))

    @cached_property
    def reference(self) -> CausalLM:
        """The model that saw none."""
        return CausalLM.open(self.folder(Variant.REFERENCE))

    @cached_property
    def spans(self) -> list[TrainingSpan]:
        """The canaries."""
        return canary_spans(self.model, self.corpus.canaries)

    @cached_property
    def never(self) -> list[TrainingSpan]:
        """Canaries that no model saw."""
        return canary_spans(self.model, self.corpus.unplanted)

    @cached_property
    def items(self) -> LanguageItems:
        """What a pruning is told: canaries that are given exactly, and what no canary is in."""
        return canary_items(self.model, self.corpus)

    def nats_beside(self) -> tuple[float, float]:
        """Mean nats of documents without notes, and of notes, that the model never read."""
        notes = [text for text in self.corpus.spare[2 * UNREAD :] if is_note(text)][:UNREAD]
        held_out = self.corpus.held_out
        return tuple(float(np.mean(self.model.mean_nats(each))) for each in (held_out, notes))  # type: ignore[return-value]


def asked_settings(description: str) -> list[Setting]:
    """What the command line asks for; threads of torch are set."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("canaries"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    return [Setting(given.out, seed) for seed in given.seeds]
