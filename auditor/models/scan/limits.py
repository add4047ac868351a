"""How much a scan looks at before it stops and says so."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ScanLimits:
    """Upper bounds for one scan; each is checked before the memory or time is spent.

    Attributes:
        files: Files below one folder.
        depth: Folders inside folders.
        archive_depth: Archives and compressed streams inside each other.
        members: Members of one archive.
        member_name_bytes: The name of a member.
        inflated_bytes: All members of one archive together, inflated.
        ratio: Inflated to stored bytes, above `ratio_free_bytes`.
        ratio_free_bytes: Inflated bytes that are let through whatever the ratio.
        text_bytes: A text that is looked at as a whole: configuration, template, YAML.
        graph_bytes: An ONNX graph inside an archive, which is read into memory.
        opcodes: Opcodes of the pickles in one stream.
        pickle_strings: Characters of one name that a pickle imports.
        key_values: Metadata entries of a GGUF file.
        tensors: Tensors of a GGUF file.
        gguf_values: Texts and arrays inside all arrays of a GGUF file's metadata together.
    """

    files: int = 100_000
    depth: int = 32
    archive_depth: int = 3
    members: int = 100_000
    member_name_bytes: int = 4096
    inflated_bytes: int = 2**36
    ratio: int = 200
    ratio_free_bytes: int = 2**26
    text_bytes: int = 2**26
    graph_bytes: int = 2**28
    opcodes: int = 20_000_000
    pickle_strings: int = 1024
    key_values: int = 100_000
    tensors: int = 500_000
    gguf_values: int = 10_000_000
