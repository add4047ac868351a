"""How much a model file may ask for before it is refused.

Every number is checked before the memory or the time it stands for is spent.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Upper bounds for one model.

    Attributes:
        file_bytes: Size of the model file; protobuf itself ends at 2 GiB.
        inflated_bytes: Size of a gzip-compressed model once inflated.
        inflation_ratio: Inflated to stored bytes, once `inflation_free_bytes` are inflated.
        inflation_free_bytes: Inflated bytes that are let through whatever their ratio.
        external_bytes: All external data files together; they are read into memory.
        tensor_bytes: One tensor, from its dimensions and type.
        nodes: Nodes in all graphs together.
        initialisers: Initialisers in all graphs together.
        fields: Wire fields in the whole file, which bounds the time of the walk.
        graph_depth: Graphs inside graphs (If, Loop, Scan).
        message_depth: Messages inside messages of any kind.
        rank: Axes of one tensor.
        name_bytes: A name of a node, tensor, graph, operator or domain.
        text_bytes: A documentation string or metadata value.
    """

    file_bytes: int = 2**31 - 1
    inflated_bytes: int = 2**31 - 1
    inflation_ratio: int = 200
    inflation_free_bytes: int = 2**26
    external_bytes: int = 2**31 - 1
    tensor_bytes: int = 2**31 - 1
    nodes: int = 500_000
    initialisers: int = 500_000
    fields: int = 10_000_000
    graph_depth: int = 8
    message_depth: int = 64
    rank: int = 32
    name_bytes: int = 16 * 1024
    text_bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True)
class FolderLimits:
    """Upper bounds for one model that is a folder.

    Attributes:
        files: Files that are not hidden.
        depth: Folders inside folders, the model's own counted.
        weight_bytes: All weights together; they are hashed and not held in memory.
        other_bytes: Any other file; the largest are tokenizers.
        config_bytes: A file whose name ends in `config.json`.
        header_bytes: The header of a safetensors file.
        json_values: Values in one JSON text, which bounds the memory it is parsed into.
        json_depth: Nesting of JSON.
        tensors: Tensors in one safetensors file.
        rank: Axes of one tensor.
        name_characters: A tensor's name.
    """

    files: int = 10_000
    depth: int = 4
    weight_bytes: int = 2**42
    other_bytes: int = 2**28
    config_bytes: int = 2**24
    header_bytes: int = 2**25
    json_values: int = 2_000_000
    json_depth: int = 64
    tensors: int = 500_000
    rank: int = 32
    name_characters: int = 1024
