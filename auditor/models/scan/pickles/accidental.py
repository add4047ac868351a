"""Bytes that happen to begin like a pickle, and pickles that look like something else.

Pickles of protocol 0 are printable: a list of words (`cat`, `dog`) begins like the import of a
module, and one header of weights in forty begins with an opcode. What counts is whether an
unpickler would call something, or come to the end, before it gives up.
"""

from __future__ import annotations

import io
import sys

from auditor.models.file_format import HEAD_BYTES, is_plain
from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.pickles.trace import PickleTrace
from auditor.models.scan.pickles.walker import PickleWalker


def only_words(head: bytes, *, whole: bool) -> bool:
    """Whether a text that begins like a pickle breaks off before anything could be called.

    Args:
        head: The beginning of the text.
        whole: Whether that is all of it.
    """
    trace = _trace(head)
    cut = not whole and (trace.broken_at or 0) >= len(head)
    if cut or not is_plain(head):
        return False
    modules = {found.module.partition(".")[0] for found in trace.imports}
    return not (_runs(trace, head) or modules & sys.stdlib_module_names)


def runs_past(head: bytes) -> bool:
    """Whether bytes that an unpickler could follow to their end say nothing yet."""
    trace = _trace(head)
    return trace.ended is not None and trace.ended.rule == "truncated" and not trace.structure


def runs_as_pickle(source: ByteSource, limits: ScanLimits) -> bool:
    """Whether an unpickler would call something, or come to the end, before it gives up.

    Args:
        source: The bytes, at their beginning; read as far as an unpickler would.
        limits: How many opcodes are followed.
    """
    head = source.peek(HEAD_BYTES)
    return _runs(PickleWalker(source, limits).walk(), head)


def _runs(trace: PickleTrace, head: bytes) -> bool:
    broken = trace.broken_at
    if broken is None:
        return True
    if broken >= len(head):
        return trace.calls > 0
    before = _trace(head[:broken])
    # The opcode at which it breaks off may be a call that lacks its arguments.
    return before.calls > len(before.structure[:1])


def _trace(head: bytes) -> PickleTrace:
    return PickleWalker(ByteSource(io.BytesIO(head).read), ScanLimits()).walk()
