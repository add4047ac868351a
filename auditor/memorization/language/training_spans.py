"""Spans of training text as token ids: a prefix to ask with, and the continuation that is true.

A file of them is JSON lines. Each object has one of `text` (its first tokens are taken), `document`
(a place in it is drawn by the seed) and `tokens` (ids of the model's tokenizer), and may have
`id`, `group` (what hangs together, for intervals) and `copies` (how often it stands in the
training text).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from auditor.errors import ConfigurationError, InvalidText, NothingToAudit
from auditor.json_lines import JsonLine, read_json_lines
from auditor.language.text_model import TextModel

CONTENTS: Final = ("text", "document", "tokens")
FIELDS: Final = frozenset({*CONTENTS, "id", "group", "copies"})


@dataclass(frozen=True)
class SpanSource:
    """A text that one span is taken from.

    Attributes:
        name: What reports call it.
        group: What hangs together with it, such as other spans of its document.
        place: File and line, or where else it is from, for messages.
        content: The text, or token ids.
        drawn: Whether the span's place in it is drawn, or its beginning is taken.
        copies: How often it stands in the training text; None if that is not known.
    """

    name: str
    group: str
    place: str
    content: str | tuple[int, ...]
    drawn: bool = False
    copies: int | None = None


@dataclass(frozen=True)
class TrainingSpan:
    """A prefix and its true continuation.

    Attributes:
        name: What reports call it.
        group: What hangs together with it.
        prefix: Token ids before the continuation, the longest prefix that is asked with.
        continuation: Token ids that follow.
        copies: How often it stands in the training text; None if that is not known.
    """

    name: str
    group: str
    prefix: tuple[int, ...]
    continuation: tuple[int, ...]
    copies: int | None = None

    def last(self, count: int) -> tuple[int, ...]:
        """The last so many tokens of the prefix."""
        return self.prefix[len(self.prefix) - count :]


@dataclass(frozen=True)
class SpanShape:
    """How many tokens a span has.

    Attributes:
        prefix: Of its prefix, at least 1.
        continuation: Of its continuation, at least 1.
    """

    prefix: int
    continuation: int

    @property
    def tokens(self) -> int:
        """Of both together."""
        return self.prefix + self.continuation


def read_span_sources(path: Path) -> list[SpanSource]:
    """The texts of a file, in order.

    Raises:
        FileMissing: There is no such file.
        InvalidText: A line is no object of the fields above.
        NothingToAudit: There is none.
    """
    found = [_source(line) for line in read_json_lines(path, "training spans")]
    if not found:
        raise NothingToAudit(f"{path} holds no span; give one JSON object a line")
    return found


def _source(line: JsonLine) -> SpanSource:
    if unknown := sorted(set(line.fields) - FIELDS):
        raise InvalidText(
            line.place, f"unknown field '{unknown[0][:40]}'; known are {', '.join(sorted(FIELDS))}"
        )
    named = [name for name in CONTENTS if name in line.fields]
    if len(named) != 1:
        raise InvalidText(
            line.place, f"{' and '.join(named) or 'nothing'} of {', '.join(CONTENTS)}; give one"
        )
    content = _token_ids(line) if named == ["tokens"] else line.text(named[0])
    name = _name(line, "id") or f"line {line.number}"
    return SpanSource(
        name, _name(line, "group") or name, line.place, content, named == ["document"],
        _copies(line),
    )  # fmt: skip


def _token_ids(line: JsonLine) -> tuple[int, ...]:
    ids: Any = line.fields["tokens"]
    if not isinstance(ids, list) or not all(type(each) is int for each in ids):
        raise InvalidText(line.place, "tokens are no list of whole numbers; give token ids")
    return tuple(ids)


def _name(line: JsonLine, field: str) -> str:
    value = line.fields.get(field)
    if value is None or type(value) in (str, int):
        return "" if value is None else str(value)
    raise InvalidText(line.place, f"field '{field}' is no text; give a string or a whole number")


def _copies(line: JsonLine) -> int | None:
    value = line.fields.get("copies")
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise InvalidText(line.place, f"{value!r:.40} copies; give a whole number, 0 or more")
    return value


def require_context(model: TextModel, shape: SpanShape) -> None:
    """Refuse spans that no prompt of the model can hold.

    Raises:
        ConfigurationError: Prefix and continuation are too long for it.
    """
    before = 0 if model.start is None else 1
    if before + shape.tokens > model.max_tokens:
        raise ConfigurationError(
            f"a prefix of {shape.prefix} tokens and a continuation of {shape.continuation} need "
            f"{before + shape.tokens}, the model sees {model.max_tokens}; shorten one of them"
        )


def cut_spans(
    model: TextModel, sources: Sequence[SpanSource], shape: SpanShape, seed: int = 0
) -> list[TrainingSpan]:
    """One span of each text, in order.

    Args:
        model: Whose tokenizer cuts them.
        sources: The texts.
        shape: Tokens of each span.
        seed: Of places that are drawn, together with the content.

    Raises:
        ConfigurationError: One is too short, holds ids that the model does not know, or does not
            come back from its tokens as the same text (but for white space); names the place.
    """
    require_context(model, shape)
    return [_cut(model, source, shape, seed) for source in sources]


def span_tokens(model: TextModel, source: SpanSource) -> list[int]:
    """Token ids of a text as it stands within a document, with nothing before it.

    Raises:
        ConfigurationError: As `cut_spans`.
    """
    if not isinstance(source.content, str):
        ids = list(source.content)
        if ids and not 0 <= min(ids) <= max(ids) < model.network.vocabulary:
            raise ConfigurationError(
                f"{source.place} holds a token that the model does not know; give ids from 0 to "
                f"{model.network.vocabulary - 1}"
            )
        return ids
    ids = model.encode(source.content)
    ids = ids[1:] if model.start is not None and ids[:1] == [model.start] else ids
    if model.decode(ids).split() != source.content.split():
        raise ConfigurationError(
            f"{source.place} is another text after the tokenizer; give it as token ids in a field "
            "'tokens', or write it as the tokenizer does"
        )
    return ids


def _cut(model: TextModel, source: SpanSource, shape: SpanShape, seed: int) -> TrainingSpan:
    ids = span_tokens(model, source)
    if len(ids) < shape.tokens:
        raise ConfigurationError(
            f"{source.place} has {len(ids)} tokens, and a prefix of {shape.prefix} with a "
            f"continuation of {shape.continuation} has {shape.tokens}; give a longer text, or "
            "shorten prefix or continuation"
        )
    begin = 0
    if source.drawn:
        key = hashlib.sha256(f"{seed}:{ids}".encode()).digest()
        source_of_places = np.random.default_rng(int.from_bytes(key))
        begin = int(source_of_places.integers(len(ids) - shape.tokens + 1))
    middle, end = begin + shape.prefix, begin + shape.tokens
    return TrainingSpan(
        source.name, source.group, tuple(ids[begin:middle]), tuple(ids[middle:end]), source.copies
    )
