"""Walking the bytes of an ONNX file before any library parses them.

The walk checks structure (every field known, every length inside its message, no
singular field twice), limits (nodes, initialisers, nesting, names), and each
tensor's data against its dimensions, in unbounded integers and before anything of
that size is allocated. It collects the references to external data; whether those
files may be read is decided in `auditor.models.external_data`.

It does not check that the graph makes sense: that is the work of the ONNX checker,
which runs after.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Final

from auditor.errors import RefusedModel
from auditor.models.external_data import ExternalTensor, parse_external_entries
from auditor.models.limits import Limits
from auditor.models.onnx_schema import (
    ALLOWED_DOMAINS,
    DEFAULT_TYPED_FIELD,
    ELEMENT_BITS,
    IMPORTABLE_DOMAINS,
    MESSAGES,
    STRING_TYPE,
    TYPED_FIELD,
    FieldRule,
)
from auditor.models.protobuf_wire import (
    MalformedWire,
    WireField,
    WireType,
    as_signed,
    count_packed_varints,
    iterate_fields,
    read_packed_varints,
)

_WIRE_TYPES: Final = {
    "int": (WireType.VARINT,),
    "ints": (WireType.VARINT, WireType.LENGTH),
    "count": (WireType.VARINT, WireType.LENGTH),
    "f32": (WireType.FIXED32, WireType.LENGTH),
    "f64": (WireType.FIXED64, WireType.LENGTH),
}
_FORBIDDEN: Final = {
    "training_info": ("training-info", "export the model for inference only"),
    "functions": (
        "local-function",
        "inline the functions first (onnx.inliner.inline_local_functions)",
    ),
    "opaque_type": ("opaque-type", "use tensor types only"),
    "segment": ("segmented-tensor", "store the tensor in one piece"),
    "device_configurations": ("device-configuration", "export without sharding"),
}
_SPARSE: Final = ("sparse-tensor", "store the tensor densely")
_TYPED_FIELDS: Final = (
    "float_data",
    "int32_data",
    "string_data",
    "int64_data",
    "double_data",
    "uint64_data",
)
_EXTERNAL: Final = 1
# Messages whose content the rules below read; all others are only checked.
_KEPT: Final = frozenset({"Entry"})


@dataclass
class MessageContent:
    """What the walk keeps of one message: values by field name, never bulk data."""

    numbers: dict[str, list[int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    entries: list[tuple[str, str]] = field(default_factory=list)

    def number(self, name: str, default: int = 0) -> int:
        """The signed value of a singular number."""
        return as_signed(self.numbers[name][0]) if name in self.numbers else default


@dataclass
class WalkSummary:
    """What a walk found: counts, and references to data outside the file."""

    nodes: int = 0
    initialisers: int = 0
    fields: int = 0
    has_graph: bool = False
    operator_sets: int = 0
    ir_version: int = 0
    external: list[ExternalTensor] = field(default_factory=list)


def walk_model(path: Path, content: bytes, limits: Limits) -> WalkSummary:
    """Check an uncompressed ONNX file held in memory.

    Args:
        path: Named in the error, not opened.
        content: The whole file.
        limits: See `Limits`.

    Raises:
        RefusedModel: With the rule that the file breaks and the place.
    """
    walk = _Walk(path, content, limits)
    try:
        model = walk.message("Model", 0, len(content), 0, 0)
    except MalformedWire as error:
        rule = "truncated" if error.truncated else "malformed"
        raise walk.refusal(
            rule, error.problem, error.offset, "write the file again with its own exporter"
        ) from error
    if not walk.summary.has_graph:
        raise walk.refusal(
            "not-a-model", "no graph in the file", None, "give the exported ONNX model"
        )
    if not walk.summary.operator_sets:  # they come last: a file cut between fields has none
        raise walk.refusal(
            "truncated", "no operator set is named", len(content), "fetch the file again"
        )
    walk.summary.ir_version = model.number("ir_version")
    return walk.summary


class _Walk:
    """One pass over one file."""

    def __init__(self, path: Path, content: bytes, limits: Limits) -> None:
        self.path, self.content, self.limits = path, content, limits
        self.summary = WalkSummary()

    def refusal(self, rule: str, problem: str, offset: int | None, way_out: str) -> RefusedModel:
        place = "" if offset is None else f"byte {offset}"
        return RefusedModel(self.path, rule, problem, place=place, way_out=way_out)

    def message(self, kind: str, start: int, end: int, depth: int, graphs: int) -> MessageContent:
        """Check one message and everything in it."""
        graphs += kind == "Graph"
        if depth > self.limits.message_depth or graphs > self.limits.graph_depth + 1:
            raise self.refusal(
                "nesting-limit",
                f"messages nested deeper than {self.limits.message_depth} or graphs deeper "
                f"than {self.limits.graph_depth}",
                start,
                "flatten the model's subgraphs",
            )
        rules, kept = MESSAGES[kind], MessageContent()
        seen: set[int] = set()
        for wire in iterate_fields(self.content, start, end):
            rule = self._rule_for(kind, rules, wire, seen)
            if rule.is_message:
                self._count(rule, wire)
                inner = self.message(rule.kind, wire.start, wire.end, depth + 1, graphs)
                if rule.kind in _KEPT:
                    entry = (inner.texts.get("key", ""), inner.texts.get("value", ""))
                    kept.entries += [entry] if rule.name == "external_data" else []
            else:
                self._value(rule, wire, kept)
        self._check_content(kind, kept, start)
        return kept

    def _rule_for(
        self, kind: str, rules: dict[int, FieldRule], wire: WireField, seen: set[int]
    ) -> FieldRule:
        self.summary.fields += 1
        if self.summary.fields > self.limits.fields:
            raise self.refusal(
                "field-limit",
                f"more than {self.limits.fields} fields",
                wire.offset,
                "raise the limit only for a file you trust",
            )
        rule = rules.get(wire.number)
        if rule is None:
            raise self.refusal(
                "unknown-field",
                f"{kind} has no field {wire.number}",
                wire.offset,
                "export for an ONNX version this tool knows",
            )
        if rule.kind == "Forbidden":
            name, way_out = _FORBIDDEN.get(rule.name, _SPARSE)
            raise self.refusal(name, f"{kind}.{rule.name} is not read here", wire.offset, way_out)
        if not rule.repeated and wire.number in seen:
            raise self.refusal(
                "duplicate-field",
                f"{kind}.{rule.name} occurs twice; readers disagree on which one counts",
                wire.offset,
                "write the file again with its own exporter",
            )
        seen.add(wire.number)
        if wire.wire_type not in _WIRE_TYPES.get(rule.kind, (WireType.LENGTH,)) or (
            wire.wire_type is WireType.LENGTH and rule.kind == "f32" and not rule.repeated
        ):
            raise self.refusal(
                "malformed",
                f"{kind}.{rule.name} has wire type {wire.wire_type.name}",
                wire.offset,
                "write the file again with its own exporter",
            )
        return rule

    def _count(self, rule: FieldRule, wire: WireField) -> None:
        if rule.kind == "Node":
            self.summary.nodes += 1
            if self.summary.nodes > self.limits.nodes:
                raise self.refusal(
                    "node-limit",
                    f"more than {self.limits.nodes} nodes",
                    wire.offset,
                    "split the model",
                )
        elif rule.name == "initializer":
            self.summary.initialisers += 1
            if self.summary.initialisers > self.limits.initialisers:
                raise self.refusal(
                    "initialiser-limit",
                    f"more than {self.limits.initialisers} initialisers",
                    wire.offset,
                    "split the model",
                )
        elif rule.kind == "Graph":
            self.summary.has_graph = True
        elif rule.name == "opset_import":
            self.summary.operator_sets += 1

    def _value(self, rule: FieldRule, wire: WireField, kept: MessageContent) -> None:
        length = wire.end - wire.start
        if rule.kind in ("name", "text"):
            kept.texts[rule.name] = self._text(rule, wire)
        elif rule.kind == "int":
            kept.numbers.setdefault(rule.name, []).append(wire.value)
        elif rule.kind == "ints":
            self._numbers(rule, wire, kept)
        elif rule.kind == "bytes":
            kept.counts[rule.name] = kept.counts.get(rule.name, 0) + 1
            kept.lengths[rule.name] = length
        else:
            kept.counts[rule.name] = kept.counts.get(rule.name, 0) + self._elements(rule, wire)

    def _elements(self, rule: FieldRule, wire: WireField) -> int:
        if wire.wire_type is not WireType.LENGTH:
            return 1
        if rule.kind == "count":
            return count_packed_varints(self.content, wire.start, wire.end)
        size = 4 if rule.kind == "f32" else 8
        count, rest = divmod(wire.end - wire.start, size)
        if rest:
            raise MalformedWire(wire.start, f"{rest} bytes left over in {rule.name}")
        return count

    def _numbers(self, rule: FieldRule, wire: WireField, kept: MessageContent) -> None:
        values = kept.numbers.setdefault(rule.name, [])
        if wire.wire_type is WireType.VARINT:
            values.append(wire.value)
        elif count_packed_varints(self.content, wire.start, wire.end) <= self.limits.rank:
            values.extend(read_packed_varints(self.content, wire.start, wire.end))
        else:
            values.extend([0] * (self.limits.rank + 1))  # refused as a rank, below

    def _text(self, rule: FieldRule, wire: WireField) -> str:
        limit = self.limits.name_bytes if rule.kind == "name" else self.limits.text_bytes
        if wire.end - wire.start > limit:
            raise self.refusal(
                "text-limit",
                f"{rule.name} of {wire.end - wire.start} bytes; the limit is {limit}",
                wire.offset,
                "shorten it",
            )
        try:
            text = self.content[wire.start : wire.end].decode()
        except UnicodeDecodeError as error:
            raise self.refusal(
                "invalid-text", f"{rule.name} is not UTF-8", wire.offset, "rename it"
            ) from error
        if rule.kind == "name" and any(unicodedata.category(letter) == "Cc" for letter in text):
            raise self.refusal(
                "control-character",
                f"{rule.name} {text[:40]!r} holds a control character",
                wire.offset,
                "rename it",
            )
        return text

    def _check_content(self, kind: str, kept: MessageContent, start: int) -> None:
        if kind in ("Node", "OperatorSet"):
            domain = kept.texts.get("domain", "")
            if domain not in (ALLOWED_DOMAINS if kind == "Node" else IMPORTABLE_DOMAINS):
                where = kept.texts.get("name") or kept.texts.get("op_type") or "opset import"
                raise self.refusal(
                    "custom-domain",
                    f"operator domain {domain!r} ({where!r}) is not on the list "
                    f"{', '.join(sorted(repr(name) for name in ALLOWED_DOMAINS))}",
                    start,
                    "export with standard operators only",
                )
        elif kind == "Tensor":
            self._check_tensor(kept, start)

    def _check_tensor(self, kept: MessageContent, start: int) -> None:
        name = kept.texts.get("name", "")
        place = f"tensor {name!r}, byte {start}"

        def refuse(rule: str, problem: str, way_out: str) -> RefusedModel:
            return RefusedModel(self.path, rule, problem, place=place, way_out=way_out)

        dims = [as_signed(value) for value in kept.numbers.get("dims", [])]
        data_type = kept.number("data_type")
        if len(dims) > self.limits.rank or any(size < 0 for size in dims):
            raise refuse(
                "dims-range",
                f"dimensions {dims[:8]} are negative or more than {self.limits.rank}",
                "export the tensor with its real shape",
            )
        bits = ELEMENT_BITS.get(data_type)
        if bits is None and data_type != STRING_TYPE:
            raise refuse(
                "unknown-dtype", f"data type {data_type} is not known", "use a standard data type"
            )
        elements = prod(dims)
        size = (elements * (bits or 8) + 7) // 8
        if size > self.limits.tensor_bytes:
            raise refuse(
                "dims-overflow",
                f"dimensions {dims} ask for {size} bytes; the limit is {self.limits.tensor_bytes}",
                "export the tensor with its real shape",
            )
        if kept.number("data_location") not in (0, _EXTERNAL):
            raise refuse(
                "malformed",
                f"data location {kept.number('data_location')} does not exist",
                "write the file again with its own exporter",
            )
        if kept.number("data_location") == _EXTERNAL or kept.entries:
            self._add_external(kept, name, place, size, bits)
            return
        self._check_inline(kept, elements, size, data_type, refuse_place=place)

    def _add_external(
        self, kept: MessageContent, name: str, place: str, size: int, bits: int | None
    ) -> None:
        inline = "raw_data" in kept.counts or any(kept.counts.get(n) for n in _TYPED_FIELDS)
        if kept.number("data_location") != _EXTERNAL or inline or bits is None:
            raise RefusedModel(
                self.path,
                "external-data-ambiguous",
                "the tensor has external data and inline data, or strings outside the file",
                place=place,
                way_out="keep the data in one place",
            )
        self.summary.external.append(
            parse_external_entries(self.path, name, place, kept.entries, size)
        )

    def _check_inline(
        self, kept: MessageContent, elements: int, size: int, data_type: int, *, refuse_place: str
    ) -> None:
        field_name, per_element = TYPED_FIELD.get(data_type, DEFAULT_TYPED_FIELD)
        bits = ELEMENT_BITS.get(data_type, 8)
        present = [name for name in _TYPED_FIELDS if kept.counts.get(name)]
        expected = elements * per_element
        if bits < 8:  # several elements share one entry of int32_data
            expected = -(-elements * bits // 8)
        if "raw_data" in kept.lengths and not present and data_type != STRING_TYPE:
            fits = kept.lengths["raw_data"] == size
            found = f"{kept.lengths['raw_data']} bytes for {size}"
        elif "raw_data" not in kept.lengths and set(present) <= {field_name}:
            count = kept.counts.get(field_name, 0)
            fits, found = count == expected, f"{count} values in {field_name} for {expected}"
        else:
            fits, found = False, f"data in the fields {present}, raw data as well or of strings"
        if not fits:
            raise RefusedModel(
                self.path,
                "data-length",
                f"data differ from dimensions: {found}",
                place=refuse_place,
                way_out="export the tensor with its real shape",
            )
