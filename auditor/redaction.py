"""What of a traced completion may stand in a report, and the file that holds all of it.

Prompts and matched text are personal data until shown otherwise. What a run writes for
reading keeps at most `MOST_CHARACTERS` of each span and of each text between spans; the
runner sees to it, whatever a check returns. A check that is asked to keep everything
stores `full_record` in the run's evidence folder and names the file in `blob`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

from pydantic import ValidationError

from auditor.errors import ConfigurationError
from auditor.findings import Answer, Evidence, TextPiece, TracedTextEvidence

MOST_CHARACTERS: Final = 80
MEDIA_TYPE: Final = "application/json"


def redact(evidence: TracedTextEvidence, most: int = MOST_CHARACTERS) -> TracedTextEvidence:
    """The record with at most `most` characters of the prompt, each span and each text between.

    Of a longer text its start and end stay, of a longer prompt its start; the rest is
    counted in `hidden`. Scores, digests and names stay as they are.

    Laws: shown and hidden characters together are as many as before; redacting again
    with the same `most` changes nothing.

    Raises:
        ConfigurationError: `most` is negative.
    """
    if most < 0:
        raise ConfigurationError(f"at most {most} characters of a text; give 0 or more")
    runs = (tuple(run) for _, run in groupby(evidence.pieces, key=attrgetter("span")))
    prompt = evidence.prompt[:most]
    return evidence.model_copy(
        update={
            "prompt": prompt,
            "prompt_hidden": evidence.prompt_hidden + len(evidence.prompt) - len(prompt),
            "pieces": tuple(piece for run in runs for piece in _shorten(run, most)),
        }
    )


def redact_answer(answer: Answer, most: int = MOST_CHARACTERS) -> Answer:
    """The answer with every traced completion in it redacted."""

    def change(evidence: Evidence) -> Evidence:
        return redact(evidence, most) if isinstance(evidence, TracedTextEvidence) else evidence

    return answer.with_evidence(change)


def full_record(evidence: TracedTextEvidence) -> bytes:
    """The record as JSON for the evidence folder; it names no file, least of all itself."""
    plain = evidence.model_copy(update={"blob": None}).model_dump(mode="json")
    return (json.dumps(plain, sort_keys=True, indent=1, allow_nan=False) + "\n").encode("ascii")


def read_full_record(content: bytes) -> TracedTextEvidence:
    """The record that `full_record` wrote.

    Raises:
        ConfigurationError: The bytes are no such record.
    """
    try:
        return TracedTextEvidence.model_validate(json.loads(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "its top"
        problem = f"at {where}: {first['msg']}"
    except RecursionError:
        problem = "nested too deeply"
    except ValueError:
        problem = "not valid JSON"
    raise ConfigurationError(f"no record of a traced text: {problem}")


def _shorten(run: Sequence[TextPiece], most: int) -> Sequence[TextPiece]:
    """Pieces of one span, or of no span, that follow each other, with the middle left out."""
    if sum(len(piece.text) for piece in run) <= most:
        return run
    first, last = run[0], run[-1]
    total = sum(len(piece.text) + piece.hidden for piece in run)
    front = first.text[: most - most // 2]
    # One piece is longer than both its ends together; the ends of two do not overlap anyway.
    back = last.text[max(0, len(last.text) - most // 2) :]
    if not back:
        return (TextPiece(text=front, hidden=total - len(front), span=first.span),)
    between = total - len(front) - len(back) - last.hidden
    return (
        TextPiece(text=front, hidden=between, span=first.span),
        TextPiece(text=back, hidden=last.hidden, span=first.span),
    )
