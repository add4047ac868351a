"""A folder of transformers, opened: vetted first, offline, safetensors only, no remote code.

Before transformers builds anything, the configuration is compared with what the weight files
hold, so that neither a missing tensor is filled with random numbers nor a small file asks
for much memory. Warnings and progress bars of transformers are off while it loads.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from auditor.errors import DeviceUnavailable, RefusedModel, UnsupportedModel
from auditor.library_faults import faults_told
from auditor.models.transformers_folder import TransformersFolder, read_folder

Precision = Literal["float32", "stored"]
_SAVE_AGAIN: Final = "save the model again with transformers 5"


class OpenedFolder(NamedTuple):
    """What a folder gave: `model` and `tokenizer` are transformers' own objects."""

    folder: TransformersFolder
    model: Any
    tokenizer: Any


def open_folder(
    path: Path, device: str, precision: Precision, expected_digest: str | None
) -> OpenedFolder:
    """Model (in evaluation mode, on the device) and tokenizer of a folder.

    Raises:
        FileMissing: Folder, config.json or weights are not there.
        RefusedModel: See `read_folder`; also a configuration that asks for more numbers than the
            weight files hold.
        UnsupportedModel: Not a causal language model, quantised, or weights are missing.
        DeviceUnavailable: No such device here.
    """
    device = choose_device(device)
    folder = read_folder(path, expected_digest)
    config = json.loads((path / "config.json").read_text("utf-8"))
    if "quantization_config" in config:
        raise UnsupportedModel(
            "quantised weights", place=str(path), way_out="save the model in float32 or bfloat16"
        )
    require_causal(str(path), config)
    with quiet_transformers():
        model = load_whole("AutoModelForCausalLM", folder, precision)
        return OpenedFolder(folder, model.to(device), open_tokenizer(path))


def choose_device(device: str) -> str:
    """`cpu` or `cuda` for `auto`, `cpu` or `cuda`.

    Raises:
        DeviceUnavailable: Another name, or CUDA without a CUDA device.
    """
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise DeviceUnavailable(device, "known are auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable("cuda", "torch finds no CUDA device")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No warnings and no progress bars of transformers inside; as they were afterwards."""
    from transformers.utils import logging as settings

    logging: Any = settings  # its functions have no types
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_whole(loader: str, folder: TransformersFolder, precision: Precision = "float32") -> Any:
    """A model of transformers, every weight of it from the folder; in evaluation mode, on the CPU.

    Args:
        loader: Name of the class of transformers that opens it, for example
            `AutoModelForCausalLM`.
        folder: The folder, read.
        precision: `float32`, or the type the weights are `stored` in.

    Raises:
        RefusedModel: Its configuration asks for more than the weight files hold.
        UnsupportedModel: transformers cannot open it, or weights are missing.
    """
    import torch
    import transformers

    library: Any = transformers  # its loaders have no types
    opens, path, place = getattr(library, loader), folder.path, str(folder.path)
    tensors = sum(len(file.tensors) for file in folder.weights)
    with faults_told(_cannot_open(path, "it", _SAVE_AGAIN)):
        config = open_config(path)
        layers = getattr(config.get_text_config(decoder=True), "num_hidden_layers", 0)
        if layers > tensors:
            raise _asks_too_much(path, f"{layers} layers", f"{tensors} tensors")
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            plan = opens.from_config(config, trust_remote_code=False)
            plan.tie_weights()
        numbers = sum(parameter.numel() for parameter in plan.parameters())
        if numbers > folder.parameter_count:
            raise _asks_too_much(path, f"{numbers} numbers", f"{folder.parameter_count}")
        with torch.random.fork_rng(devices=[]):
            model, loading = opens.from_pretrained(
                path, config=config, dtype=torch.float32 if precision == "float32" else "auto",
                local_files_only=True, trust_remote_code=False, use_safetensors=True,
                output_loading_info=True,
            )  # fmt: skip
    missing = sorted(loading["missing_keys"])
    if missing:
        raise UnsupportedModel(
            f"{len(missing)} weights are missing, the first is {missing[0]}",
            place=place,
            way_out="save the whole model",
        )
    return model.eval()


def open_config(path: Path) -> Any:
    """The configuration of a folder that was checked before, as transformers understands it.

    Raises:
        UnsupportedModel: transformers cannot open it.
    """
    return _opened("AutoConfig", path, "it", _SAVE_AGAIN)


def require_causal(place: str, config: Mapping[str, Any]) -> None:
    """Refuse a config.json that names no causal language model of transformers.

    Raises:
        UnsupportedModel: With what it names.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    named = config.get("architectures") or ["no architecture"]
    if not isinstance(named, list) or named[0] not in known:
        raise UnsupportedModel(
            f"{named!r:.80} is no causal language model of transformers",
            place=place,
            way_out="give a folder whose config.json names one, such as LlamaForCausalLM",
        )


def open_tokenizer(path: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        UnsupportedModel: transformers cannot open it, or the configuration beside it.
    """
    return _opened("AutoTokenizer", path, "its tokenizer", "save the tokenizer beside the model")


def _opened(loader: str, path: Path, what: str, way_out: str) -> Any:
    import transformers

    opens = getattr(transformers, loader)
    with faults_told(_cannot_open(path, what, way_out)):
        return opens.from_pretrained(path, local_files_only=True, trust_remote_code=False)


def _cannot_open(path: Path, what: str, way_out: str) -> Callable[[str], UnsupportedModel]:
    return lambda problem: UnsupportedModel(
        f"transformers cannot open {what}: {problem}", place=str(path), way_out=way_out
    )


def _asks_too_much(path: Path, asked: str, held: str) -> RefusedModel:
    return RefusedModel(
        path / "config.json",
        "weights-missing",
        f"it asks for {asked}, and the weight files hold {held}",
        way_out="save the whole model, its head included, with its configuration",
    )
