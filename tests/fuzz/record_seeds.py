"""Seeds: what auditor writes and reads again."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from tests.fuzz.target import with_parts

SEED: Final = 5

Files = dict[str, bytes]


def record_seeds(folder: Path) -> dict[str, Files]:
    """What auditor writes and reads again."""
    found: dict[str, Files] = {}
    for make in (_certificates, _patterns, _masks, _index, _run, _small_records, _signature):
        inner = folder / make.__name__
        inner.mkdir()
        found |= make(inner)
    return found


def _certificates(folder: Path) -> dict[str, Files]:
    from tests.models.certificates import (
        absolute_value_question,
        batch,
        lemmas,
        packed,
        refutations,
        sealed,
    )

    question = absolute_value_question(folder, 0.25)
    header, group = (payload for _, payload in question.opening)
    batches = {
        "empty": batch(),
        "split": batch(splits=[(0, 0.0)]),
        "lemmas": batch(before=lemmas([0, 0], [0, 1], [-1.0, -1.0])),
        "refuted": batch(refuted=refutations([0], [0], [1.0])),
        "form": batch(shrunk=packed("u4", 1) + packed("u4", 0) + packed("u1", 0)),
    }
    parts = {
        name: with_parts([(0, header), (1, group), (2, payload)])
        for name, (_, payload) in batches.items()
    }
    whole = sealed([*question.opening, batches["lemmas"]])
    return {"certificate": {"whole": whole}, "certificate-sealed": parts}


def _patterns(folder: Path) -> dict[str, Files]:
    from auditor.models.onnx_model import OnnxModel
    from auditor.patterns.evaluate import evaluate_patterns
    from auditor.patterns.mine import mine_patterns
    from auditor.patterns.pattern_file import _layout, write_patterns
    from auditor.patterns.pattern_head import PatternHead
    from tests.models.planted_patterns import planted_network, planted_samples

    model = OnnxModel.from_proto(planted_network())
    samples = planted_samples([4, 4, 4], [3, 1, 2])
    mined = mine_patterns(model, *samples, [1, 0.9])
    path = folder / "file"
    write_patterns(path, mined, evaluate_patterns(mined, model, *samples))
    content = path.read_bytes()
    return {
        "pattern-file": {"whole": content},
        "pattern-file-sealed": {"whole": _unsealed(
            content, lambda head: list(_layout(PatternHead.model_validate_json(head)))
        )},
    }  # fmt: skip


def _unsealed(content: bytes, names: Callable[[bytes], list[str]]) -> bytes:
    """The head of a safetensors file as a line, and its arrays in an order."""
    import safetensors

    length = struct.unpack_from("<Q", content)[0]
    head = json.loads(content[8 : 8 + length])["__metadata__"]["head"].encode()
    arrays = dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]
    return bytes(head + b"\n" + b"".join(bytes(arrays[name]["data"]) for name in names(head)))


def _masks(folder: Path) -> dict[str, Files]:
    import torch

    from auditor.memorization.masks.mask_file import write_masks
    from auditor.memorization.masks.weight_masks import WeightMasks
    from auditor.memorization.masks.weight_sites import SiteKind, WeightSite

    torch.manual_seed(SEED)
    layers = {"a": torch.nn.Linear(3, 4), "b": torch.nn.Linear(4, 2)}
    sites = [WeightSite(name, SiteKind.ATTENTION, each, False) for name, each in layers.items()]
    masks = WeightMasks({site.name: site.weight > 0.2 for site in sites})
    path = folder / "file"
    write_masks(path, masks, sites, base="sha256:1", rule="score 0.1")
    content = path.read_bytes()
    names = [f"{number}.{kind}" for number in range(len(sites)) for kind in ("bits", "values")]
    return {
        "mask-file": {"whole": content},
        "mask-file-sealed": {"whole": _unsealed(content, lambda head: names)},
    }


def _index(folder: Path) -> dict[str, Files]:
    from tests.fuzz.record_targets import INDEX_FILES, INDEX_TEXT
    from tests.fuzz.sealing import SHARD
    from tests.models.small_index import index_of

    index = index_of(folder, INDEX_TEXT)
    parts = {
        name: with_parts([(number, (index.folder / SHARD / name).read_bytes())])
        for number, name in enumerate(INDEX_FILES) if name != "buckets.i64"
    }  # fmt: skip
    return {
        "index-manifest": {"whole": (index.folder / "index.json").read_bytes()},
        "index-shard": parts | {"some": parts["suffixes.i32"] + parts["starts.i64"]},
    }


def _run(folder: Path) -> dict[str, Files]:
    from auditor.audit.baseline import make_baseline
    from auditor.findings import Verdict
    from auditor_reports.audit_json import run_fingerprint
    from auditor_reports.fix.json import render_fix_json
    from auditor_reports.plain_json import plain_json
    from tests.golden.sample_fix import sample_fix
    from tests.models.written_run import made_result, write_run

    report = write_run(folder / "run", [made_result("AUD201", Verdict.VIOLATED)])
    ledger = (folder / "run" / "ledger.jsonl").read_bytes()
    entries = [json.loads(line)["entry"] for line in ledger.splitlines()]
    compact = [json.dumps([each["kind"], each["body"]]).encode() for each in entries]
    answer = {"version": 1, "key": "key", "code": "AUD201", "origin": "the run",
              "answer": report.results[0].answer.model_dump(mode="json")}  # fmt: skip
    return {
        "ledger": {"whole": ledger},
        "ledger-sealed": {"whole": b"\n".join(compact)},
        "audit-json": {"whole": (folder / "run" / "audit.json").read_bytes()},
        "baseline": {"whole": plain_json(make_baseline(report, run_fingerprint(report)))},
        "fix-record": {"whole": render_fix_json(sample_fix())},
        "cached-answer": {"whole": json.dumps(answer).encode()},
    }


def _small_records(folder: Path) -> dict[str, Files]:
    from auditor.evidence import TextPiece, TracedTextEvidence
    from auditor.redaction import full_record
    from auditor.trace.calibration import Calibration, operating_point
    from tests.unit.trace.tokenizers_for_tests import word_tokenizer

    digest = "sha256:" + "0" * 64
    calibration = Calibration(
        score="length", threshold=8.0, rule="false_alarms", bound=0.05, index=digest, policy="",
        stance="", least_tokens=8, chance=1e-3, frequent=200, contexts=5, data=digest, groups=2,
        seed=0, point=operating_point(np.array([0.0, 1.0]), np.array([False, True]), 0.5),
        areas=(), beats_length=False,
    )  # fmt: skip
    judge = {"format": "auditor-refusal-judge/1", "embedder": digest, "data": digest,
             "refused": 2, "answered": 3, "ridge": 1.0, "cut": 0.5, "bias": 0.25,
             "weights": [0.5, -1.0, 2.0]}  # fmt: skip
    traced = TracedTextEvidence(title="text", pieces=(TextPiece(text="a"),), verdict="allow")
    said = [{"stage": "load", "protections": None}, {"protections": {"limits": ["memory"]}},
            {"stage": "run"}, {"skipped": "none", "stage": "run"}, {"done": True}]  # fmt: skip
    lines = b"".join(json.dumps(each).encode() + b"\n" for each in said)
    return {
        "guarded-child": {"done": b"\0" + lines, "killed": b"\xf7" + lines[:40] + b"\0why"},
        "calibration": {"whole": calibration.model_dump_json().encode()},
        "refusal-judge": {"whole": json.dumps(judge).encode()},
        "traced-record": {"whole": full_record(traced)},
        "tokenizer": {"words": word_tokenizer(folder / "words.json", 4).read_bytes()},
    }


def _signature(folder: Path) -> dict[str, Files]:
    from tests.fuzz.signed_run import sign

    return {"signature": {"whole": sign(folder)}}
