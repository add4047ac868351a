"""A diffusion model as a study of pruning: memorised captions, ordinary ones, and the attack."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor

from auditor.errors import ConfigurationError
from auditor.fixes.diffusion_items import DiffusionItems
from auditor.fixes.image_reader import Reader
from auditor.fixes.pruned_folder import write_pruned_denoiser, write_pruned_diffusion
from auditor.fixes.pruning_study import Candidate, Float64, Outcome, Recovery, Split, Wording
from auditor.memorization.copy_similarity import ImageVectors, PixelVectors, copy_similarity
from auditor.memorization.diffusion_model import DiffusionModel, noise_seeds
from auditor.memorization.diffusion_objective import (
    DiffusionObjective,
    ObjectiveWeights,
    untouched_copy,
)
from auditor.memorization.diffusion_subspace import denoising_loss, diffusion_norms
from auditor.memorization.hardening import HardeningOptions, harden
from auditor.memorization.input_norms import InputNorms
from auditor.memorization.learned_masks import MaskTraining, learn_masks
from auditor.memorization.mask_rules import MaskRule, masks_by_norms
from auditor.memorization.prompt_measures import Sampling
from auditor.memorization.recovery_attack import AttackOptions, recover_embeddings
from auditor.memorization.sensitivity import gradient_masks
from auditor.memorization.shared_subspace import LEAST_PAIRS, measure_shared_subspace
from auditor.memorization.weight_masks import WeightMasks, pruned
from auditor.memorization.weight_sites import SiteKind, WeightSite, find_sites

LAYERS: Final = (
    (SiteKind.FEED_FORWARD,), (SiteKind.FEED_FORWARD, SiteKind.CROSS_ATTENTION),
)  # fmt: skip
TRAINED_IN_BATCHES: Final = 32
_SEED_OF: Final[Mapping[Split, int]] = {Split.CHOOSE: 0, Split.REPORT: 1}


@dataclass(frozen=True)
class DiffusionPruning:
    """How masks are made and measured.

    Attributes:
        rules: Which rules are tried.
        layers: Which sets of layers.
        shares: Of each row.
        sampling: How images are drawn; `samples` for each memorised caption.
        similarity: Above which a sample is a copy.
        vectors: What is compared.
        training: How masks are learned; its share is one of `shares`.
        hardening: Training against the attack after pruning; None for none.
        attack_steps: Strengths of the attack, fixed in advance.
        seed: Of all chance.
    """

    rules: tuple[MaskRule, ...] = (MaskRule.WANDA_DIFF, MaskRule.LEARNED)
    layers: tuple[tuple[SiteKind, ...], ...] = LAYERS
    shares: tuple[float, ...] = (0.05, 0.1)
    sampling: Sampling = field(default_factory=Sampling)
    similarity: float = 0.95
    vectors: ImageVectors = field(default_factory=PixelVectors)
    training: MaskTraining = field(default_factory=MaskTraining)
    hardening: HardeningOptions | None = None
    attack_steps: tuple[int, ...] = (50, 500)
    seed: int = 0


@dataclass(eq=False)
class DiffusionStudy:
    """A `PruningStudy` of a diffusion model.

    Attributes:
        model: The model, changed only inside blocks.
        items: What it gives back.
        how: How masks are made and measured.
        reader: Says whether an image shows what its label says; without one, ordinary captions
            cost what their images differ from the untouched model's.
        progress: Called with text.
    """

    model: DiffusionModel
    items: DiffusionItems
    how: DiffusionPruning
    reader: Reader | None = None
    progress: Callable[[str], None] = lambda text: None

    def __post_init__(self) -> None:
        """Keep the untouched model, and draw what it makes."""
        self._teacher = untouched_copy(self.model)
        self._untouched = {split: self._ordinary(split) for split in Split}
        self._sites = {
            kinds: find_sites(self.model.denoiser, kinds, str(self.model.folder.path))
            for kinds in self.how.layers
        }
        self._norms: InputNorms | None = None

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
        cost = (
            "images that differ from the untouched model's" if self.reader is None
            else "ordinary images that do not show their subject"
        )  # fmt: skip
        return Wording("memorised rate", cost, relative=False, items="images")

    @property
    def parameters(self) -> dict[str, str]:
        """What it was given, for the record."""
        how, hardening = self.how, self.how.hardening
        return {
            "memorised images": str(len(self.items.memorised.prompts)),
            "ordinary prompts": f"{len(self.items.ordinary)} to choose by, "
            f"{len(self.items.held_out)} to report on",
            "a copy": f"similarity above {how.similarity:g}, {how.vectors.name}",
            "sampling": f"{how.sampling.samples} samples, {how.sampling.steps} steps of DDIM, "
            f"guidance {how.sampling.guidance:g}",
            "training after pruning": "none" if hardening is None
            else f"{hardening.steps} steps at {hardening.rate:g}, attacked every "
            f"{hardening.attack_every}",
            "seed": str(how.seed),
        }  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """Of every rule, set of layers and share."""
        return tuple(self._settings)

    def candidate(self, name: str) -> Candidate:
        """The masks of a name, made anew."""
        rule, kinds, share = self._settings[name]
        return Candidate(name, self._sites[kinds], self.masks(rule, kinds, share))

    def candidates(self) -> Iterator[Candidate]:
        """Masks of every rule, set of layers and share."""
        yield from map(self.candidate, self.names)

    def sites_of(self, layers: Collection[str]) -> tuple[WeightSite, ...] | None:
        """The set of layers with these names, if masks are made for it."""
        wanted = set(layers)
        found = (each for each in self._sites.values() if {site.name for site in each} == wanted)
        return next(found, None)

    @property
    def _settings(self) -> dict[str, tuple[MaskRule, tuple[SiteKind, ...], float]]:
        return {
            f"{rule}, {' + '.join(kinds)}, {share:g}": (rule, kinds, share)
            for kinds, rule, share in product(self.how.layers, self.how.rules, self.how.shares)
        }

    def measure(self, split: Split) -> Outcome:
        """What the model does at this moment, by the noise and the ordinary captions of a split."""
        similarity = self._similarity(
            self.model.encode(self.items.memorised.prompts), self.items.memorised.images,
            _SEED_OF[split] + self.how.seed,
        )  # fmt: skip
        rates = (similarity > self.how.similarity).mean(axis=1)
        found = self._ordinary(split)
        return Outcome(
            rates, self._costs(split, found), {"similarity to the image": float(similarity.mean())}
        )

    def attacks(self) -> list[Recovery]:
        """Embeddings optimised from each caption and from none, for every strength.

        Raises:
            ConfigurationError: There are no images that were never memorised.
        """
        if not len(self.items.control):
            raise ConfigurationError(
                "an attack without images that were never memorised; give some as its control"
            )
        found = []
        for steps, from_caption in product(self.how.attack_steps, (True, False)):
            options = AttackOptions(steps=steps, seed=self.how.seed)
            memorised, control = (
                self._attacked(captions, images, options, from_caption)
                for captions, images in (
                    (self.items.memorised.prompts, self.items.memorised.images),
                    (self.items.control_captions, self.items.control),
                )
            )
            name = f"{steps} steps from {'its caption' if from_caption else 'no caption'}"
            found.append(Recovery(name, memorised, control))
        return found

    def located_apart(self, candidate: Candidate) -> list[str]:
        """Overlap of masks of disjoint halves, and what one half's mask does to the other."""
        count = len(self.items.memorised.prompts)
        if count < LEAST_PAIRS:
            return [f"{count} images are too few to ask whether they share one subspace"]
        kinds = next(kinds for kinds, sites in self._sites.items() if sites == candidate.sites)
        share, norms = self.how.shares[-1], self._driven()
        sites = candidate.sites

        def make(memorised: Sequence[int], ordinary: Sequence[int]) -> WeightMasks:
            return masks_by_norms(MaskRule.WANDA_DIFF, sites, share, norms, memorised, ordinary)

        shared = measure_shared_subspace(
            make, [(at, count + at) for at in range(count)], seed=self.how.seed
        )
        half = self.masks(MaskRule.WANDA_DIFF, kinds, share, range(0, count, 2))
        with pruned(sites, half):
            rates = self.measure(Split.REPORT).rates
        return [
            f"masks by {MaskRule.WANDA_DIFF} of disjoint halves overlap by {shared.mean:.2f} "
            f"(chance {shared.chance:.2f}; labels swapped {np.mean(shared.shuffled):.2f}, p "
            f"{shared.p_value:.2g})",
            f"masks by {MaskRule.WANDA_DIFF} of every second image leave a rate of "
            f"{rates[::2].mean():.1%} for these and {rates[1::2].mean():.1%} for the others",
        ]

    @contextmanager
    def hardened(self, candidate: Candidate) -> Iterator[bool]:
        """The pruned model trained against the attack inside the block."""
        if self.how.hardening is None:
            yield False
            return
        kept = copy.deepcopy(self.model.denoiser.state_dict())
        try:
            objective = self._objective(range(len(self.items.memorised.prompts)))
            harden(
                objective, candidate.sites, candidate.masks, self.how.hardening,
                lambda done, total: self.progress(f"training, step {done} of {total}"),
            )  # fmt: skip
            yield True
        finally:
            self.model.denoiser.load_state_dict(kept)

    def write(self, made: Path, candidate: Candidate) -> str:
        """The model as it is at this moment, with everything else its folder holds."""
        return write_pruned_diffusion(self.model, made)

    def write_graph(self, made: Path, candidate: Candidate) -> None:
        """The denoiser as `model.onnx`, which agrees with torch; see `denoiser_graph`."""
        write_pruned_denoiser(self.model, self._teacher, candidate.masks, made)

    def masks(
        self, rule: MaskRule, kinds: tuple[SiteKind, ...], share: float,
        which: Sequence[int] | None = None,
    ) -> WeightMasks:  # fmt: skip
        """Masks of some memorised images, by number; of all if None."""
        which = range(len(self.items.memorised.prompts)) if which is None else which
        sites = self._sites[kinds]
        if rule is MaskRule.LEARNED:
            training = replace(self.how.training, share=share)
            return learn_masks(sites, self._objective(which).loss, training)
        if rule is MaskRule.GRADIENT:
            return gradient_masks(sites, share, *self._losses(which))
        count, norms = len(self.items.memorised.prompts), self._driven()
        return masks_by_norms(rule, sites, share, norms, which, range(count, norms.prompts))

    def _objective(self, which: Sequence[int]) -> DiffusionObjective:
        return DiffusionObjective.of(
            self.model, self._teacher, self.items.memorised.only(which), self.items.ordinary,
            self.how.sampling, ObjectiveWeights(), TRAINED_IN_BATCHES, self.how.seed,
        )  # fmt: skip

    def _driven(self) -> InputNorms:
        """Norms of memorised captions, then one ordinary caption for each, then the others."""
        if self._norms is None:
            memorised = self.items.memorised
            first = [texts[0] for texts in memorised.ordinary]
            others = [text for texts in memorised.ordinary for text in texts[1:]]
            sites = {site.name: site for sites in self._sites.values() for site in sites}
            self._norms = diffusion_norms(
                self.model, list(sites.values()), [*memorised.prompts, *first, *others],
                replace(self.how.sampling, samples=3),
            )  # fmt: skip
        return self._norms

    def _losses(self, which: Sequence[int]) -> tuple[list[Callable[[], Tensor]], ...]:
        """The error on each memorised image, and on what ordinary captions of it give."""
        memorised = self.items.memorised.only(which)
        texts = [texts[0] for texts in memorised.ordinary]
        images = self.model.sample(
            self.model.encode(texts), noise_seeds(texts, 1, self.how.seed),
            steps=self.how.sampling.steps, guidance=self.how.sampling.guidance,
        )  # fmt: skip
        return tuple(
            [denoising_loss(self.model, latents, embedding)
             for latents, embedding in zip(
                 self.model.to_latents(clean), self.model.encode(captions), strict=True)]
            for clean, captions in ((memorised.images, memorised.prompts), (images, texts))
        )  # fmt: skip

    def _similarity(self, embeddings: Tensor, images: Tensor, seed: int) -> Float64:
        """Of samples to the image of each embedding, [images, samples]."""
        count = self.how.sampling.samples
        samples = self.model.sample(
            embeddings.repeat_interleave(count, 0),
            noise_seeds([str(number) for number in range(len(embeddings))], count, seed),
            steps=self.how.sampling.steps, guidance=self.how.sampling.guidance,
            batch_size=self.how.sampling.batch_size,
        )  # fmt: skip
        found = copy_similarity(samples, images.repeat_interleave(count, 0), self.how.vectors)
        return found.reshape(len(embeddings), count).astype(np.float64)

    def _ordinary(self, split: Split) -> Tensor:
        """Images of the ordinary captions of a split, each of as many seeds."""
        texts = self.items.ordinary if split is Split.CHOOSE else self.items.held_out
        count = self.how.sampling.samples
        return self.model.sample(
            self.model.encode(texts).repeat_interleave(count, 0),
            noise_seeds(texts, count, _SEED_OF[split] + self.how.seed),
            steps=self.how.sampling.steps, guidance=self.how.sampling.guidance,
            batch_size=self.how.sampling.batch_size,
        )  # fmt: skip

    def _costs(self, split: Split, images: Tensor) -> Float64:
        """Of each ordinary caption, [captions]."""
        texts = self.items.ordinary if split is Split.CHOOSE else self.items.held_out
        count = self.how.sampling.samples
        if self.reader is None:
            good = copy_similarity(images, self._untouched[split], self.how.vectors)
        else:
            labels = [self.items.labels[text] for text in texts for _ in range(count)]
            good = np.array(self.reader(images, labels), np.float32)
        costs: Float64 = 1 - good.astype(np.float64).reshape(len(texts), count).mean(axis=1)
        return costs

    def _attacked(
        self, captions: Sequence[str], images: Tensor, options: AttackOptions, from_caption: bool
    ) -> Float64:
        """Share of fresh samples under the embedding found for each image that show it."""
        start = (
            self.model.encode(captions) if from_caption
            else self.model.unconditional.expand(len(captions), -1, -1)
        )  # fmt: skip
        found = recover_embeddings(self.model, self.model.to_latents(images), start, options)
        fresh = self._similarity(found, images, 1_000 + self.how.seed)
        rates: Float64 = (fresh > self.how.similarity).mean(axis=1)
        return rates
