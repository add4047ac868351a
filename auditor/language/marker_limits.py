"""Regular expressions of strangers: none whose search may take longer than anyone waits.

A repetition of what is itself repeated, or is one of several, can divide a text in more ways than
can be tried (`(a+)+`). It is recognised by its form; what the form admits may still be slow, but
markers are searched in a few hundred characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, Final

MOST_REPEATS: Final = 8
"""How often a group with choices in it may be repeated."""
_REPEATS: Final = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)


def compile_marker(marker: str) -> re.Pattern[str]:
    """A marker as a pattern.

    Raises:
        ValueError: It is no regular expression, or one whose search may never end.
    """
    try:
        parsed = _parser.parse(marker)
        pattern = re.compile(marker)
        costly = any(_has_choice(body) for body in _repeated(parsed))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"no regular expression: {error}") from None
    if costly:
        raise ValueError(
            "a repetition of what may be divided in several ways, such as (a+)+; repeat something "
            "simpler"
        )
    return pattern


def _repeated(parsed: Any) -> Iterator[Any]:
    """What is repeated more than a few times, at any depth."""
    for kind, argument in parsed:
        if kind in _REPEATS and argument[1] > MOST_REPEATS:
            yield argument[2]
        for part in _parts(argument):
            yield from _repeated(part)


def _has_choice(parsed: Any) -> bool:
    """Whether a text can fit in several ways."""
    return any(
        kind is _constants.BRANCH
        or (kind in _REPEATS and argument[0] != argument[1])
        or any(_has_choice(part) for part in _parts(argument))
        for kind, argument in parsed
    )


def _parts(argument: Any) -> Iterator[Any]:
    """The expressions within an argument of an operator."""
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for each in argument:
            yield from _parts(each)
