"""A diffusion model as a study of pruning: memorised captions, ordinary ones, and the attack."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from auditor.fixes.mask_grid import GridStudy, MaskSetting, overlap_line, settings_of
from auditor.fixes.pruned_folder import write_pruned_denoiser, write_pruned_diffusion
from auditor.fixes.pruning_study import Candidate, Float64, Outcome, Recovery, Split, Wording
from auditor.memorization.diffusion.copy_similarity import (
    ImageVectors,
    PixelVectors,
    copy_similarity,
)
from auditor.memorization.diffusion.hardening import HardeningOptions, harden
from auditor.memorization.diffusion.model import DiffusionModel, noise_seeds
from auditor.memorization.diffusion.objective import (
    DiffusionObjective,
    ObjectiveWeights,
    untouched_copy,
)
from auditor.memorization.diffusion.prompt_measures import Sampling
from auditor.memorization.diffusion.recovery_attack import AttackOptions, recover_embeddings
from auditor.memorization.diffusion.subspace import denoising_loss, diffusion_norms
from auditor.memorization.masks.input_norms import InputNorms
from auditor.memorization.masks.learned_masks import MaskTraining, learn_masks
from auditor.memorization.masks.mask_rules import MaskRule, masks_by_norms
from auditor.memorization.masks.sensitivity import gradient_masks
from auditor.memorization.masks.shared_subspace import LEAST_PAIRS, measure_shared_subspace
from auditor.memorization.masks.weight_masks import WeightMasks, pruned
from auditor.memorization.masks.weight_sites import SiteKind, WeightSite, find_sites

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
class DiffusionStudy(GridStudy):
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
    def settings(self) -> dict[str, MaskSetting]:
        """Every rule, set of layers and share, by name."""
        how = self.how
        return settings_of(how.rules, how.layers, how.shares)

    @property
    def sites(self) -> Mapping[tuple[SiteKind, ...], tuple[WeightSite, ...]]:
        """The layers of each set."""
        return self._sites

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
        norms, sites = self._driven(), candidate.sites
        by_norms = self.settings[candidate.name]._replace(rule=MaskRule.WANDA_DIFF)

        def make(memorised: Sequence[int], ordinary: Sequence[int]) -> WeightMasks:
            return masks_by_norms(by_norms.rule, sites, by_norms.share, norms, memorised, ordinary)

        shared = measure_shared_subspace(
            make, [(at, count + at) for at in range(count)], seed=self.how.seed
        )
        with pruned(sites, self.masks(by_norms, range(0, count, 2))):
            rates = self.measure(Split.REPORT).rates
        return [
            overlap_line(shared),
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

    def masks(self, setting: MaskSetting, which: Sequence[int] | None = None) -> WeightMasks:
        """Masks of some memorised images, by number; of all if None."""
        which = range(len(self.items.memorised.prompts)) if which is None else which
        rule, share, sites = setting.rule, setting.share, self._sites[setting.kinds]
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
            self._norms = diffusion_norms(
                self.model, self.every_site(), [*memorised.prompts, *first, *others],
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
