"""The components of a diffusion folder, opened: vetted first, offline, safetensors, no code of it.

Classes come from the lists of `auditor.models.diffusion_components`. Before anything is built, each
configuration is compared with what the weights files hold, as `auditor.language.opening` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from auditor.errors import MissingExtra, RefusedModel, UnsupportedModel
from auditor.language.opening import choose_device, open_tokenizer, quiet_transformers
from auditor.memorization.diffusion.text_encoders import TextEncoder
from auditor.models.diffusion_components import (
    FLOW_CLASSES,
    LOADED,
    encoders_of,
    require_text_to_image,
    timesteps_of,
)
from auditor.models.diffusion_folder import Component, DiffusionFolder, read_diffusion_folder
from auditor.models.strict_json import walk_keys

_PREDICTED: Final = ("epsilon", "v_prediction")
_CLIPPING: Final = ("DDIMScheduler", "DDPMScheduler")
_HALF: Final = frozenset({"F16", "BF16"})
# What the libraries raise at a configuration that does not fit together.
_FAILURES: Final = (
    ValueError, TypeError, LookupError, OSError, RuntimeError, AttributeError, NameError,
    ImportError, ArithmeticError, AssertionError,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class OpenedDiffusion:
    """What a folder gave; the modules are in evaluation mode and on the device.

    Attributes:
        folder: Where it came from, with its digest.
        device: `cpu` or `cuda`.
        denoiser: The torch module that predicts noise, without gradients.
        encoders: Of text, with their tokenizers.
        scheduler: Of diffusers with the noise of training: DDIM's, or of a flow Euler's.
        decoder: diffusers' autoencoder of a latent model, or None.
    """

    folder: DiffusionFolder
    device: str
    denoiser: Any
    encoders: tuple[TextEncoder, ...]
    scheduler: Any
    decoder: Any | None


def open_diffusion(path: Path, device: str, expected_digest: str | None) -> OpenedDiffusion:
    """Denoiser, text encoders, scheduler and, of a latent model, decoder.

    Raises:
        MissingExtra: diffusers is not installed.
        FileMissing, RefusedModel, FileChanged: See `read_diffusion_folder`; `RefusedModel` also for
            a configuration that asks for more numbers than the weights files hold.
        UnsupportedModel: Not a text-to-image model that is known here, or half precision on the
            CPU.
        DeviceUnavailable: No such device here.
    """
    require_diffusers("a diffusion model")
    device = choose_device(device)
    folder = read_diffusion_folder(path, expected_digest)
    require_text_to_image(folder)
    dtype = _dtype_for(folder, device)
    with quiet_libraries():
        decoder = folder.components.get("vae")
        return OpenedDiffusion(
            folder=folder, device=device,
            denoiser=_load("diffusers", folder, folder.denoiser, dtype).to(device),
            encoders=tuple(
                TextEncoder(
                    encoder,
                    _load("transformers", folder, folder.component(encoder), dtype).to(device),
                    open_tokenizer(path / tokenizer),
                )
                for encoder, tokenizer in encoders_of(folder)
            ),
            scheduler=open_scheduler(folder),
            decoder=None if decoder is None
            else _load("diffusers", folder, decoder, dtype).to(device),
        )  # fmt: skip


def require_diffusers(what: str) -> None:
    """Say how to install diffusers where it is missing.

    Raises:
        MissingExtra: It is.
    """
    from importlib.util import find_spec

    if find_spec("diffusers") is None:
        raise MissingExtra("diffusion", "diffusers", what)


def _dtype_for(folder: DiffusionFolder, device: str) -> str:
    """`float32`, or on CUDA the half precision that all components are stored in."""
    stored = {
        tensor.dtype: name
        for name, part in folder.components.items() if name in LOADED
        for file in part.weights for tensor in file.tensors
    }  # fmt: skip
    half = sorted(_HALF & set(stored))
    if half and device == "cpu":
        raise UnsupportedModel(
            f"weights in half precision ({half[0]}), and the device is cpu",
            place=f"{folder.path}/{stored[half[0]]}",
            way_out="save the model in float32, or use --device cuda",
        )
    if len(stored) == 1 and half:
        return {"F16": "float16", "BF16": "bfloat16"}[half[0]]
    return "float32"


def _load(library: str, folder: DiffusionFolder, part: Component, dtype: str) -> Any:
    """A component with every weight of it from its files, in evaluation mode, on the CPU."""
    import importlib

    import torch

    opens = getattr(importlib.import_module(library), part.class_name)
    path, place = folder.path / part.name, f"{folder.path}/{part.name}"
    _require_small(place, part)
    own = {"torch_dtype": getattr(torch, dtype), "low_cpu_mem_usage": False}
    if library == "transformers":
        own = {"dtype": getattr(torch, dtype), "trust_remote_code": False}
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            plan = _planned(opens, path, part)
        numbers = sum(parameter.numel() for parameter in plan.parameters())
        if numbers > part.parameter_count:
            raise _asks_too_much(place, f"{numbers} numbers", str(part.parameter_count))
        with torch.random.fork_rng(devices=[]):
            model, loading = opens.from_pretrained(
                path, local_files_only=True, use_safetensors=True, output_loading_info=True, **own
            )
    except _FAILURES as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UnsupportedModel(
            f"{library} cannot open it: {first}", place=place,
            way_out="save the model again with a newer diffusers",
        ) from error  # fmt: skip
    wrong = sorted(map(str, [*loading["missing_keys"], *loading["mismatched_keys"]]))
    if wrong:
        raise UnsupportedModel(
            f"{len(wrong)} weights are missing or of another shape, the first is {wrong[0][:120]}",
            place=place, way_out="save the whole model",
        )  # fmt: skip
    return model.eval().requires_grad_(False)


def _planned(opens: Any, path: Path, part: Component) -> Any:
    """The module without its numbers."""
    if "_class_name" in part.config:
        return opens.from_config(dict(part.config))
    return opens(opens.config_class.from_pretrained(path, local_files_only=True))


def _require_small(place: str, part: Component) -> None:
    """Refuse more layers than there are tensors: building them would take for ever."""
    for _, key, value in walk_keys(dict(part.config)):
        if "layers" in key and "drop" not in key:
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int) and number > part.tensor_count:
                    raise _asks_too_much(
                        place, f"{number} for {key[:40]!r}", f"{part.tensor_count} tensors"
                    )


def _asks_too_much(place: str, asked: str, held: str) -> RefusedModel:
    return RefusedModel(
        place, "weights-missing", f"it asks for {asked}, and the weight files hold {held}",
        way_out="save the whole model with its configuration",
    )  # fmt: skip


def open_scheduler(folder: DiffusionFolder) -> Any:
    """The noise of a folder's training, as a scheduler of diffusers that samples without chance.

    Of a flow Euler's, of all others DDIM's.

    Raises:
        UnsupportedModel: The model predicts neither noise nor velocity, or the noise is unknown.
    """
    import diffusers

    part = folder.component("scheduler")
    place, config = f"{folder.path}/scheduler", dict(part.config)
    timesteps_of(folder)
    known: Any = diffusers.DDIMScheduler
    if part.class_name in FLOW_CLASSES:
        known = diffusers.FlowMatchEulerDiscreteScheduler
        _require_plain_flow(place, config)
    else:
        predicted = config.get("prediction_type", "epsilon")
        if predicted not in _PREDICTED or config.get("use_flow_sigmas"):
            raise UnsupportedModel(
                f"it predicts {str(predicted)[:40]!r}", place=place,
                way_out=f"models that predict {' or '.join(_PREDICTED)} are supported",
            )  # fmt: skip
        # The other schedulers never clip, and say nothing about it.
        config.setdefault("clip_sample", part.class_name in _CLIPPING)
    config.pop("_class_name")
    try:
        return known.from_config(config)
    except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
        raise UnsupportedModel(
            f"its noise cannot be used: {(str(error).splitlines() or [''])[0][:200]}",
            place=place, way_out="give a schedule that DDIM, or of a flow Euler's steps, know",
        ) from error  # fmt: skip


def _require_plain_flow(place: str, config: dict[str, Any]) -> None:
    asked = [name for name in ("stochastic_sampling", "invert_sigmas") if config.get(name)]
    if asked:
        raise UnsupportedModel(
            f"its steps are not those of a plain flow ({', '.join(asked)})", place=place,
            way_out="give a schedule without them",
        )  # fmt: skip


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """No warnings and no progress bars of diffusers and transformers inside."""
    from diffusers.utils import logging as settings

    logging: Any = settings  # its functions have no types
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with quiet_transformers():
            yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
