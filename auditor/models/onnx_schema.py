"""The messages of an ONNX file: which fields exist, and what each one holds.

Written down from the published onnx.proto (IR version 13) so that the pre-flight
walk needs no generated parser. A field that is not listed is refused: the walk
knows everything it lets through.

Each line reads `number name kind`; `*` after the name marks a repeated field.
Kinds in lower case are values, kinds in upper case letters first are messages:

- `int`: varint; `ints`: varints whose values are kept; `count`: varints of which
  only the number is kept;
- `f32`, `f64`: four or eight bytes each, counted;
- `name`: short text without control characters; `text`: any UTF-8 text;
- `bytes`: anything, only its length is kept.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_TABLE = """
Model
  1 ir_version int
  2 producer_name name
  3 producer_version name
  4 domain name
  5 model_version int
  6 doc_string text
  7 graph Graph
  8 opset_import* OperatorSet
  14 metadata_props* Entry
  20 training_info* Forbidden
  25 functions* Forbidden
  26 configuration* Device
OperatorSet
  1 domain name
  2 version int
Entry
  1 key name
  2 value text
Device
  1 name name
  2 num_devices int
  3 device* name
Graph
  1 node* Node
  2 name text
  5 initializer* Tensor
  10 doc_string text
  11 input* ValueInfo
  12 output* ValueInfo
  13 value_info* ValueInfo
  14 quantization_annotation* Annotation
  15 sparse_initializer* Forbidden
  16 metadata_props* Entry
Annotation
  1 tensor_name name
  2 quant_parameter_tensor_names* Entry
Node
  1 input* name
  2 output* name
  3 name name
  4 op_type name
  5 attribute* Attribute
  6 doc_string text
  7 domain name
  8 overload name
  9 metadata_props* Entry
  10 device_configurations* Forbidden
Attribute
  1 name name
  2 f f32
  3 i int
  4 s bytes
  5 t Tensor
  6 g Graph
  7 floats* f32
  8 ints* count
  9 strings* bytes
  10 tensors* Tensor
  11 graphs* Graph
  13 doc_string text
  14 tp Type
  15 type_protos* Type
  20 type int
  21 ref_attr_name name
  22 sparse_tensor Forbidden
  23 sparse_tensors* Forbidden
Tensor
  1 dims* ints
  2 data_type int
  3 segment Forbidden
  4 float_data* f32
  5 int32_data* count
  6 string_data* bytes
  7 int64_data* count
  8 name name
  9 raw_data bytes
  10 double_data* f64
  11 uint64_data* count
  12 doc_string text
  13 external_data* Entry
  14 data_location int
  16 metadata_props* Entry
ValueInfo
  1 name name
  2 type Type
  3 doc_string text
  4 metadata_props* Entry
Type
  1 tensor_type TensorType
  4 sequence_type ElementType
  5 map_type MapType
  6 denotation name
  7 opaque_type Forbidden
  8 sparse_tensor_type TensorType
  9 optional_type ElementType
TensorType
  1 elem_type int
  2 shape Shape
ElementType
  1 elem_type Type
MapType
  1 key_type int
  2 value_type Type
Shape
  1 dim* Dimension
Dimension
  1 dim_value int
  2 dim_param name
  3 denotation name
"""


class FieldRule(NamedTuple):
    """What one field of a message may hold."""

    name: str
    kind: str
    repeated: bool

    @property
    def is_message(self) -> bool:
        """Whether the value is a message of its own."""
        return self.kind[0].isupper()


def _parse_table(table: str) -> dict[str, dict[int, FieldRule]]:
    messages: dict[str, dict[int, FieldRule]] = {}
    fields: dict[int, FieldRule] = {}
    for line in table.strip().splitlines():
        if not line.startswith(" "):
            fields = messages.setdefault(line.strip(), {})
            continue
        number, name, kind = line.split()
        fields[int(number)] = FieldRule(name.rstrip("*"), kind, name.endswith("*"))
    return messages


MESSAGES: Final = _parse_table(_TABLE)

# Bits of one element by TensorProto.DataType; strings have no fixed size and the
# 6-bit floats no settled packing, so neither is listed.
ELEMENT_BITS: Final[dict[int, int]] = {
    1: 32,  # float32
    2: 8,  # uint8
    3: 8,  # int8
    4: 16,  # uint16
    5: 16,  # int16
    6: 32,  # int32
    7: 64,  # int64
    9: 8,  # bool
    10: 16,  # float16
    11: 64,  # float64
    12: 32,  # uint32
    13: 64,  # uint64
    14: 64,  # complex64
    15: 128,  # complex128
    16: 16,  # bfloat16
    17: 8,  # float8e4m3fn
    18: 8,  # float8e4m3fnuz
    19: 8,  # float8e5m2
    20: 8,  # float8e5m2fnuz
    21: 4,  # uint4
    22: 4,  # int4
    23: 4,  # float4e2m1
    24: 8,  # float8e8m0
    25: 2,  # uint2
    26: 2,  # int2
}
STRING_TYPE: Final = 8

# The typed field that holds a data type, and how many of its entries one element takes.
TYPED_FIELD: Final[dict[int, tuple[str, int]]] = {
    1: ("float_data", 1),
    14: ("float_data", 2),
    11: ("double_data", 1),
    15: ("double_data", 2),
    7: ("int64_data", 1),
    12: ("uint64_data", 1),
    13: ("uint64_data", 1),
    8: ("string_data", 1),
}
DEFAULT_TYPED_FIELD: Final = ("int32_data", 1)

ALLOWED_DOMAINS: Final = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
# onnxruntime lists these in every model it saves; nodes of them are refused all the same.
IMPORTABLE_DOMAINS: Final = ALLOWED_DOMAINS | {
    "ai.onnx.preview",
    "ai.onnx.preview.training",
    "ai.onnx.training",
    "com.microsoft.experimental",
    "com.microsoft.nchwc",
    "org.pytorch.aten",
}
EXTERNAL_KEYS: Final = frozenset({"location", "offset", "length", "checksum"})
