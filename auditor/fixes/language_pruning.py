"""A language model as a study of pruning: spans it recites, ordinary text, and the attacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.fixes.language_items import LanguageItems
from auditor.fixes.language_recovery import (
    LanguageAttacks,
    attack_language_model,
    require_attackable,
)
from auditor.fixes.mask_grid import GridStudy, MaskSetting, overlap_line, settings_of
from auditor.fixes.pruned_language_model import fill_pruned_onnx, write_pruned_language
from auditor.fixes.pruning_gate import PruningDemands
from auditor.fixes.pruning_study import Candidate, Float64, Outcome, Recovery, Split, Wording
from auditor.language.causal_lm import CausalLM
from auditor.memorization.language.extraction import compare_completion, prompt_of
from auditor.memorization.language.objective import LanguageObjective, mean_span_nats
from auditor.memorization.language.subspace import language_norms, read_spans, recital_effects
from auditor.memorization.language.training_spans import TrainingSpan
from auditor.memorization.masks.input_norms import InputNorms
from auditor.memorization.masks.learned_masks import MaskTraining, learn_masks
from auditor.memorization.masks.mask_rules import MaskRule, masks_by_norms
from auditor.memorization.masks.score_masks import contrast_effects, masks_by_scores, norm_scores
from auditor.memorization.masks.shared_subspace import LEAST_PAIRS, measure_shared_subspace
from auditor.memorization.masks.weight_masks import WeightMasks, pruned
from auditor.memorization.masks.weight_sites import SiteKind, WeightSite, find_sites

LAYERS: Final = ((SiteKind.FEED_FORWARD,), (SiteKind.FEED_FORWARD, SiteKind.ATTENTION))
DEMANDS: Final = PruningDemands(most_rate=0.1, most_loss=0.05)
"""Of language models: one span in ten may come back, and perplexity may rise by 5 %."""
HELD_TOKENS: Final = 128
"""Of each ordinary text so many tokens are held while masks are learned."""
NEAR: Final = 0.75
"""Similarity of tokens from which a completion is near its continuation."""


@dataclass(frozen=True)
class LanguagePruning:
    """How masks are made and measured.

    Attributes:
        rules: Which rules are tried.
        layers: Which sets of layers.
        shares: Of each row; of each layer's neurons if these are pruned whole.
        neurons: Whether whole neurons (columns) are pruned, or single weights.
        training: How masks are learned; its share is one of `shares`.
        aim: Nats to which a token of memorised continuations is raised by learned masks; what
            continuations of ordinary spans have if None.
        hold: Weight of what holds ordinary text meanwhile.
        attacks: Which attacks are made.
        batch_size: Spans at once.
        seed: Of all chance.
    """

    rules: tuple[MaskRule, ...] = (MaskRule.WANDA_DIFF, MaskRule.GRADIENT, MaskRule.LEARNED)
    layers: tuple[tuple[SiteKind, ...], ...] = LAYERS
    shares: tuple[float, ...] = (0.02, 0.05, 0.1)
    neurons: bool = False
    training: MaskTraining = field(default_factory=lambda: MaskTraining(steps=100))
    aim: float | None = None
    hold: float = 1.0
    attacks: LanguageAttacks = field(default_factory=LanguageAttacks)
    batch_size: int = 16
    seed: int = 0


@dataclass(eq=False)
class LanguageStudy(GridStudy):
    """A `PruningStudy` of a language model.

    Attributes:
        model: The model, untouched; changed only inside blocks.
        items: What it recites.
        how: How masks are made and measured.
        progress: Called with text.
    """

    model: CausalLM
    items: LanguageItems
    how: LanguagePruning
    progress: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        """Find the layers, and refuse what would fail after long work."""
        self._sites = {
            kinds: find_sites(self.model.model, kinds, str(self.model.folder.path))
            for kinds in self.how.layers
        }
        for spans in (self.items.memorised, self.items.unseen):
            require_attackable(self.model, spans, self.how.attacks)
        self._norms: InputNorms | None = None
        self._known: dict[tuple[TrainingSpan, ...], dict[str, Tensor]] = {}
        self._aim = self.how.aim or mean_span_nats(self.model, self.items.ordinary)

    @property
    def digest(self) -> str:
        """Of the untouched model."""
        return self.model.folder.digest

    @property
    def path(self) -> Path:
        """Folder of the untouched model."""
        return self.model.folder.path

    @property
    def wording(self) -> Wording:
        """How its measures are called."""
        return Wording(
            "strict extraction", "perplexity of ordinary text", relative=True, items="spans"
        )

    @property
    def parameters(self) -> dict[str, str]:
        """What it was given, for the record."""
        how, items = self.how, self.items
        chosen, reported = (len(items.of(split)) for split in Split)
        return {
            "memorised spans": f"{chosen} to choose by, {reported} to report on",
            "ordinary spans": str(len(items.ordinary)),
            "ordinary texts": f"{len(items.texts)} to choose by, {len(items.held_out)} to report "
            "on",
            "spans never seen": str(len(items.unseen)),
            "pruned": "whole neurons" if how.neurons else "single weights",
            "learned masks": f"{how.training.steps} steps at {how.training.rate:g}, aim "
            f"{self._aim:.2f} nats, ordinary text held by {how.hold:g}",
            "seed": str(how.seed),
        }  # fmt: skip

    @property
    def settings(self) -> dict[str, MaskSetting]:
        """Every rule, set of layers and share, by name."""
        how = self.how
        return settings_of(how.rules, how.layers, how.shares, neurons=how.neurons)

    @property
    def sites(self) -> Mapping[tuple[SiteKind, ...], tuple[WeightSite, ...]]:
        """The layers of each set."""
        return self._sites

    def masks(self, setting: MaskSetting, which: Sequence[int] | None = None) -> WeightMasks:
        """Masks of some memorised spans, by number; of all if None.

        Raises:
            ConfigurationError: The rule cannot prune whole neurons, or the share is out of range.
        """
        rule, share, neurons = setting.rule, setting.share, setting.neurons
        sites = self._sites[setting.kinds]
        memorised = list(range(len(self.items.memorised)) if which is None else which)
        spans = [self.items.memorised[at] for at in memorised]
        norms = self._driven()
        ordinary = range(len(self.items.memorised), norms.prompts)
        if rule is MaskRule.GRADIENT:
            known = {site.name for site in sites}
            high, low = (
                {name: each for name, each in self._effects(some).items() if name in known}
                for some in (spans, self.items.ordinary)
            )
            scores = contrast_effects(high, low, neurons=neurons)
            return masks_by_scores(scores, share, neurons=neurons)
        if rule is MaskRule.LEARNED:
            start = norm_scores(MaskRule.WANDA_DIFF, sites, norms, memorised, ordinary)
            training = replace(self.how.training, share=share, neurons=neurons)
            return learn_masks(sites, self._objective(spans).loss, training, start)
        if neurons:
            scores = norm_scores(rule, sites, norms, memorised, ordinary)
            return masks_by_scores(scores, share, neurons=True)
        return masks_by_norms(rule, sites, share, norms, memorised, ordinary)

    def measure(self, split: Split) -> Outcome:
        """What the model does at this moment with the spans and texts of a split."""
        spans = [self.items.memorised[at] for at in self.items.of(split)]
        read = read_spans(self.model, spans)
        exact = [each.exact for each in read]
        also = {
            "tokens of continuations that are the likeliest":
                float(np.mean([each.hits.mean() for each in read])),
            "nats of a token of continuations": float(np.mean([each.nats.mean() for each in read])),
        }  # fmt: skip
        if split is Split.REPORT:
            left = [span for span, same in zip(spans, exact, strict=True) if not same]
            also["near extraction"] = (sum(exact) + self._near(left)) / len(spans)
        costs = np.array(self.model.mean_nats(self.items.texts_of(split)))
        if np.isnan(costs).any():
            raise ConfigurationError(
                f"{int(np.isnan(costs).sum())} ordinary texts have no token to be scored; give "
                "texts of two tokens or more"
            )
        return Outcome(np.array(exact, np.float64), costs, also)

    def attacks(self) -> list[Recovery]:
        """What every attack brings back from the model as it is at this moment."""
        return attack_language_model(
            self.model, self.items.memorised, self.items.unseen, self.how.attacks,
            self._counts(), self.progress,
        )  # fmt: skip

    def located_apart(self, candidate: Candidate) -> list[str]:
        """Overlap of masks of disjoint halves, and what one half's mask does to the other."""
        setting = self.settings[candidate.name]
        pairs = min(len(self.items.memorised), len(self.items.ordinary))
        if pairs < LEAST_PAIRS:
            return [f"{pairs} pairs of spans are too few to ask whether they share one subspace"]
        norms, count = self._driven(), len(self.items.memorised)

        def make(memorised: Sequence[int], ordinary: Sequence[int]) -> WeightMasks:
            scores = norm_scores(MaskRule.WANDA_DIFF, candidate.sites, norms, memorised, ordinary)
            return masks_by_scores(scores, setting.share, neurons=setting.neurons)

        shared = measure_shared_subspace(
            make, [(at, count + at) for at in range(pairs)], seed=self.how.seed
        )
        lines = [overlap_line(shared)]
        for split, other in ((Split.CHOOSE, Split.REPORT), (Split.REPORT, Split.CHOOSE)):
            with pruned(candidate.sites, self.masks(setting, self.items.of(split))):
                own, others = (self._exact(each) for each in (split, other))
            lines.append(
                f"masks by {setting.rule} of {len(own)} spans leave strict extraction of "
                f"{own.mean():.1%} for these and {others.mean():.1%} for the other {len(others)}"
            )
        return lines

    @contextmanager
    def hardened(self, candidate: Candidate) -> Iterator[bool]:
        """Nothing: language models are not trained after pruning."""
        yield False

    def write(self, made: Path, candidate: Candidate) -> str:
        """The model as it is at this moment, with everything else its folder holds."""
        return write_pruned_language(
            self.model, made, [*self.items.memorised, *self.items.ordinary]
        )

    def write_graph(self, made: Path, candidate: Candidate) -> None:
        """The same as an ONNX folder that agrees with torch; see `pruned_language_model`."""
        folder = self.model.folder
        fill_pruned_onnx(folder.path, made, candidate.masks, folder.digest)

    def _exact(self, split: Split) -> Float64:
        spans = [self.items.memorised[at] for at in self.items.of(split)]
        return np.array([float(each.exact) for each in read_spans(self.model, spans)])

    def _near(self, spans: Sequence[TrainingSpan]) -> int:
        """Spans whose greedy completion is nearly the continuation."""
        if not spans:
            return 0
        said = self.model.continue_tokens(
            [prompt_of(self.model, span, len(span.prefix)) for span in spans],
            max_new_tokens=max(len(span.continuation) for span in spans),
            batch_size=self.how.batch_size,
        )  # fmt: skip
        return sum(
            compare_completion(
                self.model, span.continuation, each.token_ids[: len(span.continuation)]
            ).similarity >= NEAR
            for span, each in zip(spans, said, strict=True)
        )  # fmt: skip

    def _objective(self, memorised: Sequence[TrainingSpan]) -> LanguageObjective:
        return LanguageObjective(
            self.model, memorised, [*self.items.ordinary, *self._held()], aim=self._aim,
            hold=self.how.hold, batch=self.how.batch_size, seed=self.how.seed,
        )  # fmt: skip

    def _held(self) -> list[TrainingSpan]:
        """The texts that masks are chosen by, as spans."""
        cut = 0 if self.model.start is None else 1
        most = min(HELD_TOKENS, self.model.max_tokens - cut)
        whole = [tuple(self.model.encode(text)[cut:][:most]) for text in self.items.texts]
        return [TrainingSpan("", "", ids[:1], ids[1:]) for ids in whole if len(ids) > 1]

    def _driven(self) -> InputNorms:
        """Norms of memorised spans, then of ordinary ones."""
        if self._norms is None:
            self._norms = language_norms(
                self.model, self.every_site(), [*self.items.memorised, *self.items.ordinary],
                batch_size=self.how.batch_size,
            )  # fmt: skip
        return self._norms

    def _effects(self, spans: Sequence[TrainingSpan]) -> dict[str, Tensor]:
        """What every weight does for some spans."""
        key = tuple(spans)
        if key not in self._known:
            self._known[key] = recital_effects(
                self.model, self.every_site(), spans, batch_size=self.how.batch_size
            )
        return self._known[key]

    def _counts(self) -> list[int]:
        """How often each token stands in the ordinary texts."""
        counts = np.zeros(self.model.network.vocabulary, np.int64)
        for text in (*self.items.texts, *self.items.held_out):
            np.add.at(counts, self.model.encode(text), 1)
        found: list[int] = counts.tolist()
        return found
