"""Pattern files: a JSON head and packed arrays in one safetensors file.

A file may be hostile: its size is limited, the head is checked before any array is made,
and every array must have the shape and type that the head implies. The digest in the
head covers head and arrays, so that a changed bit is found; it is no signature.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import ValidationError

from auditor.bounded_json import parse_json
from auditor.errors import ConfigurationError, FileMissing, PatternFileRejected
from auditor.files import write_atomically
from auditor.patterns.dominant import States, read_delta
from auditor.patterns.evaluate import DeltaEvaluation
from auditor.patterns.pattern_head import MAX_SAMPLES, HeldOutHead, LayerHead, PatternHead
from auditor.patterns.pattern_set import LayerPatterns, PatternSet, conflicting_pairs

Array = NDArray[Any]
Layout = dict[str, tuple[str, tuple[int, ...]]]

MAX_FILE_BYTES: Final = 2**30
MAX_HEADER_BYTES: Final = 2**24
_HEAD_KEY: Final = "head"
_TYPES: Final = {"U8": np.uint8, "I64": np.int64, "F64": np.float64}
_NAMES: Final = {np.dtype(kind): name for name, kind in _TYPES.items()}


class PatternFile(NamedTuple):
    """What a pattern file holds: the patterns, and how they fared on held-out samples."""

    patterns: PatternSet
    heldout: tuple[DeltaEvaluation, ...] = ()


def write_patterns(
    path: Path, patterns: PatternSet, heldout: Sequence[DeltaEvaluation] = ()
) -> None:
    """Write patterns, atomically; the same patterns give the same bytes.

    Raises:
        ConfigurationError: They are larger than a file may be.
        OutputNotWritable, OperationFailed: As for `write_atomically`.
    """
    arrays = _patterns_to_arrays(patterns)
    if heldout:
        arrays |= {
            "heldout.samples": heldout[0].samples,
            "heldout.followers": np.stack([each.followers for each in heldout]),
            "heldout.predicted": np.stack([each.predicted_followers for each in heldout]),
            "heldout.agreement": np.stack([each.agreement for each in heldout]),
        }
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    try:
        head = _head_of(patterns, heldout)
    except ValidationError as error:
        raise ConfigurationError(f"patterns cannot be written: {_first(error)}") from None
    data = {name: (_NAMES[array.dtype], array.shape, array.tobytes()) for name, array in
            arrays.items()}  # fmt: skip
    sealed = head.model_copy(update={"digest": _digest(head, data)})
    content = safetensors.numpy.save(arrays, metadata={_HEAD_KEY: _head_text(sealed)})
    if len(content) > MAX_FILE_BYTES:
        raise ConfigurationError(
            f"patterns of {len(content)} bytes; the limit is {MAX_FILE_BYTES}: choose fewer layers"
        )
    write_atomically(path, content)


def read_patterns(path: Path | str, *, model_digest: str = "") -> PatternFile:
    """Read a pattern file.

    Args:
        path: The file.
        model_digest: Digest of the model it is to be used with; empty for only looking.

    Raises:
        FileMissing: There is no such file.
        PatternFileRejected: It is damaged, altered or too large.
        PatternMismatch: It was mined from another model.
    """
    path = Path(path)
    content = _read_limited(path)
    head = _read_head(path, content)
    data = _read_arrays(path, content, _layout(head))
    if head.digest != _digest(head, data):
        raise PatternFileRejected(path, "its content does not have the digest its head names")
    arrays = {
        name: np.frombuffer(raw, dtype=_TYPES[kind]).reshape(shape)
        for name, (kind, shape, raw) in data.items()
    }
    patterns = _patterns_from_arrays(path, head, arrays)
    if model_digest:
        patterns.require_model(model_digest, str(path))
    return PatternFile(patterns, _heldout_from_arrays(path, patterns, head, arrays))


def _head_of(patterns: PatternSet, heldout: Sequence[DeltaEvaluation]) -> PatternHead:
    return PatternHead(
        model=patterns.model_digest,
        deltas=tuple(str(delta) for delta in patterns.deltas),
        members=patterns.members,
        granularity=patterns.granularity,
        samples=tuple(patterns.totals.tolist()),
        layers=tuple(
            LayerHead(
                name=layer.name,
                operator=layer.operator,
                neurons=layer.neurons,
                thresholds=layer.thresholds is not None,
            )
            for layer in patterns.layers
        ),
        heldout=HeldOutHead(
            in_wrong=tuple(each.in_wrong for each in heldout),
            ambiguous=tuple(each.ambiguous for each in heldout),
        )
        if heldout
        else None,
    )


def _head_text(head: PatternHead) -> str:
    return json.dumps(head.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def _digest(head: PatternHead, data: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> str:
    hasher = hashlib.sha256(_head_text(head.model_copy(update={"digest": ""})).encode())
    for name in sorted(data):
        kind, shape, raw = data[name]
        hasher.update(f"\n{name} {kind} {list(shape)}\n".encode())
        hasher.update(raw)
    return f"sha256:{hasher.hexdigest()}"


def _layout(head: PatternHead) -> Layout:
    """The arrays a head implies: type and shape by name."""
    deltas, classes = len(head.deltas), len(head.samples)
    layout: Layout = {}
    for number, layer in enumerate(head.layers):
        packed = (deltas, classes, (layer.neurons + 7) // 8)
        layout[f"layer.{number}.active"] = ("U8", packed)
        layout[f"layer.{number}.inactive"] = ("U8", packed)
        layout[f"layer.{number}.counts"] = ("I64", (classes, layer.neurons))
        if layer.thresholds:
            layout[f"layer.{number}.thresholds"] = ("F64", (layer.neurons,))
    if head.heldout:
        layout["heldout.samples"] = ("I64", (classes,))
        layout["heldout.followers"] = ("I64", (deltas, classes, classes))
        layout["heldout.predicted"] = ("I64", (deltas, classes, classes))
        layout["heldout.agreement"] = ("F64", (deltas, classes))
    return layout


def _read_limited(path: Path) -> bytes:
    if not path.is_file():
        raise FileMissing(path, "pattern file")
    with path.open("rb") as stream:
        # Memory for all that is asked for is taken before a byte is read.
        content = stream.read(min(os.fstat(stream.fileno()).st_size, MAX_FILE_BYTES) + 1)
    if len(content) > MAX_FILE_BYTES:
        raise PatternFileRejected(path, f"larger than {MAX_FILE_BYTES} bytes")
    return content


def _read_head(path: Path, content: bytes) -> PatternHead:
    """The head out of the safetensors header, whose length comes first."""
    length = struct.unpack_from("<Q", content)[0] if len(content) >= 8 else 0
    if not 0 < length <= min(MAX_HEADER_BYTES, len(content) - 8):
        raise PatternFileRejected(path, "no safetensors file with a header of allowed size")
    try:
        header = parse_json(content[8 : 8 + length])
        return PatternHead.model_validate_json(header["__metadata__"][_HEAD_KEY])
    except ValidationError as error:
        raise PatternFileRejected(path, f"head, {_first(error)}") from None
    except (ValueError, KeyError, TypeError):
        raise PatternFileRejected(path, "its header holds no head of a pattern file") from None


def _read_arrays(
    path: Path, content: bytes, layout: Layout
) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    try:
        found = dict(safetensors.deserialize(content))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise PatternFileRejected(path, f"not a safetensors file: {error}") from None
    if set(found) != set(layout):
        odd = sorted(set(found) ^ set(layout))[0]
        raise PatternFileRejected(path, f"array '{odd[:100]}' is missing or unknown")
    data = {}
    for name, (kind, shape) in layout.items():
        array = found[name]
        if array["dtype"] != kind or tuple(array["shape"]) != shape:
            raise PatternFileRejected(
                path, f"array '{name}' is {array['dtype']}{array['shape']}, not {kind}{list(shape)}"
            )
        raw = bytes(array["data"])
        if len(raw) != prod(shape) * np.dtype(_TYPES[kind]).itemsize:
            raise PatternFileRejected(path, f"array '{name}' has {len(raw)} bytes")
        data[name] = (kind, shape, raw)
    return data


def _patterns_to_arrays(patterns: PatternSet) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for number, layer in enumerate(patterns.layers):
        for name, states in layer.states._asdict().items():
            arrays[f"layer.{number}.{name}"] = np.packbits(states, axis=-1, bitorder="little")
        arrays[f"layer.{number}.counts"] = layer.counts
        if layer.thresholds is not None:
            arrays[f"layer.{number}.thresholds"] = layer.thresholds
    return arrays


def _patterns_from_arrays(path: Path, head: PatternHead, arrays: Mapping[str, Array]) -> PatternSet:
    totals = np.array(head.samples, dtype=np.int64)
    layers = []
    for number, layer in enumerate(head.layers):
        place = f"layer.{number}"
        states = States(
            _unpack(path, f"{place}.active", arrays, layer.neurons),
            _unpack(path, f"{place}.inactive", arrays, layer.neurons),
        )
        counts, thresholds = arrays[f"{place}.counts"], arrays.get(f"{place}.thresholds")
        if (states.active & states.inactive).any():
            raise PatternFileRejected(path, f"a neuron of {place} is both active and inactive")
        if (states.active | states.inactive)[:, totals == 0].any():
            raise PatternFileRejected(path, f"{place} fixes states of a class without samples")
        if (counts < 0).any() or (counts > totals[:, None]).any():
            raise PatternFileRejected(path, f"{place}.counts are no counts of its samples")
        if thresholds is not None and not np.isfinite(thresholds).all():
            raise PatternFileRejected(path, f"{place}.thresholds are not finite")
        layers.append(LayerPatterns(layer.name, layer.operator, states, counts, thresholds))
    try:
        deltas = tuple(read_delta(Fraction(text)) for text in head.deltas)
    except (ConfigurationError, ZeroDivisionError) as error:
        raise PatternFileRejected(path, str(error)) from None
    return PatternSet(head.model, deltas, head.members, head.granularity, totals, tuple(layers))


def _unpack(path: Path, name: str, arrays: Mapping[str, Array], neurons: int) -> Array:
    bits = np.unpackbits(arrays[name], axis=-1, bitorder="little")
    if bits[..., neurons:].any():
        raise PatternFileRejected(path, f"array '{name}' has bits beyond its neurons")
    # Zeros and ones as they are: a copy would be as large again.
    return bits[..., :neurons].view(bool)


def _heldout_from_arrays(
    path: Path, patterns: PatternSet, head: PatternHead, arrays: Mapping[str, Array]
) -> tuple[DeltaEvaluation, ...]:
    if head.heldout is None:
        return ()
    samples, followers = arrays["heldout.samples"], arrays["heldout.followers"]
    possible = (
        samples.min() >= 0
        and samples.max() <= MAX_SAMPLES
        and followers.min() >= 0
        and (followers <= samples[None, :, None]).all()
        and max(head.heldout.in_wrong + head.heldout.ambiguous) <= samples.sum()
    )
    if not possible:
        raise PatternFileRejected(path, "more held-out samples follow patterns than there are")
    conflicts = conflicting_pairs(patterns.states)
    present = int((patterns.totals > 0).sum())
    return tuple(
        DeltaEvaluation(
            delta=delta,
            followers=followers[number],
            predicted_followers=arrays["heldout.predicted"][number],
            samples=samples,
            agreement=arrays["heldout.agreement"][number],
            in_wrong=head.heldout.in_wrong[number],
            ambiguous=head.heldout.ambiguous[number],
            strays=(),
            conflicts=int(np.triu(conflicts[number], 1).sum()),
            pairs=present * (present - 1) // 2,
        )
        for number, delta in enumerate(patterns.deltas)
    )


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place or 'as a whole'}: {problem['msg'].removeprefix('Value error, ')}"
