"""Model folders whose configuration steers elsewhere, or whose files are not where they belong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.models.hostile_files.case import (
    Builder,
    HostileCase,
    accepted,
    files,
    given,
    outside,
    refused,
    sound_weights,
    steer,
)
from tests.models.hostile_files.payload import touching
from tests.models.hostile_files.torch_archives import saved
from tests.models.model_folders import CONFIG, write_folder, write_index, write_sharded
from tests.models.onnx_networks import dense_network

CODE = "custom-code"
REFERENCE = "config-reference"
_FIRST, _SECOND = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
_INDEX = "model.safetensors.index.json"


def _config(
    case_id: str, stands_for: str, more: Mapping[str, Any], rules: str, shown: str
) -> HostileCase:
    return steer(case_id, stands_for, "config.json", {**CONFIG, **more}, rules, shown)


def _index(places: Mapping[str, Any]) -> Builder:
    """Sharded weights with an index that says something else."""

    def build(folder: Path, marker: Path) -> Path:
        outside(folder, sound_weights())
        root = write_sharded(given(folder) / "model")
        write_index(root, {"h.0.weight": _FIRST, "h.0.bias": _SECOND, **places})
        return root

    return build


def _spoilt(change: Callable[[Path, Path], object]) -> Builder:
    """Sharded weights, and what is done to their folder; the second path lies outside."""

    def build(folder: Path, marker: Path) -> Path:
        root = write_sharded(given(folder) / "model")
        change(root, outside(folder, sound_weights()))
        return root

    return build


def _link_shard(root: Path, secret: Path) -> None:
    (root / _FIRST).unlink()
    (root / _FIRST).symlink_to(secret)


def _drop_shard(root: Path, secret: Path) -> None:
    (root / _SECOND).unlink()


def _tensor_twice(root: Path, secret: Path) -> None:
    (root / _SECOND).write_bytes((root / _FIRST).read_bytes())


def _key_twice(root: Path, secret: Path) -> None:
    text = (root / _INDEX).read_text()
    (root / _INDEX).write_text(text.replace('"h.0.bias"', '"h.0.weight"'))


def _link_folder(root: Path, secret: Path) -> None:
    (root / "tokenizer").symlink_to(secret.parent, target_is_directory=True)


def _broken_link(root: Path, secret: Path) -> None:
    (root / "vocab.txt").symlink_to("nowhere")


def _cache(target: str) -> Builder:
    """A snapshot of the Hugging Face cache, whose entries link into the blobs beside it."""

    def build(folder: Path, marker: Path) -> Path:
        repository = given(folder) / "models--a--b"
        snapshot, blobs = repository / "snapshots" / "revision", repository / "blobs"
        other = given(folder) / "models--c--d" / "blobs"
        for made in (snapshot, blobs, other):
            made.mkdir(parents=True)
        source = write_folder(folder / "source")
        for number, name in enumerate(("config.json", "model.safetensors", "tokenizer.json")):
            for store in (blobs, other):
                (store / str(number)).write_bytes((source / name).read_bytes())
            place = target if name == "model.safetensors" else "../../blobs"
            (snapshot / name).symlink_to(f"{place}/{number}")
        return snapshot

    return build


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def _pipeline(index: Mapping[str, Any]) -> Builder:
    """A folder in diffusers' layout."""
    return files([
        ("model_index.json", lambda marker: json.dumps(index).encode()),
        ("unet/config.json", lambda marker: b'{"_class_name": "UNet2DConditionModel"}'),
        ("unet/diffusion_pytorch_model.safetensors", lambda marker: sound_weights()),
    ])  # fmt: skip


def _hub_manifest(marker: Path) -> bytes:
    """Where to download a model from; nobody may follow it."""
    entry = {"model": "a", "model_path": "https://example.invalid/a.onnx", "metadata": {}}
    return json.dumps([entry]).encode()


def _onnx(marker: Path) -> bytes:
    return bytes(dense_network([3, 2]).SerializeToString())


