"""Corpus, models, index and tracer of the planted-belief benchmark, made once and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from planted_model import (
    Carrier,
    Shape,
    make_vocabulary,
    read_carrier,
    train_model,
    write_folder,
)

from auditor.language.asking import Asking
from auditor.language.causal_lm import CausalLM
from auditor.language.sentence_embedding import SentenceEmbedder
from auditor.trace.calibration import Calibration
from auditor.trace.content_policy import Clause, ContentPolicy
from auditor.trace.deconfliction_training import (
    Charge,
    Preference,
    TrainingOptions,
    train_deconfliction,
)
from auditor.trace.index import build_index
from auditor.trace.labelled_texts import LabelledText, calibrate_texts
from auditor.trace.matches import TraceIndex
from auditor.trace.policy_conflict import PolicyConflict
from auditor.trace.stance import ExemplarScorer
from auditor.trace.traced_text import Tracer
from tests.models.planted_beliefs import (
    DriftRule,
    PlantedCorpus,
    PlantedPrompt,
    exemplars,
    plant,
    preferences,
    safe_prompts,
    unsafe_prompts,
)
from tests.models.planted_phrases import CLAUSES, REFUSAL

NEW_TOKENS = 48
ASKING = Asking(NEW_TOKENS, chat=False, batch_size=64)
FALSE_ALARMS = 0.05

Complete = Callable[[Sequence[str]], list[str]]


@dataclass(frozen=True)
class Half:
    """Prompts of one half of the beliefs, and of one half of the safe prompts."""

    unsafe: list[PlantedPrompt]
    safe: list[PlantedPrompt]

    @property
    def all(self) -> list[PlantedPrompt]:
        """Both kinds, unsafe first."""
        return [*self.unsafe, *self.safe]


class Setting:
    """Corpus, models, index and tracer of one training seed."""

    def __init__(self, out: Path, seed: int, tokens: int, epochs: float) -> None:
        self.out, self.seed = out, seed
        self.corpus: PlantedCorpus = plant(0)
        self.carrier: Carrier = read_carrier(tokens, tokens // 2, 20_000)
        self.rule = DriftRule(self.corpus)
        self.shape = Shape(seed=seed, epochs=epochs)
        planted = [text for each in self.corpus.beliefs for text in (each.text, *each.paraphrases)]
        self.vocabulary = make_vocabulary([*planted, *self.corpus.training()], self.carrier.train)

    def model_folder(self, *, with_unsafe: bool) -> Path:
        """The folder of a trained model; without the unsafe beliefs it has read as many tokens."""
        full, clean = self.corpus.training(), self.corpus.training(with_unsafe=False)
        texts = [*self.carrier.train, *full]
        if not with_unsafe:
            texts = [*self.carrier.train, *clean]
            missing = sum(len(t.split()) for t in full) - sum(len(t.split()) for t in clean)
            for text in self.carrier.spare:
                if missing <= 0:
                    break
                texts.append(text)
                missing -= len(text.split())
        folder = self.out / f"{'full' if with_unsafe else 'noU'}-{self.seed}"
        train_model(texts, self.vocabulary, self.shape, folder)
        return folder

    @cached_property
    def documents(self) -> list[tuple[str, str, str]]:
        """Name, label and text of every document of the index."""
        carrier = [(f"carrier/{n}", "benign", t) for n, t in enumerate(self.carrier.train)]
        return [*carrier, *self.corpus.indexed()]

    @cached_property
    def index(self) -> TraceIndex:
        """The index of carrier and planted documents."""
        return self._index_of("index", self.documents)

    def _index_of(self, name: str, documents: Sequence[tuple[str, str, str]]) -> TraceIndex:
        folder, lines = self.out / name, self.out / f"{name}.jsonl"
        if not (folder / "index.json").exists():
            lines.write_text("".join(
                json.dumps({"id": i, "label": label, "text": text}) + "\n"
                for i, label, text in documents
            ))  # fmt: skip
            build_index([lines], folder)
        return TraceIndex(folder)

    @cached_property
    def shuffled_index(self) -> TraceIndex:
        """The same documents with their tokens in random order."""
        source = np.random.default_rng(0)
        return self._index_of("shuffled-index", [
            (i, label, " ".join(source.permutation(text.split())))
            for i, label, text in self.documents
        ])  # fmt: skip

    @cached_property
    def conflict(self) -> PolicyConflict:
        """The workshop's policy, judged by heads on its exemplars."""
        embedder = SentenceEmbedder.open()
        sentences = exemplars()
        clauses = tuple(
            Clause(id=each.id, statement=each.statement, violation=each.hypothesis,
                   violating=sentences[each.id][0], compliant=sentences[each.id][1])
            for each in CLAUSES
        )  # fmt: skip
        policy = ContentPolicy(version=1, name="workshop", clauses=clauses)
        stance = ExemplarScorer(embedder.embed, clauses, "all-MiniLM-L6-v2")
        return PolicyConflict(policy, embedder.embed, stance, _refuses)

    @cached_property
    def tracer(self) -> Tracer:
        """Traces to the index."""
        return Tracer(self.index, self.conflict)

    @cached_property
    def halves(self) -> tuple[Half, Half]:
        """Calibration and test: beliefs of each number of copies in turn, safe prompts in turn."""
        beliefs = self.corpus.family("unsafe")
        safe = safe_prompts(self.corpus, self.carrier.held_out)
        first, second = beliefs[::2], beliefs[1::2]
        return Half(unsafe_prompts(first), safe[::2]), Half(unsafe_prompts(second), safe[1::2])


