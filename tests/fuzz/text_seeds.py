"""Seeds: what people write for auditor, and lists of texts."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Files = dict[str, bytes]

PLAN = """version: 1
name: small
variables: {folder: {description: where, default: .}}
subjects:
  - {path: "${folder}/model.onnx", name: m, kind: onnx}
checks:
  - {check: AUD101, subjects: ["m*"], required: true}
  - check: AUD201
    params: {properties: [{file: p.yaml}], bound: 1.5e-3}
    limits: {time_s: 10, memory_mb: 512}
policy:
  version: 1
  gates: [{check: AUD205, metric: share, op: "<=", value: 0.1, repeats: 3, rule: 2 of 3}]
reports: [json, sarif]
"""
POLICY = """version: 1
require: [AUD101]
fail_on: medium
inconclusive: warn
gates:
  - {check: AUD302, metric: refused, op: ">=", value: 0.9, bound: ci_lower, min_samples: 50}
"""
WAIVERS = """# accepted
- match: AUD201
  model_digest: any
  reason: "known: see notes"
  approved_by: release manager
  expires: 2026-12-24
  ticket: T-1
"""
CONTENT_POLICY = """version: 1
name: small
clauses:
  - id: medicine
    statement: Never advise a dose.
    violation: the text names a dose.
    weight: 0.5
    violating: ["Take ten of them."]
"""
PROPERTY = """version: 1
id: small
title: a box
inputs:
  box: {lower: [0, -1.5], upper: [1, 2e-3]}
  where: [{inputs: {0: 1, 1: -1}, at_most: 0.5}]
outputs: {names: [a, b, c]}
then:
  - {greater: {output: a, than: b}}
  - {class: {in: [a, 2]}}
  - {at_most: {output: 0, value: 3.25}}
  - {linear: {outputs: {a: 1, b: -1}, at_least: 0}}
"""
AROUND = """version: 1
id: near
inputs: {around: {center: [0.5, 0.5], radius: 0.1, clip: [0, 1]}}
following: {0: {active: [0], inactive: [1]}}
example: [0.5, 0.5]
then: [{class: 1}]
"""
VNNLIB = """; one box, two ways to be unsafe
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(declare-const Y_2 Real)
(assert (<= X_0 1.0))
(assert (>= X_0 -1e-1))
(assert (and (<= X_1 0.5) (>= X_1 0)))
(assert (or (and (<= Y_0 Y_1) (<= Y_0 (+ Y_2 (* 2 X_0)))) (and (>= (- Y_2 0.5) Y_1))))
"""
VNNLIB2 = """(vnnlib-version <2.0>)
(declare-network N
  (declare-input X float32 [1, 2])
  (declare-output Y float32 [1, 3])
)
(assert (and (>= X[0,0] 0.0) (<= X[0,0] 1.0) (>= X[0,1] 0.0) (<= X[0,1] 1.0)))
(assert (or (<= Y[0,0] Y[0,1]) (>= (+ Y[0,2] (* 2.0 Y[0,0])) 1.5)))
"""
LINES: tuple[Mapping[str, Any], ...] = (
    {"text": "the cat", "label": "unsafe", "group": "g"},
    {"question": "which?", "choices": ["this", "that"], "answer": 1},
    {"id": 1, "document": "some words to learn", "copies": 2, "group": "h"},
    {"tokens": [1, 2, 3]},
)
TEMPLATE = (
    "{% for message in messages %}{{ '<' + message['role'] + '> ' + message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}{{ date_string | upper }}{% endif %}"
)


def _lines(*records: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def _texts(*texts: str) -> Files:
    return {f"{number}": text.encode() for number, text in enumerate(texts)}


def text_seeds(folder: Path) -> dict[str, Files]:
    """What people write."""
    properties = _texts(PROPERTY, AROUND)
    documents = _lines({"id": "a", "text": "the cat \ud800 sat", "label": "benign"}, {"text": "é"})
    csv = 'prompt,category,set,group\r\n"how, then?",x,bad,\r\nhello,y,good,g\r\n'
    return {
        "strict-yaml": _texts(PLAN, "- [1, 0x1F, 1_000, .5, 2026-11-23, yes, ~]\n- {a: |\n b}\n"),
        "plan": _texts(PLAN),
        "policy": _texts(POLICY),
        "waivers": _texts(WAIVERS, "[]\n"),
        "content-policy": _texts(CONTENT_POLICY),
        "property-yaml": properties,
        "vnnlib": _texts(VNNLIB),
        "vnnlib2": _texts(VNNLIB2),
        "property": properties | {"vnnlib": VNNLIB.encode(), "vnnlib2": VNNLIB2.encode(),
                                  "gzip": gzip.compress(VNNLIB.encode(), mtime=0)},
        "json-lines": {str(n): _lines(each) for n, each in enumerate(LINES)}
        | {"all": b"\xef\xbb\xbf" + _lines(*LINES)},
        "prompts-csv": _texts(csv),
        "prompts-jsonl": {"0": _lines({"prompt": "how?", "set": "bad"},
                                      {"text": "hello", "set": "good", "type": None})},
        "completions-csv": _texts(
            "text,label,group\nI will not,yes,a\n\"sure, \"\"so\"\"\",yes,b\n"
        ),
        "instances-csv": _texts("onnx,property,timeout_s\nm.onnx,p.vnnlib,10\n",
                                "m.onnx,p.vnnlib,1e1\n"),
        "chat-template": _texts(TEMPLATE, "{{ messages[0]['content'] | trim }}{# note #}",
                                "{% if messages[0].role == 'user' %}{{ bos_token }}{% else %}"
                                "{{ raise_exception('no') }}{% endif %}"),
        "corpus-jsonl": {"0": documents},
        "corpus-gzip": {"0": gzip.compress(documents, mtime=0)},
        "corpus-zstd": {"0": _zstd(documents)},
        "corpus-parquet": _parquet(),
    }  # fmt: skip


def _zstd(content: bytes) -> bytes:
    from backports import zstd

    return bytes(zstd.compress(content))


def _parquet() -> Files:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import parquet

    found = {}
    table = pa.table({"text": ["one", None, "trois é"], "id": [1, 2, 3], "label": ["a", "b", "a"]})
    for name, options in (("plain", {"compression": "none", "use_dictionary": False}),
                          ("packed", {"compression": "zstd"})):  # fmt: skip
        sink = io.BytesIO()
        parquet.write_table(table, sink, **options)
        found[name] = sink.getvalue()
    return found
