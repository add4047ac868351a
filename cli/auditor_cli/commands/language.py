"""`auditor language`: language models asked, and judges of what they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import rich_click as click
from rich.markup import escape

from auditor.errors import ConfigurationError
from auditor.files import refuse_existing
from auditor_cli.language_complete import complete
from auditor_cli.language_refusals import refusals
from auditor_cli.options import FILE, FOLDER, json_option, option, quiet_option
from auditor_cli.output import Output
from auditor_reports.sanitise import one_line

if TYPE_CHECKING:
    from auditor.intervals import Share
    from auditor.language.judge_agreement import Agreement, LabelledCompletion
    from auditor.language.refusal import RefusalJudge
    from auditor.language.sentence_embedding import SentenceEmbedder

F = TypeVar("F", bound=Callable[..., Any])


@click.group(name="language")
def command() -> None:
    """Ask language models, and measure and train judges of what they say."""


def _labelled_options(function: F) -> F:
    """`--text-column --label-column --group-column`, and what labels mean."""
    for decorate in reversed((
        option("--text-column", default="completion", show_default=True,
               help="Column of the completions."),
        option("--label-column", default="label", show_default=True, help="Column of the labels."),
        option("--group-column", help="Column of what belongs together, for example a prompt "
               "family; intervals keep groups whole."),
        option("--refused", multiple=True, default=("refused",), show_default=True,
               help="A label that means refused; may be given more than once."),
        option("--answered", multiple=True, default=("answered",), show_default=True,
               help="A label that means answered."),
        option("--partial", multiple=True, default=("partial",), show_default=True,
               help="A label that means partly refused; a class of its own."),
        option("--deflected", multiple=True, default=("deflected",), show_default=True,
               help="A label that means evaded; a class of its own, too."),
        option("--embedder", type=FOLDER, help="Folder of another sentence embedder."),
    )):  # fmt: skip
        function = decorate(function)
    return function


@command.command(name="judge-agreement")
@click.argument("file", type=FILE)
@_labelled_options
@option("--judge", default="markers", show_default=True,
        help="markers, or the file of a trained judge.")  # fmt: skip
@option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the bootstrap.")
@json_option
@quiet_option
def judge_agreement(
    file: Path, embedder: Path | None, judge: str, seed: int, as_json: bool, quiet: bool,
    **columns: Any,
) -> int:  # fmt: skip
    """Say how far a refusal judge agrees with the labels people gave in FILE, a CSV.

    The judge sees the completions only. Partial refusals enter neither accuracy nor kappa.
    """
    from auditor.language.judge_agreement import measure_agreement

    labelled = _read(file, **columns)
    found = measure_agreement(_open_judge(judge, embedder), labelled, seed=seed)
    _show(found, Output(as_json, quiet))
    return 0


@command.command(name="train-judge")
@click.argument("file", type=FILE)
@_labelled_options
@option("--out", type=FILE, required=True, help="The judge to write, a file that does not exist.")
@json_option
@quiet_option
def train_judge(
    file: Path, embedder: Path | None, out: Path, as_json: bool, quiet: bool, **columns: Any
) -> int:
    """Train a refusal judge on sentence vectors of the completions in FILE, a CSV.

    It agrees with its own training data far better than with another model's completions:
    measure it on those.
    """
    from auditor.language.embedding_judge import train_judge as train
    from auditor.language.judge_agreement import training_set

    refuse_existing(out, "the judge")
    labelled = training_set(_read(file, **columns))
    judge = train(labelled, _open_embedder(embedder))
    judge.save(out)
    output = Output(as_json, quiet)
    counts = f"{judge.file.refused} refusals and {judge.file.answered} answers"
    output.data(one_line(f"{out}: {judge.name} {judge.version}, trained on {counts}"))
    output.record(
        {
            "file": str(out),
            "judge": f"{judge.name} {judge.version}",
            "refused": judge.file.refused,
            "answered": judge.file.answered,
            "data": judge.file.data,
            "embedder": judge.file.embedder,
        }
    )
    return 0


def _read(
    file: Path, *, text_column: str, label_column: str, group_column: str | None,
    refused: tuple[str, ...], answered: tuple[str, ...], partial: tuple[str, ...],
    deflected: tuple[str, ...],
) -> list[LabelledCompletion]:  # fmt: skip
    from auditor.language.judge_agreement import read_labelled_completions
    from auditor.language.refusal import Behaviour

    given = [(label, Behaviour.REFUSED) for label in refused]
    given += [(label, Behaviour.ANSWERED) for label in answered]
    given += [(label, Behaviour.PARTIAL) for label in partial]
    given += [(label, Behaviour.DEFLECTED) for label in deflected]
    mapping = dict(given)
    for label, behaviour in given:
        if mapping[label] is not behaviour:
            raise ConfigurationError(
                f"label '{label}' is to mean {behaviour} and {mapping[label]}; give it once"
            )
    return read_labelled_completions(file, text_column, label_column, mapping, group_column)


def _open_judge(judge: str, embedder: Path | None) -> RefusalJudge:
    from auditor.language.embedding_judge import load_judge
    from auditor.language.refusal import MarkerJudge

    if judge == "markers":
        return MarkerJudge()
    if not Path(judge).is_file():
        raise ConfigurationError(
            f"judge '{judge}' is neither 'markers' nor a file; train one with "
            "auditor language train-judge"
        )
    return load_judge(Path(judge), _open_embedder(embedder))


def _open_embedder(folder: Path | None) -> SentenceEmbedder:
    """The installed embedder, or one in a folder that crashes no process that reads it."""
    from auditor.language.sentence_embedding import SentenceEmbedder
    from auditor.models.first_load import try_folders

    if folder is not None:
        try_folders(folder)
    return SentenceEmbedder.open(folder)


def _show(found: Agreement, output: Output) -> None:
    interval = found.balanced_accuracy_interval
    accuracy = _text(found.balanced_accuracy, interval.lower, interval.upper)
    rows = [
        ("judge", found.judge),
        (
            "labelled",
            ", ".join(f"{count} {label}" for label, count in sorted(found.labels.items())),
        ),
        ("balanced accuracy", f"{accuracy} ({interval.method})"),
        ("recall of refusals", _share_text(found.recall)),
        ("answers called refused", _share_text(found.false_alarm)),
        ("partial refusals called refused", _share_text(found.partial_refused)),
        ("Cohen's kappa", f"{found.kappa:.3f}"),
    ]
    output.table(("figure", "value"), [(name, escape(one_line(value))) for name, value in rows])
    output.record(
        {
            "judge": found.judge,
            "labels": dict(found.labels),
            "judged": [
                {"label": label, "judged": judged, "count": count}
                for (label, judged), count in sorted(found.judged.items())
            ],
            "balanced_accuracy": found.balanced_accuracy,
            "balanced_accuracy_interval": interval.model_dump(mode="json"),
            "recall": _share_record(found.recall),
            "false_alarm": _share_record(found.false_alarm),
            "partial_refused": _share_record(found.partial_refused),
            "kappa": found.kappa,
        }
    )


def _text(value: float, lower: float, upper: float) -> str:
    return f"{value:.3f} [{lower:.3f}, {upper:.3f}]"


def _share_text(share: Share) -> str:
    if share.value is None or share.interval is None:
        return "none in the file"
    value = _text(share.value, share.interval.lower, share.interval.upper)
    return f"{share.hits} of {share.total}, {value}"


def _share_record(share: Share) -> dict[str, Any]:
    interval = share.interval.model_dump(mode="json") if share.interval else None
    return {"hits": share.hits, "total": share.total, "interval": interval}


command.add_command(complete)
command.add_command(refusals)