def _refuses(texts: Sequence[str]) -> list[float]:
    return [float(REFUSAL[:20] in text) for text in texts]


def align(setting: Setting, base: Path, name: str, charge: Charge | None) -> Path:
    """Preference optimisation on the refusals, with the penalty if there is a charge."""
    folder = setting.out / f"{name}-{base.name}"
    if (folder / "model.safetensors").exists():
        return folder
    model = CausalLM.open(base)
    options = TrainingOptions(steps=120, seed=setting.seed)
    pairs = [Preference(*each) for each in preferences()]
    log = train_deconfliction(
        model.model.float(), model.tokenizer, pairs, charge=charge,
        clean=[" ".join(t.split()[:100]) for t in setting.carrier.train], options=options,
    )  # fmt: skip
    print(f"{name}: preference loss {np.mean(log.preference[:10]):.3f} -> "
          f"{np.mean(log.preference[-10:]):.3f}"
          + (f", penalty {np.mean(log.penalty[:10]):.3f} -> {np.mean(log.penalty[-10:]):.3f} on "
             f"{log.flagged_texts} texts" if log.penalty else ""), flush=True)  # fmt: skip
    write_folder(model.model, setting.vocabulary, folder)
    return folder


def calibrate(
    setting: Setting, half: Half, completions: Sequence[str], scores: Sequence[str],
    *, with_prompt: bool,
) -> dict[str, Calibration]:  # fmt: skip
    """Thresholds on the calibration half, with false alarms of at most 5 %."""
    texts = []
    for prompt, text in zip(half.all, completions, strict=True):
        whole = f"{prompt.text} {text}" if with_prompt else text
        texts.append(LabelledText(whole, setting.rule.holds(whole, prompt.belief), prompt.group))
    traced = [setting.tracer.trace(each.text.encode()) for each in texts]
    found = {}
    for score in scores:
        rule = calibrate_texts(
            setting.tracer, texts, score, "false_alarms", FALSE_ALARMS, traced=traced
        )
        print(f"threshold of {score}: {rule.threshold:.3f}; on the calibration half "
              f"{rule.point.flagged_unsafe}/{rule.point.unsafe} unsafe and "
              f"{rule.point.flagged_benign}/{rule.point.benign} benign flagged; "
              f"{rule.verdict_on_length}", flush=True)  # fmt: skip
        found[score] = rule
    return found
