"""Options of `auditor fix memorization`, and the study they describe.

A folder of diffusers is a diffusion model, one of transformers a language model; options of the
other kind are refused, never ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import rich_click as click

from auditor.errors import ConfigurationError
from auditor_cli.options import FILE, FOLDER, option
from auditor_cli.trace_options import gathered, resolved_device

if TYPE_CHECKING:
    from auditor.fixes.pruning import PruningWork
    from auditor.fixes.pruning_study import PruningStudy
    from auditor.memorization.masks.weight_sites import SiteKind

RULES: Final = ("wanda_gate", "wanda_diff", "wanda", "gradient", "learned")
LAYERS: Final = (
    "feed_forward", "feed_forward_in", "attention", "cross_attention", "cross_key", "cross_value",
)  # fmt: skip
DIFFUSION_ONLY: Final = (
    "images", "image_folder", "classifier", "similarity", "samples", "steps", "guidance", "harden",
    "attack_steps",
)  # fmt: skip
AFTER_CHOICE: Final = frozenset({
    "most_rate", "most_loss", "most_recovery", "controls", "onnx", "harden", "attack_steps",
    "shift", "never_memorised",
})  # fmt: skip
"""What masks are tried by does not depend on these."""
LANGUAGE_ONLY: Final = ("shift", "neurons", "prefix_tokens", "continuation_tokens")


@dataclass(frozen=True)
class Pruning:
    """What `pruning_options` were given; None where an option of one kind was left out."""

    memorised: Path
    ordinary: Path
    held_out: Path
    never_memorised: Path | None
    rule: tuple[str, ...]
    layer: tuple[str, ...]
    share: tuple[float, ...]
    most_rate: float | None
    most_loss: float | None
    most_recovery: float | None
    controls: int
    attack_steps: tuple[int, ...]
    learning_steps: int
    images: Path | None
    image_folder: Path | None
    classifier: Path | None
    similarity: float | None
    samples: int | None
    steps: int | None
    guidance: float | None
    harden: int | None
    shift: tuple[int, ...]
    neurons: bool | None
    prefix_tokens: int | None
    continuation_tokens: int | None
    prompt_column: str | None
    onnx: Path | None
    batch_size: int
    seed: int
    device: str

    def work(self, study: PruningStudy, out: Path, *, diffusion: bool) -> PruningWork:
        """Limits and controls, and where trials are kept until all is done."""
        from auditor.fixes.language_pruning import DEMANDS
        from auditor.fixes.pruning import PruningWork
        from auditor.fixes.pruning_gate import PruningDemands
        from auditor.fixes.pruning_trials import MaskTrials

        usual = PruningDemands() if diffusion else DEMANDS
        demands = PruningDemands(
            usual.most_rate if self.most_rate is None else self.most_rate,
            usual.most_loss if self.most_loss is None else self.most_loss, self.most_recovery,
        )  # fmt: skip
        trials = MaskTrials(out.with_name(f".{out.name}.trials"), self._key(study))
        return PruningWork(demands, self.controls, self.seed, self.onnx, trials)

    def _key(self, study: PruningStudy) -> str:
        """Of everything that a trial depends on: the model, the options, what their files hold."""
        from auditor.files import plain_digest
        from auditor.folders import folder_digest

        told = {"model": study.digest, "auditor": version("auditor")}
        for name in (each.name for each in fields(self) if each.name not in AFTER_CHOICE):
            value = getattr(self, name)
            if isinstance(value, Path):
                value = folder_digest(value) if value.is_dir() else plain_digest(value)
            told[name] = str(value)
        return f"sha256:{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()}"

    def study(self, model: Path, progress: Callable[[str], None]) -> tuple[PruningStudy, bool]:
        """The study of a model, and whether it is a diffusion model.

        Raises:
            ConfigurationError: An option of the other kind, or files that do not fit.
        """
        from auditor.models.subject_files import folder_kind

        if folder_kind(model) == "diffusers":
            self._refuse(LANGUAGE_ONLY, "a diffusion model")
            return self._diffusion(model, progress), True
        self._refuse(DIFFUSION_ONLY, "a language model")
        return self._language(model, progress), False

    def _refuse(self, names: tuple[str, ...], what: str) -> None:
        given = [name for name in names if getattr(self, name) not in (None, ())]
        if given:
            raise ConfigurationError(
                f"--{given[0].replace('_', '-')} is not for {what}; leave it out"
            )

    def _layers(self) -> tuple[tuple[SiteKind, ...], ...]:
        """`feed_forward+cross_attention` is one set of layers.

        Raises:
            ConfigurationError: There is no such kind of layer.
        """
        from auditor.memorization.masks.weight_sites import SiteKind

        for text in self.layer:
            for name in text.split("+"):
                if name not in LAYERS:
                    raise ConfigurationError(
                        f"--layer {text}: no kind of layer is called '{name}'; known are "
                        f"{', '.join(LAYERS)}, joined by +"
                    )
        return tuple(tuple(SiteKind(name) for name in text.split("+")) for text in self.layer)

    def _diffusion(self, model: Path, progress: Callable[[str], None]) -> PruningStudy:
        from auditor.fixes.diffusion_items import DiffusionFiles, read_diffusion_items
        from auditor.fixes.diffusion_pruning import LAYERS as DEFAULT
        from auditor.fixes.diffusion_pruning import DiffusionPruning, DiffusionStudy
        from auditor.fixes.image_reader import open_reader
        from auditor.memorization.diffusion.hardening import HardeningOptions
        from auditor.memorization.diffusion.model import DiffusionModel
        from auditor.memorization.diffusion.prompt_measures import Sampling
        from auditor.memorization.diffusion.training_images import (
            read_image_array,
            read_image_folder,
        )
        from auditor.memorization.masks.learned_masks import MaskTraining
        from auditor.memorization.masks.mask_rules import MaskRule
        from auditor.models.first_load import try_folders

        if (self.images is None) == (self.image_folder is None):
            raise ConfigurationError("give --images or --image-folder, one of them")
        try_folders(model)
        opened = DiffusionModel.open(model, self.device)
        images = (
            read_image_folder(self.image_folder, opened.image_shape)
            if self.image_folder is not None
            else read_image_array(self.images or Path(), opened.image_shape)
        )
        items = read_diffusion_items(
            DiffusionFiles(
                self.memorised, self.ordinary, self.held_out, self.never_memorised,
                self.classifier is not None, self.prompt_column,
            ),
            images,
        )  # fmt: skip
        reader = None if self.classifier is None else open_reader(
            self.classifier, opened.image_shape, set(items.labels.values()), self.device
        )  # fmt: skip
        how = DiffusionPruning(
            tuple(map(MaskRule, self.rule)), self._layers() or DEFAULT, self.share,
            Sampling(self.samples or 6, self.steps or 50,
                     7.5 if self.guidance is None else self.guidance, batch_size=self.batch_size),
            0.95 if self.similarity is None else self.similarity,
            training=MaskTraining(steps=self.learning_steps),
            hardening=None if not self.harden else HardeningOptions(steps=self.harden),
            attack_steps=self.attack_steps or (50, 500), seed=self.seed,
        )  # fmt: skip
        return DiffusionStudy(opened, items, how, reader, progress)

    def _language(self, model: Path, progress: Callable[[str], None]) -> PruningStudy:
        from auditor.fixes.language_items import LanguageFiles, read_language_items
        from auditor.fixes.language_pruning import LAYERS as DEFAULT
        from auditor.fixes.language_pruning import LanguagePruning, LanguageStudy
        from auditor.fixes.language_recovery import LanguageAttacks
        from auditor.language.causal_lm import CausalLM
        from auditor.memorization.language.training_spans import SpanShape
        from auditor.memorization.masks.learned_masks import MaskTraining
        from auditor.memorization.masks.mask_rules import MaskRule
        from auditor.models.first_load import try_folders

        if self.never_memorised is None:
            raise ConfigurationError(
                "a language model without --never-memorised; give spans that it never saw"
            )
        try_folders(model)
        opened = CausalLM.open(model, self.device)
        files = LanguageFiles(self.memorised, self.ordinary, self.held_out, self.never_memorised)
        shape = SpanShape(self.prefix_tokens or 50, self.continuation_tokens or 50)
        items = read_language_items(opened, files, shape, self.seed)
        how = LanguagePruning(
            tuple(map(MaskRule, self.rule)), self._layers() or DEFAULT, self.share,
            bool(self.neurons), MaskTraining(steps=self.learning_steps),
            attacks=LanguageAttacks(shifts=self.shift) if self.shift else LanguageAttacks(),
            batch_size=self.batch_size, seed=self.seed,
        )  # fmt: skip
        return LanguageStudy(opened, items, how, progress)


def pruning_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Everything that a pruning is made of, given as one `pruning`."""
    function = gathered(Pruning, "pruning")(function)
    for decorate in reversed((
        option("--memorised", type=FILE, required=True,
               help="What comes back: prompts with a column `image`, or spans of training text."),
        option("--ordinary", type=FILE, required=True,
               help="Ordinary prompts or spans, to choose by; a `group` column says which have the "
               "subject of a memorised one."),
        option("--held-out", type=FILE, required=True,
               help="Other ordinary prompts or spans, to report on."),
        option("--never-memorised", type=FILE,
               help="Images with prompts, or spans, that were never memorised: the attack's "
               "control. A repair needs it."),
        option("--rule", type=click.Choice(RULES), multiple=True, default=("wanda_diff", "learned"),
               show_default=True, help="How weights are chosen; repeatable."),
        option("--layer", multiple=True, metavar="KIND[+KIND]",
               help=f"Layers that are pruned together: {', '.join(LAYERS)}; repeatable."),
        option("--share", type=click.FloatRange(0, 1, min_open=True), multiple=True,
               default=(0.05, 0.1), show_default=True,
               help="Share of each row that is pruned at most; repeatable."),
        option("--most-rate", type=click.FloatRange(0, 1),
               help="Share of memorised items that may still come back: 0.15 of images, 0.1 of "
               "spans if not given."),
        option("--most-loss", type=click.FloatRange(0),
               help="Loss of ordinary items that is allowed: 0.1 of images, 0.05 of the perplexity "
               "if not given."),
        option("--most-recovery", type=click.FloatRange(0, 1),
               help="Recovery under attack, above that of items never memorised, that is allowed; "
               "measured and not demanded if not given."),
        option("--controls", type=click.IntRange(1, 1_000), default=5, show_default=True,
               help="Matched random masks."),
        option("--attack-steps", type=click.IntRange(1, 100_000), multiple=True,
               help="Diffusion: strengths of the attack (default 50 and 500); repeatable."),
        option("--learning-steps", type=click.IntRange(1, 1_000_000), default=300,
               show_default=True, help="Of the rule `learned`."),
        option("--images", type=FILE, help="Diffusion: images as .npz, .npy or IDX."),
        option("--image-folder", type=FOLDER, help="Diffusion: images as a folder of PNGs."),
        option("--classifier", type=FILE,
               help="Diffusion: ONNX classifier that says whether an ordinary image shows the "
               "`label` of its prompt."),
        option("--similarity", type=click.FloatRange(0, 1, min_open=True, max_open=True),
               help="Diffusion: above which a sample is a copy (default 0.95)."),
        option("--samples", type=click.IntRange(2, 1_024),
               help="Diffusion: images of each prompt (default 6)."),
        option("--steps", type=click.IntRange(1, 10_000),
               help="Diffusion: of sampling (default 50)."),
        option("--guidance", type=click.FloatRange(0, 100),
               help="Diffusion: scale of guidance (default 7.5)."),
        option("--harden", type=click.IntRange(1, 1_000_000),
               help="Diffusion: steps of training against the attack after pruning."),
        option("--shift", type=int, multiple=True,
               help="Language: tokens by which prefixes of an attack end later, or earlier if "
               "negative (default 4 and 8); repeatable."),
        option("--neurons/--weights", default=None,
               help="Language: prune whole neurons, or single weights (default)."),
        option("--prefix-tokens", type=click.IntRange(1, 100_000),
               help="Language: tokens of a prefix (default 50)."),
        option("--continuation-tokens", type=click.IntRange(1, 100_000),
               help="Language: tokens of a continuation (default 50)."),
        option("--prompt-column", help="Column of the prompts, if it has an unusual name."),
        option("--onnx", type=FOLDER,
               help="Folder for the pruned model as an ONNX graph as well, a new one."),
        option("--batch-size", type=click.IntRange(1, 4_096), default=64, show_default=True,
               help="Images or spans at once."),
        option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of chance."),
        option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="cpu",
               show_default=True, callback=resolved_device, help="Where the model runs."),
    )):  # fmt: skip
        function = decorate(function)
    return function
