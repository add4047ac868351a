"""What the configuration of a model's folder must not say.

A configuration may name code, other files, or kernels that are fetched from elsewhere, and
transformers follows some of that even where remote code is switched off (CVE-2026-4372 is
one). Which keys a model type uses is left to transformers; the ones here are refused for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

from auditor.errors import RefusedModel
from auditor.models.chat_template_rules import (
    MAX_CHARACTERS,
    MAX_TEMPLATES,
    TEMPLATE_KEYS,
    check_template,
)
from auditor.models.limits import FolderLimits
from auditor.models.strict_json import read_json, read_object, walk_keys

_CODE_KEYS: Final = frozenset({
    "auto_map", "trust_remote_code", "custom_pipelines", "custom_generate", "_target_",
})  # fmt: skip
_ELSEWHERE_KEYS: Final = frozenset({
    "transformers_weights", "use_kernels", "kernel_config", "gguf_file",
})  # fmt: skip
# Written by old versions; it is never opened, and often holds the path of who saved it.
_HARMLESS_FILE_KEY: Final = "special_tokens_map_file"
_MODEL_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MOST_TEMPLATES: Final = 4
# onnxruntime-genai opens a library that the model's own configuration names.
_NATIVE_LIBRARY: Final = re.compile(r"\.(so(\.\d+)*|dll|dylib|pyd)$", re.IGNORECASE)
MAX_COUNT: Final = 65_536
# transformers makes a name for every label and every layer before there is a model.
_COUNTS: Final = re.compile(r"num_labels|n_layers?|\w*_layers?|\w*_blocks|depth")
_MODULE: Final = re.compile(r"sentence_transformers(\.[A-Za-z0-9_]+)+")
_IMPLEMENTATION: Final = re.compile(r"[A-Za-z0-9_]{1,64}")


# A list of training data that sentence-transformers leaves behind and no library reads.
_UNREAD: Final = frozenset({"data_config.json"})
# Where processors of transformers keep their template, besides config.json and its like.
_TEMPLATE_FILE: Final = "chat_template.json"


def is_config(name: str) -> bool:
    """Whether a file is a configuration: its name ends in `config.json`, or it holds templates."""
    last = PurePosixPath(name.lower()).name
    return last == _TEMPLATE_FILE or (last.endswith("config.json") and last not in _UNREAD)


def read_config(path: Path, name: str, content: bytes, limits: FolderLimits) -> dict[str, Any]:
    """A configuration, checked.

    Args:
        path: The model, for messages.
        name: The file in it.
        content: Its bytes.
        limits: How many values and how deep.

    Raises:
        RefusedModel: It is not a strict JSON object, it names code or other files, or a chat
            template in it asks for more than messages.
    """
    if Path(name).name.lower() == "adapter_config.json":
        raise RefusedModel(
            path, "adapter", "an adapter names another model to load", place=name,
            way_out="merge the adapter into its model and save that",
        )  # fmt: skip
    config = read_object(path, name, content, limits)
    for _, key, value in walk_keys(config):
        # An empty value asks for nothing.
        if not value:
            continue
        if key in _CODE_KEYS:
            raise RefusedModel(
                path, "custom-code", f"the key {key!r} asks for code of its own", place=name,
                way_out="use a model type that transformers knows, and remove the key",
            )  # fmt: skip
        if key == "activation_function" and not _is_activation(value):
            raise RefusedModel(
                path, "custom-code", f"the activation {str(value)[:60]!r} is imported by its name",
                place=name, way_out="use an activation of torch.nn",
            )  # fmt: skip
        if isinstance(value, int) and value > MAX_COUNT and _COUNTS.fullmatch(key):
            raise RefusedModel(
                path, "config-count", f"{key[:80]} is {str(value)[:12]}, more than {MAX_COUNT}",
                place=name, way_out="save the model again with save_pretrained",
            )  # fmt: skip
        if key in _ELSEWHERE_KEYS or _names_elsewhere(key, value):
            raise RefusedModel(
                path, "config-reference", f"the key {key!r} names a file or kernel to load",
                place=name, way_out="remove the key",
            )  # fmt: skip
    if PurePosixPath(name).name == "router_config.json":
        kinds = config.get("types")
        _check_parts(path, name, list(kinds.values()) if isinstance(kinds, dict) else [None])
    _check_templates(path, name, config)
    return config


def _is_activation(value: Any) -> bool:
    """A plain word is looked up in a table; a path is imported by sentence-transformers."""
    return not isinstance(value, str) or "." not in value or value.startswith("torch.nn.")


def is_module_list(name: str) -> bool:
    """Whether a file lists the parts of a sentence transformer, which imports them by name."""
    return PurePosixPath(name).name == "modules.json"


def check_module_list(path: Path, name: str, content: bytes, limits: FolderLimits) -> None:
    """Refuse a list of parts that names anything but parts of sentence-transformers.

    Raises:
        RefusedModel: It is not a strict JSON list, or a part is of another package.
    """
    found = read_json(path, name, content, limits)
    parts = found if isinstance(found, list) else [None]
    kinds = [part.get("type") if isinstance(part, dict) else None for part in parts]
    _check_parts(path, name, kinds)


def _check_parts(path: Path, name: str, kinds: Sequence[Any]) -> None:
    for kind in kinds:
        if not (isinstance(kind, str) and _MODULE.fullmatch(kind)):
            raise RefusedModel(
                path, "custom-code", f"the part {str(kind)[:60]!r} is not one of "
                "sentence-transformers, and its name is imported", place=name,
                way_out="use parts of sentence-transformers",
            )  # fmt: skip


def _check_templates(path: Path, name: str, config: dict[str, Any]) -> None:
    left = _MOST_TEMPLATES * MAX_CHARACTERS
    for number, (key, template) in enumerate(template_texts(config)):
        place = f"{name}, key {key!r}"
        left -= len(template)
        if left < 0 or number >= MAX_TEMPLATES:
            raise RefusedModel(
                path, "text-limit", "more chat templates than are read", place=place,
                way_out="leave only those that are used",
            )  # fmt: skip
        check_template(path, place, template)


def template_texts(config: dict[str, Any] | list[Any]) -> Iterator[tuple[str, str]]:
    """The chat templates at any depth, each with its key: one text, or several by name."""
    for _, key, found in walk_keys(config):
        if key in TEMPLATE_KEYS:
            yield from ((key, text) for text in _texts(found))


def _names_elsewhere(key: str, value: Any) -> bool:
    if key.endswith("_implementation_internal"):
        return True
    # What lies deeper comes with a key of its own.
    near = value if isinstance(value, list) else [value]
    if any(isinstance(text, str) and _NATIVE_LIBRARY.search(text) for text in near):
        return True
    if key == "_name_or_path":
        return any("://" in text for text in _texts(value))
    if key.endswith("_implementation"):
        return not all(_IMPLEMENTATION.fullmatch(text) for text in _texts(value))
    if key.endswith("_file") and key != _HARMLESS_FILE_KEY:
        return any("/" in text or "\\" in text for text in _texts(value))
    return False


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        yield from (child for _, _, child in walk_keys(value) if isinstance(child, str))


def read_model_type(path: Path, name: str, config: dict[str, Any]) -> str:
    """The `model_type` of config.json.

    Raises:
        RefusedModel: There is none, or it is not a plain word.
    """
    found = config.get("model_type")
    if not isinstance(found, str) or not _MODEL_TYPE.fullmatch(found):
        raise RefusedModel(
            path, "malformed", f"model_type {str(found)[:40]!r} is not the name of a model type",
            place=name, way_out="save the model again with save_pretrained",
        )  # fmt: skip
    return found
