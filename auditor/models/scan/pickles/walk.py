"""What a stream of pickles would do if it were opened, from its opcodes; none of them runs.

A pickle is refused whatever it holds. The names that it imports beyond what plain tensors need
are named one by one, so that a reader can see whether it is an attack or an old file.
"""

from __future__ import annotations

import io
import re
import sys
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.decision import Content, Decision, Problem
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.pickles.imports import ALLOWED, describe_import
from auditor.models.scan.pickles.opcodes import CODES, LATEST_PROTOCOL
from auditor.models.scan.pickles.stack import Import
from auditor.models.scan.pickles.trace import Note, PickleTrace
from auditor.models.scan.pickles.walker import PickleWalker

_MOST_PROBLEMS: Final = 20
_MOST_SHOWN: Final = 10
_WAY_OUT: Final = "save the weights as safetensors where the model was trained"
_CONVERT: Final = (
    "write its weights as safetensors with 'auditor model convert', which does not run it"
)
_JOBLIB_ARRAY: Final = Import("joblib.numpy_pickle", "NumpyArrayWrapper")
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
_ENOUGH_OPCODES: Final = 100
_PROTO: Final = CODES["PROTO"]


@dataclass(frozen=True)
class PickleWalk:
    """The pickles of one stream.

    Attributes:
        trace: What they do together.
        pickles: How many there are.
        rest: Bytes behind the last pickle that are none, and not all zero.
        cut_frame: Byte at which a frame should end that the stream is too short for, or None.
    """

    trace: PickleTrace
    pickles: int
    rest: int = 0
    cut_frame: int | None = None


def walk_pickle(source: ByteSource, place: str, limits: ScanLimits) -> Content:
    """Judge a stream that holds pickles of any protocol; refused in any case.

    Args:
        source: The stream, read to its end.
        place: Prefix of the places, '' or `member 'x', `.
        limits: How many opcodes, and how long a name may be.

    Raises:
        OSError: The stream cannot be read.
    """
    walk = trace_pickles(source, limits)
    trace = walk.trace
    others = [*_imports(trace, place), *_structure(trace, place), *_endings(walk, place, limits)]
    way_out = _WAY_OUT if others or not trace.persistent else _CONVERT
    problems = [Problem("pickle-content", "a pickle, which runs code when it is opened",
                        place.removesuffix(", "), way_out), *others]  # fmt: skip
    facts = {
        "opcodes": str(trace.opcodes),
        "pickles": str(walk.pickles),
        "calls": str(trace.calls),
        "persistent_ids": str(trace.persistent),
        "imports": _joined(list(trace.imports)),
    }
    pickles = "1 pickle" if walk.pickles == 1 else f"{walk.pickles} pickles"
    parts: tuple[str, ...] = (f"opcodes of {pickles}",)
    if walk.rest:
        rest = f"{walk.rest} bytes after the last pickle, not looked at"
        parts, facts["rest"] = (*parts, rest), rest
    return Content("pickle", tuple(problems), parts, MappingProxyType(facts))


def trace_pickles(source: ByteSource, limits: ScanLimits) -> PickleWalk:
    """Walk the pickles of a stream, one behind the other.

    What follows a pickle is one if it ends like one, or imports something before it breaks off;
    it is raw data otherwise, as in the files that torch wrote before version 1.6.
    """
    walker = PickleWalker(source, limits)
    total, pickles, rest = walker.walk(), 1, 0
    frame_end = walker.frame_end
    while total.whole and not walker.at_end():
        if pickles == limits.members:
            total.over = True
            break
        trace = walker.walk()
        if trace.ended is not None and not _imports_first(trace):
            rest = walker.rest_from(trace.start)
            break
        frame_end, pickles = walker.frame_end, pickles + 1
        total.absorb(trace)
    is_cut = total.whole and source.size is None and frame_end > source.position
    return PickleWalk(total, pickles, rest, frame_end if is_cut else None)


