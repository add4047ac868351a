"""A folder of transformers, opened: vetted first, offline, safetensors only, no remote code.

Before transformers builds anything, the configuration is compared with what the weight files
hold, so that neither a missing tensor is filled with random numbers nor a small file asks
for much memory. Warnings and progress bars of transformers are off while it loads.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from auditor.errors import DeviceUnavailable, FileMissing, RefusedModel, UnsupportedModel
from auditor.models.transformers_folder import TransformersFolder, read_folder

Precision = Literal["float32", "stored"]

MAX_HEADER_BYTES: Final = 100 * 2**20
# Attention and expert code that ships with transformers; another name may be a repository.
_OWN_KERNELS: Final = frozenset(
    {None, "eager", "sdpa", "flex_attention", "batched_mm", "grouped_mm"}
)
_KERNEL_KEYS: Final = ("attn_implementation", "experts_implementation", "kernel_config")


class OpenedFolder(NamedTuple):
    """What a folder gave: `model` and `tokenizer` are transformers' own objects."""

    folder: TransformersFolder
    model: Any
    tokenizer: Any


class Weights(NamedTuple):
    """How many tensors weight files hold, and how many numbers in all of them."""

    tensors: int
    numbers: int


def open_folder(
    path: Path, device: str, precision: Precision, expected_digest: str | None
) -> OpenedFolder:
    """Model (in evaluation mode, on the device) and tokenizer of a folder.

    Raises:
        FileMissing: Folder, config.json or weights are not there.
        RefusedModel: See `read_folder`; also a configuration that names kernels of a hub or an
            adapter, or that asks for more numbers than the weight files hold.
        UnsupportedModel: Not a causal language model, quantised, or weights are missing.
        DeviceUnavailable: No such device here.
    """
    device = choose_device(device)
    folder = read_folder(path, expected_digest)
    config = json.loads((path / "config.json").read_text("utf-8"))
    refuse_configuration(path, "config.json", config)
    weights = count_weights(path)
    with quiet_transformers():
        return OpenedFolder(
            folder,
            _open_model(path, config, weights, device, precision),
            _open_tokenizer(path),
        )


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


def refuse_configuration(path: Path, name: str, config: Mapping[str, Any]) -> None:
    """Refuse what transformers would act on without being asked: kernels, adapters, quantisers.

    Args:
        path: The folder.
        name: The configuration file in it.
        config: The file's content.

    Raises:
        RefusedModel: It names code of the folder or kernels of a hub, or an adapter lies beside it.
        UnsupportedModel: The weights are quantised.
    """
    if "auto_map" in config:
        raise RefusedModel(
            path / name,
            "remote-code",
            "it asks for code of the folder or of a hub to be run",
            place="auto_map",
            way_out="use a model whose class the libraries have",
        )
    for place, value in _entries(config):
        kernels = value.values() if isinstance(value, dict) else [value]
        leaf = place.rpartition(".")[2]
        if any(key in leaf for key in _KERNEL_KEYS) and not all(
            kernel is None or (isinstance(kernel, str) and kernel in _OWN_KERNELS)
            for kernel in kernels
        ):
            raise RefusedModel(
                path / name,
                "remote-code",
                f"{value!r:.60} may name code of a hub",
                place=place,
                way_out="remove the entry",
            )
    if (path / "adapter_config.json").exists():
        raise RefusedModel(
            path,
            "adapter",
            "an adapter names another model to be loaded",
            way_out="merge the adapter into its model and save that",
        )
    if "quantization_config" in config:
        raise UnsupportedModel(
            "quantised weights", place=str(path), way_out="save the model in float32 or bfloat16"
        )


def _entries(config: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        yield f"{place}{key}", value
        if isinstance(value, dict):
            yield from _entries(value, f"{place}{key}.")


def count_weights(path: Path) -> Weights:
    """How many tensors and numbers the headers of the safetensors files in the folder list."""
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise FileMissing(path / "model.safetensors", "weights in safetensors")
    shapes = [shape for file in files for shape in _read_shapes(file)]
    return Weights(len(shapes), sum(prod(shape) for shape in shapes))


def _read_shapes(file: Path) -> list[list[int]]:
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            # One that is longer than allowed is cut and no JSON.
            header = json.loads(stream.read(min(length, MAX_HEADER_BYTES)))
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        return [[int(axis) for axis in entry["shape"]] for entry in entries]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, struct.error):
        raise RefusedModel(
            file, "unreadable", "no safetensors header", way_out="save the model again"
        ) from None


def _open_model(
    path: Path, config_json: Mapping[str, Any], weights: Weights, device: str, precision: Precision
) -> Any:
    import torch
    import transformers

    library: Any = transformers  # its loaders have no types
    place = str(path)
    _require_causal(place, config_json)
    try:
        config = library.AutoConfig.from_pretrained(
            path, local_files_only=True, trust_remote_code=False
        )
        text = config.get_text_config(decoder=True)
        layers = getattr(text, "num_hidden_layers", 0)
        if layers > weights.tensors:
            raise _asks_too_much(path, f"{layers} layers", f"{weights.tensors} tensors")
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            plan = library.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
            plan.tie_weights()
        numbers = sum(parameter.numel() for parameter in plan.parameters())
        if numbers > weights.numbers:
            raise _asks_too_much(path, f"{numbers} numbers", f"{weights.numbers}")
        with torch.random.fork_rng(devices=[]):
            model, loading = library.AutoModelForCausalLM.from_pretrained(
                path,
                config=config,
                dtype=torch.float32 if precision == "float32" else "auto",
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (ValueError, TypeError, KeyError, OSError, RuntimeError, AttributeError) as error:
        raise UnsupportedModel(
            f"transformers cannot open it: {_first_line(error)}",
            place=place,
            way_out="save the model again with transformers 5",
        ) from error
    missing = sorted(loading["missing_keys"])
    if missing:
        raise UnsupportedModel(
            f"{len(missing)} weights are missing, the first is {missing[0]}",
            place=place,
            way_out="save the whole model",
        )
    return model.eval().to(device)


def _require_causal(place: str, config: Mapping[str, Any]) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    named = config.get("architectures") or ["no architecture"]
    if not isinstance(named, list) or named[0] not in known:
        raise UnsupportedModel(
            f"{named!r:.80} is no causal language model of transformers",
            place=place,
            way_out="give a folder whose config.json names one, such as LlamaForCausalLM",
        )


def _open_tokenizer(path: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (ValueError, TypeError, KeyError, OSError, RuntimeError, AttributeError) as error:
        raise UnsupportedModel(
            f"transformers cannot open its tokenizer: {_first_line(error)}",
            place=str(path),
            way_out="save the tokenizer beside the model",
        ) from error


def _asks_too_much(path: Path, asked: str, held: str) -> RefusedModel:
    return RefusedModel(
        path / "config.json",
        "weights-missing",
        f"it asks for {asked}, and the weight files hold {held}",
        way_out="save model and configuration together",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
