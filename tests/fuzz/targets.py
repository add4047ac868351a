"""Every reader of untrusted bytes, by name; `make fuzz` and the tests go through this table."""

from __future__ import annotations

from typing import Final

from tests.fuzz import model_targets as models
from tests.fuzz import number_targets as numbers
from tests.fuzz import record_targets as records
from tests.fuzz import run_targets as runs
from tests.fuzz import scan_path_targets as paths
from tests.fuzz import scan_targets as scans
from tests.fuzz import text_targets as texts
from tests.fuzz import torch_targets as torches
from tests.fuzz.target import Target

TARGETS: Final[tuple[Target, ...]] = (
    Target("protobuf-wire", models.open_protobuf_wire),
    Target("onnx-walk", models.open_onnx_walk, weight=2),
    Target("preflight", models.open_preflight),
    Target("external-entries", models.open_external_entries),
    Target("safetensors", models.open_safetensors, weight=2),
    Target("strict-json", models.open_strict_json),
    Target("folder-config", models.open_folder_config),
    Target("weight-index", models.open_weight_index),
    Target("file-format", models.open_file_format, longest=8192),
    Target("chat-template", models.open_chat_template, longest=1024),
    Target("numpy-file", numbers.open_numpy_file),
    Target("idx-file", numbers.open_idx_file),
    Target("labelled-numbers", numbers.open_labelled_numbers),
    Target("strict-yaml", texts.open_strict_yaml, longest=2048),
    Target("plan", texts.open_plan),
    Target("policy", texts.open_policy),
    Target("waivers", texts.open_waivers),
    Target("content-policy", texts.open_content_policy),
    Target("property", texts.open_property),
    Target("property-yaml", texts.open_property_yaml),
    Target("vnnlib", texts.open_vnnlib, weight=2),
    Target("vnnlib2", texts.open_vnnlib2),
    Target("json-lines", texts.open_json_lines),
    Target("prompts-csv", texts.open_prompts_csv),
    Target("prompts-jsonl", texts.open_prompts_jsonl),
    Target("completions-csv", texts.open_completions_csv),
    Target("instances-csv", texts.open_instances_csv),
    Target("corpus-jsonl", texts.open_corpus_jsonl),
    Target("corpus-gzip", texts.open_corpus_gzip),
    Target("corpus-zstd", texts.open_corpus_zstd),
    Target("corpus-parquet", texts.open_corpus_parquet),
    Target("certificate", records.open_certificate),
    Target("certificate-sealed", records.open_certificate_sealed, weight=2),
    Target("pattern-file", records.open_pattern_file),
    Target("pattern-file-sealed", records.open_pattern_file_sealed),
    Target("mask-file", records.open_mask_file),
    Target("mask-file-sealed", records.open_mask_file_sealed),
    Target("index-manifest", records.open_index_manifest),
    Target("index-shard", records.open_index_shard, longest=8192, weight=2),
    Target("calibration", records.open_calibration),
    Target("refusal-judge", records.open_refusal_judge),
    Target("tokenizer", records.open_tokenizer),
    Target("ledger", runs.open_ledger),
    Target("ledger-sealed", runs.open_ledger_sealed, longest=8192),
    Target("audit-json", runs.open_audit_json, longest=8192),
    Target("baseline", runs.open_baseline),
    Target("fix-record", runs.open_fix_record, longest=8192),
    Target("traced-record", runs.open_traced_record),
    Target("cached-answer", runs.open_cached_answer),
    Target("signature", runs.open_signature),
    Target("guarded-child", runs.open_guarded_child),
    Target("pickle-walk", scans.open_pickle_walk, weight=3),
    Target("numpy-header", scans.open_numpy_header, weight=2),
    Target("zip-archive", scans.open_zip_archive, weight=3),
    Target("tar-archive", scans.open_tar_archive, longest=8192, weight=3),
    Target("compressed", scans.open_compressed, weight=2),
    Target("gguf-header", scans.open_gguf_header, weight=2),
    Target("hdf5-file", scans.open_hdf5_file),
    Target("keras-config", scans.open_keras_config),
    Target("yaml-events", scans.open_yaml_events),
    Target("template-rules", scans.open_template_rules),
    Target("torch-values", torches.open_torch_values, weight=2),
    Target("torch-stream", torches.open_torch_stream),
    Target("torch-archive", torches.open_torch_archive, weight=2),
    Target("scan-file", paths.open_scan_file, weight=3),
    Target("scan-folder", paths.open_scan_folder, weight=2),
)


def target_called(name: str) -> Target:
    """The target of that name.

    Raises:
        KeyError: There is none.
    """
    return {target.name: target for target in TARGETS}[name]
