"""Every reader of untrusted bytes, over its seeds, over what broke it once, and over its grammar.

`make fuzz` goes on from here for as long as it is given.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditor.errors import RefusedModel
from auditor.models.limits import FolderLimits, Limits
from auditor.models.onnx_walk import walk_model
from auditor.models.safetensors_header import read_header
from auditor.models.scan.archives.tar_archive import read_tar
from auditor.models.scan.archives.zip_archive import read_zip
from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Decision
from auditor.models.scan.formats.numpy_header import read_numpy
from auditor.models.scan.limits import ScanLimits
from tests.fuzz import container_grammars as containers
from tests.fuzz import grammars
from tests.fuzz.child import CORPUS, REGRESSIONS, seeds_of
from tests.fuzz.mutation import mutated
from tests.fuzz.target import Check, Target
from tests.fuzz.targets import TARGETS, target_called

MOST_CORPUS_BYTES = 300_000
EXAMPLES, EXAMPLES_OF_SLOW_ONES = 200, 60
SLOW = {"certificate", "certificate-sealed", "index-shard", "scan-folder", "scan-file", "plan",
        "strict-yaml", "property-yaml", "waivers", "torch-stream", "torch-archive"}  # fmt: skip
GRAMMARS = {
    "protobuf-wire": grammars.protobuf_messages(),
    "onnx-walk": grammars.protobuf_messages(),
    "preflight": grammars.protobuf_messages(),
    "safetensors": grammars.safetensors_files(),
    "vnnlib": grammars.vnnlib_texts(),
    "property": grammars.vnnlib_texts(),
    "pickle-walk": containers.pickles(),
    "torch-values": containers.pickled_weights(),
    "zip-archive": containers.zip_files(),
    "tar-archive": containers.tar_files(),
    "gguf-header": containers.gguf_files(),
}
SHAPED_YAML = {"plan", "policy", "waivers", "content-policy", "property-yaml", "strict-yaml"}
SHAPED_JSON = {"strict-json", "folder-config", "weight-index", "calibration", "refusal-judge",
               "traced-record", "keras-config", "baseline"}  # fmt: skip


@pytest.fixture(scope="module", params=TARGETS, ids=lambda target: target.name)
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Target, Check]:
    """A target and its check, opened once."""
    target: Target = request.param
    if target.name == "signature":
        pytest.importorskip("model_signing", reason="auditor[sign] is not installed")
    return target, target.open(tmp_path_factory.mktemp(target.name))


def _inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Files by the target's grammar, slightly damaged, and its seeds changed at random."""
    seeds = seeds_of(target)
    changed = st.integers(0, 2**32).map(
        lambda number: mutated(seeds, random.Random(number), target.longest)
    )
    first = seeds[0]
    if target.name in GRAMMARS:
        return st.one_of(changed, containers.damaged(GRAMMARS[target.name]))
    if target.name in SHAPED_YAML:
        known: Any = yaml.safe_load(first)
        return st.one_of(changed, grammars.yaml_texts(json.loads(json.dumps(known, default=str))))
    if target.name in SHAPED_JSON:
        return st.one_of(changed, grammars.json_texts(json.loads(first)))
    return changed


def test_seeds_and_former_findings_are_read_in_an_orderly_way(
    opened: tuple[Target, Check],
) -> None:
    """No seed, nothing that once broke the reader, and no empty file does any harm."""
    target, check = opened
    for data in (*seeds_of(target), b""):
        check(data)


def test_changed_files_are_read_in_an_orderly_way(opened: tuple[Target, Check]) -> None:
    """Files that are nearly right, by the grammar of the format and by changing the seeds."""
    target, check = opened
    most = EXAMPLES_OF_SLOW_ONES if target.name in SLOW else EXAMPLES

    @settings(
        max_examples=most, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(_inputs(target))
    def holds(data: bytes) -> None:
        check(data)

    holds()


def test_every_target_has_seeds_and_every_seed_a_target() -> None:
    """The folders of the corpus are the targets; those of regressions are some of them."""
    names = {target.name for target in TARGETS}
    assert len(names) == len(TARGETS)
    assert {path.name for path in CORPUS.iterdir()} == names
    assert {path.name for path in REGRESSIONS.iterdir()} <= names
    assert all(any((CORPUS / name).iterdir()) for name in names)


def _accepts_onnx(data: bytes) -> bool:
    walk_model(Path("m"), data, Limits())
    return True


def _accepts_weights(data: bytes) -> bool:
    stream = io.BytesIO(data)
    return bool(read_header(Path("m"), "", stream, len(data), FolderLimits()).tensors)


def _accepts_zip(data: bytes) -> bool:
    found = read_zip(io.BytesIO(data), len(data), "", ScanLimits(), _anything, 0)
    return found.decision is Decision.ACCEPTED


def _accepts_tar(data: bytes) -> bool:
    source = ByteSource(io.BytesIO(data).read, size=len(data))
    return read_tar(source, "", ScanLimits(), _anything, 0).decision is Decision.ACCEPTED


def _accepts_npy(data: bytes) -> bool:
    source = ByteSource(io.BytesIO(data).read, size=len(data))
    return read_numpy(source, "", ScanLimits()).decision is Decision.ACCEPTED


def _anything(source: ByteSource, name: str, depth: int) -> Content:
    return Content("anything")


@pytest.mark.parametrize(
    ("name", "accepts"),
    [
        ("onnx-walk", _accepts_onnx),
        ("safetensors", _accepts_weights),
        ("zip-archive", _accepts_zip),
        ("tar-archive", _accepts_tar),
        ("numpy-header", _accepts_npy),
    ],
)
def test_some_seeds_of_a_reader_with_an_oracle_are_accepted(
    name: str, accepts: Callable[[bytes], bool]
) -> None:
    """Or nothing would be compared."""

    def holds(data: bytes) -> bool:
        try:
            return accepts(data)
        except RefusedModel:
            return False

    assert any(holds(data) for data in seeds_of(target_called(name)))


def test_the_corpus_is_small() -> None:
    """It is kept in the repository."""
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(sizes) < MOST_CORPUS_BYTES
