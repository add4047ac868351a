"""Pattern files keep everything, are bound to their model, and notice every change."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import safetensors.numpy

from auditor.errors import (
    ConfigurationError,
    FileMissing,
    PatternFileRejected,
    PatternMismatch,
)
from auditor.models.onnx_model import OnnxModel
from auditor.patterns import pattern_file
from auditor.patterns.evaluate import evaluate_patterns
from auditor.patterns.mine import mine_patterns
from auditor.patterns.pattern_file import read_patterns, write_patterns
from auditor.patterns.pattern_head import PatternHead
from auditor.patterns.pattern_set import PatternSet
from tests.models.planted_patterns import planted_network, planted_samples

PLANTED = OnnxModel.from_proto(planted_network())
Arrays = dict[str, np.ndarray[Any, Any]]
Head = dict[str, Any]


def _mined() -> PatternSet:
    return mine_patterns(PLANTED, *planted_samples([10, 10, 10], [9, 1, 5]), [1, 0.9])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    mined = _mined()
    heldout = evaluate_patterns(mined, PLANTED, *planted_samples([4, 4, 4], [3, 3, 3]))
    path = tmp_path / "planted.patterns"
    write_patterns(path, mined, heldout)
    return path


def _split(path: Path) -> tuple[Head, Arrays]:
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    return json.loads(header["__metadata__"]["head"]), safetensors.numpy.load(content)


def _forge(path: Path, head: Head, arrays: Arrays) -> None:
    """Write a file with a digest that fits, as an attacker would."""
    parsed = PatternHead.model_validate(head | {"digest": ""})
    data = {
        name: (pattern_file._NAMES[array.dtype], array.shape, array.tobytes())
        for name, array in arrays.items()
    }
    sealed = head | {"digest": pattern_file._digest(parsed, data)}
    path.write_bytes(safetensors.numpy.save(arrays, metadata={"head": json.dumps(sealed)}))


def test_what_is_written_is_read_again(written: Path) -> None:
    mined = _mined()
    read, heldout = read_patterns(written, model_digest=PLANTED.digest)
    assert read.deltas == mined.deltas
    assert (read.members, read.granularity) == (mined.members, mined.granularity)
    assert read.totals.tolist() == mined.totals.tolist()
    assert read.class_states(0, 0.9) == mined.class_states(0, 0.9)
    assert read.layers[0].counts.tolist() == mined.layers[0].counts.tolist()
    expected = evaluate_patterns(mined, PLANTED, *planted_samples([4, 4, 4], [3, 3, 3]))
    assert [e.recall(0) for e in heldout] == [e.recall(0) for e in expected]
    assert [e.conflicts for e in heldout] == [e.conflicts for e in expected]


def test_thresholds_are_kept(tmp_path: Path) -> None:
    proto = planted_network()
    proto.graph.node[1].op_type = "Tanh"
    model = OnnxModel.from_proto(proto)
    mined = mine_patterns(model, *planted_samples([3, 3, 3], [0, 0, 3]), [1])
    write_patterns(tmp_path / "t", mined)
    (layer,) = read_patterns(tmp_path / "t").patterns.layers
    assert layer.thresholds is not None
    assert mined.layers[0].thresholds is not None
    assert layer.thresholds.tolist() == mined.layers[0].thresholds.tolist()


def test_the_same_patterns_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_patterns(tmp_path / name, _mined())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_head_fits_the_published_schema(written: Path) -> None:
    head, _ = _split(written)
    jsonschema.validate(head, PatternHead.model_json_schema())
    assert head["deltas"] == ["1", "9/10"]


def test_another_model_is_refused(written: Path) -> None:
    with pytest.raises(PatternMismatch, match=r"planted.patterns was mined from the model sha256"):
        read_patterns(written, model_digest="sha256:" + "0" * 64)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="pattern file not found"):
        read_patterns(tmp_path / "none")


def test_every_changed_byte_is_noticed(written: Path) -> None:
    content = bytearray(written.read_bytes())
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 0x10
        written.write_bytes(changed)
        with pytest.raises(PatternFileRejected):
            read_patterns(written)


def test_every_shorter_file_is_refused(written: Path) -> None:
    content = written.read_bytes()
    for length in range(0, len(content), 11):
        written.write_bytes(content[:length])
        with pytest.raises(PatternFileRejected):
            read_patterns(written)


def _both_states(head: Head, arrays: Arrays) -> None:
    arrays["layer.0.inactive"] = arrays["layer.0.inactive"] | arrays["layer.0.active"]


def _bits_beyond(head: Head, arrays: Arrays) -> None:
    arrays["layer.0.active"] = arrays["layer.0.active"] | np.uint8(0x80)


def _too_many_counts(head: Head, arrays: Arrays) -> None:
    arrays["layer.0.counts"] = arrays["layer.0.counts"] + 11


def _negative_counts(head: Head, arrays: Arrays) -> None:
    arrays["layer.0.counts"] = arrays["layer.0.counts"] - 11


def _states_of_nobody(head: Head, arrays: Arrays) -> None:
    head["samples"] = [0, 10, 10]


def _more_followers(head: Head, arrays: Arrays) -> None:
    arrays["heldout.followers"] = arrays["heldout.followers"] + 100


def _more_wrong(head: Head, arrays: Arrays) -> None:
    head["heldout"]["in_wrong"] = [0, 13]


def _low_delta(head: Head, arrays: Arrays) -> None:
    head["deltas"] = ["1", "1/3"]


def _no_delta(head: Head, arrays: Arrays) -> None:
    head["deltas"] = ["1", "1/0"]


def _wider_layer(head: Head, arrays: Arrays) -> None:
    head["layers"][0]["neurons"] = 2**20


def _missing_array(head: Head, arrays: Arrays) -> None:
    del arrays["layer.0.counts"]


def _further_array(head: Head, arrays: Arrays) -> None:
    arrays["more"] = np.zeros(1)


def _other_type(head: Head, arrays: Arrays) -> None:
    arrays["layer.0.counts"] = arrays["layer.0.counts"].astype(np.float64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_both_states, "both active and inactive"),
        (_bits_beyond, "bits beyond its neurons"),
        (_too_many_counts, "are no counts of its samples"),
        (_negative_counts, "are no counts of its samples"),
        (_states_of_nobody, "fixes states of a class without samples"),
        (_more_followers, "more held-out samples follow patterns than there are"),
        (_more_wrong, "more held-out samples follow patterns than there are"),
        (_low_delta, "delta 1/3; give a number above 0.5"),
        (_no_delta, "Fraction"),
        (_wider_layer, r"array 'layer.0.active' is U8\[2, 3, 1\], not U8\[2, 3, 131072\]"),
        (_missing_array, "array 'layer.0.counts' is missing or unknown"),
        (_further_array, "array 'more' is missing or unknown"),
        (_other_type, "is F64"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    written: Path, change: Callable[[Head, Arrays], None], message: str
) -> None:
    head, arrays = _split(written)
    change(head, arrays)
    _forge(written, head, arrays)
    with pytest.raises(PatternFileRejected, match=message):
        read_patterns(written)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": [2**30] * 100_001}, "samples"),
        ({"samples": [1] * 90_000}, "pairs of classes; the limit is"),
        ({"deltas": ["1"] * 65}, "deltas"),
        ({"deltas": ["1", "1"]}, "a delta stands twice"),
        ({"model": "none"}, "model"),
        ({"version": 2}, "version"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
        ({"heldout": {"in_wrong": [1], "ambiguous": [1]}}, "another number of deltas"),
    ],
)
def test_a_head_beyond_its_limits_is_refused_before_any_array(
    written: Path, change: Head, message: str
) -> None:
    head, arrays = _split(written)
    content = safetensors.numpy.save(arrays, metadata={"head": json.dumps(head | change)})
    written.write_bytes(content)
    with pytest.raises(PatternFileRejected, match=message):
        read_patterns(written)


@pytest.mark.parametrize(
    ("neurons", "classes", "message"),
    [
        ([2**25], 3, "less than or equal to 16777216"),
        ([2**24, 1], 3, "16777217 neurons; the limit is 16777216"),
        ([2**24], 9, "301989888 states; the limit is 268435456"),
    ],
)
def test_a_head_that_implies_too_much_is_refused(
    written: Path, neurons: list[int], classes: int, message: str
) -> None:
    head, arrays = _split(written)
    layer = head["layers"][0]
    head["layers"] = [layer | {"name": str(n), "neurons": n} for n in neurons]
    head["samples"] = [1] * classes
    written.write_bytes(safetensors.numpy.save(arrays, metadata={"head": json.dumps(head)}))
    with pytest.raises(PatternFileRejected, match=message):
        read_patterns(written)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\xff" * 64, struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 2) + b"[]",
     struct.pack("<Q", 20_000) + b"[" * 20_000],
)  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(PatternFileRejected):
        read_patterns(path)


def test_a_plain_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(safetensors.numpy.save({"w": np.zeros(3)}))
    with pytest.raises(PatternFileRejected, match="no head of a pattern file"):
        read_patterns(path)


def test_patterns_that_are_too_large_are_not_written(tmp_path: Path) -> None:
    mined = _mined()
    (layer,) = mined.layers
    twice = replace(mined, layers=(layer, layer))
    with pytest.raises(ConfigurationError, match="cannot be written: as a whole: a layer stands"):
        write_patterns(tmp_path / "x", twice)
    assert list(tmp_path.iterdir()) == []