def _imports_first(trace: PickleTrace) -> bool:
    # Unpicklers differ in what they give up on: that in Python takes a frame that is cut off, and
    # looks up the class of INST before it misses the mark.
    if any(_IDENTIFIER.fullmatch(found.module) for found in trace.imports):
        return True
    broken = trace.broken_at
    named = [at for found, at in trace.imports.items() if "".join(found).isprintable()]
    first = min([*named, *(note.offset for note in trace.hidden[:1])], default=None)
    return first is not None and (broken is None or first < broken)


def begins_with_pickle(head: bytes) -> bool:
    """Whether the first bytes of a file begin a pickle of any protocol, complete or cut off.

    Texts and other data happen to begin with opcodes too. They are told apart by what an
    unpickler could not go on with: a name that is none, or more values taken than there are.
    """
    if len(head) >= 2 and head[0] == _PROTO and head[1] <= LATEST_PROTOCOL:
        return True
    trace = PickleWalker(ByteSource(io.BytesIO(head).read), ScanLimits()).walk()
    broken = len(head) + 1 if trace.broken_at is None else trace.broken_at
    first = next(iter(trace.imports.items()), None)
    if first is not None and first[1] < broken:
        # A module of Python's own is imported before it turns out that it has no such name.
        is_own = first[0].module.partition(".")[0] in sys.stdlib_module_names
        return is_own or all(_IDENTIFIER.fullmatch(word) for word in first[0])
    if trace.structure:
        return False
    if trace.ended is None:
        return trace.opcodes > 1
    # A run of one letter only pushes.
    is_long = trace.opcodes >= _ENOUGH_OPCODES and trace.opcodes > trace.left
    return trace.ended.rule == "truncated" and is_long


def _imports(trace: PickleTrace, place: str) -> list[Problem]:
    notes = [Note(at, describe_import(found)) for found, at in trace.imports.items()
             if found not in ALLOWED]  # fmt: skip
    beyond = trace.unlisted + trace.hidden_count - len(trace.hidden)
    return _listed("pickle-import", notes + trace.hidden, beyond, place)


def _structure(trace: PickleTrace, place: str) -> list[Problem]:
    beyond = trace.structure_count - len(trace.structure)
    return _listed("pickle-structure", trace.structure, beyond, place)


def _listed(rule: str, notes: list[Note], beyond: int, place: str) -> list[Problem]:
    """The first problems, and one line for those beyond."""
    notes = sorted(notes)
    shown, beyond = notes[:_MOST_PROBLEMS], beyond + len(notes[_MOST_PROBLEMS:])
    problems = [Problem(rule, note.text, f"{place}byte {note.offset}", _WAY_OUT) for note in shown]
    if beyond:
        text = f"{beyond} more of this kind, which are not listed"
        problems.append(Problem(rule, text, place.removesuffix(", "), _WAY_OUT))
    return problems


def _endings(walk: PickleWalk, place: str, limits: ScanLimits) -> list[Problem]:
    last, found = walk.trace, list[Problem]()
    where = f"{place}byte {last.end}"
    if last.ended is not None and last.ended.rule == "malformed" and _JOBLIB_ARRAY in last.imports:
        found.append(Problem(
            "unknown-format", "joblib keeps the numbers of arrays inside the pickle; what follows "
            "the first of them is not looked at", where, _WAY_OUT, Decision.INCONCLUSIVE,
        ))  # fmt: skip
    elif last.ended is not None:
        found.append(Problem(last.ended.rule, last.ended.problem, where, _WAY_OUT))
    if last.over:
        text = f"more than {limits.opcodes} opcodes or {limits.members} pickles"
        text = f"{text}; what follows is not looked at"
        found.append(Problem("field-limit", text, where, _WAY_OUT, Decision.INCONCLUSIVE))
    if walk.cut_frame is not None:
        text = f"the stream ends inside a frame, which should end at byte {walk.cut_frame}"
        found.append(Problem("truncated", text, where, _WAY_OUT))
    return found


def _joined(names: list[Import]) -> str:
    """The first names, each shortened, and how many more there are."""
    shown = [".".join(name)[:80] for name in names[:_MOST_SHOWN]]
    more = [f"and {len(names) - len(shown)} more"] if len(names) > len(shown) else []
    return ", ".join(shown + more) or "none"
