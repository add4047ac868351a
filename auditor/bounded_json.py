"""JSON that a stranger may have written: how much it may ask for is known before it is parsed.

A value of two bytes becomes an object of a hundred, so bytes alone are no limit. Whoever reads a
file says what it is and which error to raise; here is only why the text is not taken.
"""

from __future__ import annotations

import json
from typing import Any, Final

MAX_VALUES: Final = 1_000_000
"""Most values of a text, unless its reader says otherwise."""
_STRUCTURE: Final = (b"{", b"[", b",")


class UnreadableJson(ValueError):
    """A text that is not taken; the message says why, and quotes no more than a name.

    Attributes:
        rule: Which limit or rule it is, in the words of `auditor.models.scan.rules`.
    """

    def __init__(self, problem: str, rule: str = "malformed") -> None:
        self.rule = rule
        super().__init__(problem)


def parse_json(
    content: bytes, *, most_values: int = MAX_VALUES, constants: bool = True, doubles: bool = False
) -> Any:
    """The value of a JSON text in UTF-8.

    Args:
        content: The text; its length has been limited.
        most_values: Signs that begin or part values may stand in it no more often, those within
            strings counted too.
        constants: Whether `NaN` and `Infinity`, which are not JSON, are taken.
        doubles: Whether a key may stand twice, the last one counting.

    Raises:
        UnreadableJson: It is not JSON, or asks for more than the limits allow.
    """
    if sum(content.count(sign) for sign in _STRUCTURE) > most_values:
        raise UnreadableJson(f"more than {most_values} values", "field-limit")
    try:
        return json.loads(
            content.decode(),
            object_pairs_hook=None if doubles else _without_doubles,
            parse_constant=None if constants else _no_constant,
        )
    except UnreadableJson:
        raise
    except UnicodeDecodeError as error:
        raise UnreadableJson(f"not UTF-8 at byte {error.start}", "invalid-text") from None
    except RecursionError:
        raise UnreadableJson("nested too deeply", "nesting-limit") from None
    except json.JSONDecodeError as error:
        raise UnreadableJson(f"not JSON: {error}") from None
    except ValueError:  # the only other: more digits than Python turns into a number
        raise UnreadableJson("a number has more digits than anyone needs") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise UnreadableJson(f"the key {double[:80]!r} stands twice", "duplicate-field")
    return found


def _no_constant(text: str) -> None:
    raise UnreadableJson(f"{text} is not JSON")
