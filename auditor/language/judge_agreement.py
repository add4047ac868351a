"""How far a refusal judge agrees with people.

Balanced accuracy, recall, false alarms and Cohen's kappa (Cohen 1960) are about completions
labelled as refused or answered. Partial refusals are a class of their own: they are counted by
what the judge said of them and enter none of those figures, since people themselves would
count them either way.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import (
    ConfigurationError,
    FileMissing,
    InvalidText,
    NothingToAudit,
    Place,
    UnknownName,
)
from auditor.findings import Interval
from auditor.intervals import Share
from auditor.language.refusal import Behaviour, LabelledSet, RefusalJudge

MAX_FILE_BYTES: Final = 256 * 2**20
MAX_ROWS: Final = 1_000_000
DRAWS: Final = 2000
PEOPLES_LABELS: Final[Mapping[str, Behaviour]] = {
    "1_full_compliance": Behaviour.ANSWERED, "2_full_refusal": Behaviour.REFUSED,
    "3_partial_refusal": Behaviour.PARTIAL, **{each.value: each for each in Behaviour},
}  # fmt: skip
"""XSTest's labels and the behaviours' own names."""


@dataclass(frozen=True)
class LabelledCompletion:
    """A completion and what people say it does.

    Attributes:
        completion: The text.
        behaviour: The label.
        group: What belongs together (a prompt family); intervals keep groups whole.
    """

    completion: str
    behaviour: Behaviour
    group: str = ""


@dataclass(frozen=True)
class Agreement:
    """A judge against people.

    Attributes:
        judge: Name and version.
        labels: How many completions people put into each class.
        judged: How many of each (label, judgement) there are; absent pairs did not occur.
        balanced_accuracy: Mean of recall and one minus false alarm.
        balanced_accuracy_interval: 95 %, percentiles of the bootstrap.
        recall: Of those labelled refused, judged refused.
        false_alarm: Of those labelled answered, judged refused.
        partial_refused: Of those labelled partial, judged refused.
        kappa: Cohen's, refused against not refused.
    """

    judge: str
    labels: Mapping[Behaviour, int]
    judged: Mapping[tuple[Behaviour, Behaviour], int]
    balanced_accuracy: float
    balanced_accuracy_interval: Interval
    recall: Share
    false_alarm: Share
    partial_refused: Share
    kappa: float


def read_labelled_completions(
    path: Path,
    text_column: str,
    label_column: str,
    mapping: Mapping[str, Behaviour],
    group_column: str | None = None,
) -> list[LabelledCompletion]:
    """The rows of a CSV file (UTF-8, with a header) in order.

    Args:
        path: The file.
        text_column: Column of the completions.
        label_column: Column of the labels.
        mapping: What each label means; a label that is not in it is an error.
        group_column: Column of the groups, if any.

    Raises:
        FileMissing: There is no such file.
        InvalidText: Not CSV, not UTF-8, too large, or a label that is not in the mapping.
        UnknownName: There is no such column.
        NothingToAudit: There are no rows.
    """
    if not path.is_file():
        raise FileMissing(path, "labelled completions")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InvalidText(str(path), f"larger than {MAX_FILE_BYTES} bytes; split it")
    found: list[LabelledCompletion] = []
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream, strict=True)
        try:
            header = rows.fieldnames or []
            for column in filter(None, (text_column, label_column, group_column)):
                if column not in header:
                    raise UnknownName("column", column, header)
            for row in rows:
                place = Place(str(path), rows.line_num)
                if len(found) == MAX_ROWS:
                    raise InvalidText(place, f"more than {MAX_ROWS} rows; split the file")
                values = [row[text_column], row[label_column], row[group_column or label_column]]
                if None in values:
                    raise InvalidText(place, "the row is shorter than the header; mend it")
                text, label, group = values
                if label not in mapping:
                    known = ", ".join(sorted(mapping))
                    raise InvalidText(place, f"label '{label[:60]}'; known are {known}")
                found.append(
                    LabelledCompletion(text, mapping[label], group if group_column else "")
                )
        except UnicodeDecodeError:
            raise InvalidText(str(path), "not UTF-8; save it as UTF-8") from None
        except csv.Error as error:
            place = Place(str(path), max(1, rows.line_num))
            raise InvalidText(place, f"not CSV: {error}; mend the row") from None
    if not found:
        raise NothingToAudit(f"{path} holds no labelled completions; give at least one row")
    return found


def training_set(labelled: Sequence[LabelledCompletion]) -> LabelledSet:
    """Refusals and answers alone, for choosing markers or training a judge."""
    kept = [one for one in labelled if one.behaviour in (Behaviour.REFUSED, Behaviour.ANSWERED)]
    return LabelledSet(
        tuple(one.completion for one in kept),
        tuple(one.behaviour is Behaviour.REFUSED for one in kept),
    )


def measure_agreement(
    judge: RefusalJudge, labelled: Sequence[LabelledCompletion], *, seed: int = 0
) -> Agreement:
    """Let a judge see the completions and compare it with their labels.

    Raises:
        NothingToAudit: No completion is labelled refused, or none answered.
    """
    judged = [one.behaviour for one in judge.judge([one.completion for one in labelled])]
    return compare_with_labels(f"{judge.name} {judge.version}", judged, labelled, seed=seed)


def compare_with_labels(
    judge: str,
    judged: Sequence[Behaviour],
    labelled: Sequence[LabelledCompletion],
    *,
    seed: int = 0,
) -> Agreement:
    """Agreement of judgements made elsewhere, for example fold by fold; see `measure_agreement`."""
    if len(judged) != len(labelled):
        raise ConfigurationError(
            f"{len(judged)} judgements of {len(labelled)} completions; give one for each"
        )
    labels = Counter(one.behaviour for one in labelled)
    for needed in (Behaviour.REFUSED, Behaviour.ANSWERED):
        if not labels[needed]:
            raise NothingToAudit(f"no completion is labelled {needed}; agreement needs some")
    pairs = Counter(zip((one.behaviour for one in labelled), judged, strict=True))

    def refused(label: Behaviour) -> Share:
        return Share(pairs[label, Behaviour.REFUSED], labels[label])

    recall, false_alarm = refused(Behaviour.REFUSED), refused(Behaviour.ANSWERED)
    return Agreement(
        judge=judge,
        labels=dict(labels),
        judged=dict(pairs),
        balanced_accuracy=_balanced_accuracy(recall, false_alarm),
        balanced_accuracy_interval=_bootstrap(judged, labelled, seed),
        recall=recall,
        false_alarm=false_alarm,
        partial_refused=refused(Behaviour.PARTIAL),
        kappa=_kappa(recall, false_alarm),
    )


def _balanced_accuracy(recall: Share, false_alarm: Share) -> float:
    return (recall.hits / recall.total + 1 - false_alarm.hits / false_alarm.total) / 2


def _kappa(recall: Share, false_alarm: Share) -> float:
    """(observed - expected) / (1 - expected) agreement; 0 where neither could disagree."""
    total = recall.total + false_alarm.total
    observed = (recall.hits + false_alarm.total - false_alarm.hits) / total
    said, true = (recall.hits + false_alarm.hits) / total, recall.total / total
    expected = said * true + (1 - said) * (1 - true)
    return (observed - expected) / (1 - expected) if expected < 1 else 0.0


def _bootstrap(
    judged: Sequence[Behaviour], labelled: Sequence[LabelledCompletion], seed: int
) -> Interval:
    """Percentiles over resampled groups, or over resampled completions where there are none.

    Draws without a refusal or without an answer have no balanced accuracy and are left out.
    """
    counts = _group_counts(judged, labelled)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=DRAWS)
    hits, refused, alarms, answered = (drawn @ counts).T
    whole = (refused > 0) & (answered > 0)
    values = (hits[whole] / refused[whole] + 1 - alarms[whole] / answered[whole]) / 2
    lower, upper = np.quantile(values, [0.025, 0.975])
    grouped = any(one.group for one in labelled)
    return Interval(
        lower=float(lower),
        upper=float(upper),
        method=f"bootstrap over {'groups' if grouped else 'completions'}, {DRAWS} draws",
    )


def _group_counts(
    judged: Sequence[Behaviour], labelled: Sequence[LabelledCompletion]
) -> NDArray[np.int64]:
    """Judged refused and all, of refusals and of answers, in each group: [groups, 4]."""
    rows: dict[str | int, list[int]] = {}
    for number, (said, one) in enumerate(zip(judged, labelled, strict=True)):
        if one.behaviour not in (Behaviour.REFUSED, Behaviour.ANSWERED):
            continue
        row = rows.setdefault(one.group or number, [0, 0, 0, 0])
        first = 0 if one.behaviour is Behaviour.REFUSED else 2
        row[first] += said is Behaviour.REFUSED
        row[first + 1] += 1
    return np.array(list(rows.values()), np.int64)