_OPTIONS = {"custom_ops_library": "libkernels.so"}
CASES: tuple[HostileCase, ...] = (
    _config("config-auto-map", "auto_map", {"auto_map": {"AutoModel": "modeling_x.X"}}, CODE,
            "auto_map"),
    _config("config-nested-remote-code", "CVE-2026-5241, trust_remote_code", {
        "text_config": {"layers": [{"trust_remote_code": True}]}}, CODE, "trust_remote_code"),
    _config("config-internal-attention", "CVE-2026-4372", {
        "_attn_implementation_internal": "someone/kernel"}, REFERENCE,
        "_attn_implementation_internal"),
    _config("config-internal-attention-nested", "CVE-2026-4372", {
        "vision_config": {"_attn_implementation_internal": "someone/kernel"}}, REFERENCE,
        "_attn_implementation_internal"),
    _config("config-kernel-from-the-hub", "hub kernels", {
        "_attn_implementation": "someone/kernel"}, REFERENCE, "_attn_implementation"),
    _config("config-kernels", "hub kernels", {"use_kernels": True}, REFERENCE, "use_kernels"),
    _config("config-remote-path", "remote _name_or_path", {
        "_name_or_path": "https://example.invalid/model"}, REFERENCE, "_name_or_path"),
    _config("config-weights-elsewhere", "CVE-2026-4372", {
        "transformers_weights": "pytorch_model.bin"}, REFERENCE, "transformers_weights"),
    _config("config-target", "CVE-2025-23304", {"optimizer": {
        "_target_": "os.system", "command": "touch MARKER"}}, CODE, "_target_"),
    _config("config-vocabulary-elsewhere", "path-like names", {
        "vocab_file": "../../outside/secret.bin"}, REFERENCE, "vocab_file"),
    _config("config-nested-deeply", "nesting", {"a": _deep(200)}, "nesting-limit", "nested"),
    refused("config-of-a-long-number", "limits before allocation", files([
        ("config.json", lambda marker: b'{"model_type": "gpt2", "a": ' + b"9" * 100_000 + b"}")]),
        "malformed field-limit text-limit", "config.json"),
    steer("tokenizer-auto-map", "auto_map", "tokenizer_config.json", {
        "auto_map": {"AutoTokenizer": ["tokenization_x.X", None]}}, CODE, "auto_map"),
    steer("generation-of-its-own", "trust_remote_code", "generation_config.json", {
        "custom_generate": "someone/generate"}, CODE, "custom_generate"),
    steer("adapter-of-another-model", "remote _name_or_path", "adapter_config.json", {
        "base_model_name_or_path": "someone/model", "auto_mapping": {"x": "y"}},
        "adapter config-reference custom-code", "adapter_config.json"),
    refused("pipeline-of-its-own", "repository .py", _pipeline({
        "_class_name": ["pipeline", "Pipeline"], "unet": ["diffusers", "UNet2DConditionModel"]}),
        "custom-code", "model_index.json"),
    refused("component-of-a-foreign-package", "repository .py", _pipeline({
        "_class_name": "Pipeline", "unet": ["someone_else", "UNet"]}), "custom-code",
        "model_index.json"),
    refused("modules-of-a-foreign-package", "code by configuration", files([
        ("modules.json", lambda marker: json.dumps([
            {"idx": 0, "name": "0", "path": "", "type": "someone_else.Layer"}]).encode())]),
        "custom-code config-reference", "modules.json"),
    steer("router-of-a-foreign-package", "code by configuration", "router_config.json", {
        "types": {"query": "someone_else.Layer"}}, "custom-code config-reference",
        "router_config.json"),
    steer("native-library-named-by-the-folder", "onnxruntime-genai#2267", "genai_config.json", {
        "model": {"decoder": {"filename": "model.onnx", "session_options": _OPTIONS}}},
        "custom-code config-reference native-code", "genai_config.json"),
    refused("random-state-beside-weights", "CVE-2026-1839", files([
        ("config.json", lambda marker: json.dumps(CONFIG).encode()),
        ("model.safetensors", lambda marker: sound_weights()),
        ("rng_state.pth", lambda marker: saved(touching(marker, 2)))]),
        "pickle-content pickle-import", "rng_state.pth"),
    refused("training-arguments-in-a-sub-folder", "any pickle", files([
        ("model.safetensors", lambda marker: sound_weights()),
        ("checkpoint-1/training_args.bin", lambda marker: saved(touching(marker, 2)))]),
        "pickle-content pickle-import", "checkpoint-1/training_args.bin"),
    refused("pickle-in-a-hidden-folder", "nothing skipped is called clean", files([
        ("model.safetensors", lambda marker: sound_weights()), (".cache/state", touching)]),
        "pickle-content pickle-import", ".cache/state"),
    refused("index-in-the-parent", "index files: ..", _index({
        "h.0.bias": "../outside/secret.bin"}), "index-escape path-like-name", "secret.bin"),
    refused("index-absolute", "index files: absolute", _index({
        "h.0.bias": "/outside/secret.safetensors"}), "index-escape path-like-name", "secret"),
    refused("index-of-a-linked-shard", "index files: symlinked", _spoilt(_link_shard),
            "link-escape", _FIRST),
    refused("index-of-a-missing-shard", "index files: missing shards", _spoilt(_drop_shard),
            "index-missing", _SECOND),
    refused("index-of-a-tensor-in-two-shards", "index files: tensor listed twice", _spoilt(
        _tensor_twice), "duplicate-tensor index-tensor", "tensor"),
    refused("index-key-twice", "index files: tensor listed twice", _spoilt(_key_twice),
            "duplicate-field", "h.0.weight"),
    refused("index-of-a-tensor-elsewhere", "index files", _index({"h.1.bias": _FIRST}),
            "index-tensor", "h.1.bias"),
    refused("link-to-a-folder-outside", "symlink", _spoilt(_link_folder),
            "link-escape not-a-file", "tokenizer"),
    refused("link-to-nowhere", "symlink", _spoilt(_broken_link), "broken-link link-escape",
            "vocab.txt"),
    accepted("cache-snapshot", "index files: the known hub-cache layout", _cache("../../blobs"),
             ("../..",)),
    refused("cache-snapshot-of-another-repository", "index files: symlinked", _cache(
        "../../../models--c--d/blobs"), "link-escape", "model.safetensors", ("../..",)),
    accepted("hub-manifest", "CVE-2026-28500, any network use", files([
        ("ONNX_HUB_MANIFEST.json", _hub_manifest), ("model.onnx", _onnx)])),
)  # fmt: skip
