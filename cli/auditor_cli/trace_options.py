"""Options of commands that trace texts, and opening what they name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import rich_click as click

from auditor.errors import ConfigurationError
from auditor_cli.options import FILE, MODEL, option

if TYPE_CHECKING:
    from auditor.language.prompts import Prompt
    from auditor.trace.calibration import Calibration
    from auditor.trace.drift import SafetyJudge
    from auditor.trace.traced_text import Tracer
    from auditor.trace.tracing import PolicyModels

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Tracing:
    """What `tracing_options` were given."""

    policy: Path | None
    nli: Path | None
    embedder: str | None
    online: bool
    least_tokens: int

    def models(self, device: str) -> PolicyModels:
        """What judges texts by the policy, each of which crashes no process that reads it.

        Raises:
            ConfigurationError: Such a model without a policy; see also `find_folder`.
            OperationFailed: The embedder cannot be downloaded.
            FileMissing, RefusedModel: See `try_folders`.
        """
        from auditor.language.embedder_folder import find_folder
        from auditor.models.first_load import try_folders
        from auditor.trace.tracing import PolicyModels

        for name, given in (("--nli", self.nli), ("--embedder", self.embedder)):
            if given is not None and self.policy is None:
                raise ConfigurationError(
                    f"{name} {given} without --policy; give the policy that it judges by"
                )
        embedder = None
        if self.embedder is not None:
            embedder = find_folder(self.embedder, online=self.online)
        try_folders(*(each for each in (self.nli, embedder) if each is not None))
        return PolicyModels(self.nli, embedder, self.online, device)


@dataclass(frozen=True)
class Judging:
    """What `judge_options` were given."""

    judge: str
    judge_threshold: float | None
    prompt_column: str | None
    category_column: str | None
    new_tokens: int
    device: str

    def prompts(self, path: Path) -> list[Prompt]:
        """The prompts of a file."""
        from auditor.language.prompts import read_prompts

        return read_prompts(
            path, text_column=self.prompt_column, category_column=self.category_column
        )

    def open(self, tracing: Tracing, tracer: Tracer | None = None) -> SafetyJudge:
        """The judge; a tracer lends it what holds texts against a policy.

        Raises:
            ConfigurationError: `policy` without a policy or a threshold.
            FileMissing, RefusedModel: A model cannot be opened; see also `try_folders`.
        """
        from auditor.models.first_load import try_folders
        from auditor.trace.tracing import PolicyModels, open_judge

        conflict = None if tracer is None else tracer.conflict
        if self.judge not in ("refusal", "policy"):
            try_folders(Path(self.judge))
        return open_judge(
            self.judge, policy=tracing.policy, threshold=self.judge_threshold, conflict=conflict,
            models=PolicyModels(device=self.device) if conflict else tracing.models(self.device),
        )  # fmt: skip


def gathered(record: type[Any], name: str) -> Callable[[F], F]:
    """Gives a command the options that are fields of a record as one argument."""

    def decorate(function: F) -> F:
        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            values = {field.name: options.pop(field.name) for field in fields(record)}
            return function(*arguments, **{name: record(**values)}, **options)

        return cast(F, call)

    return decorate


def tracing_options(function: F) -> F:
    """`--policy --nli --embedder --online --least-tokens`, given as one `tracing`."""
    function = gathered(Tracing, "tracing")(function)
    for decorate in reversed((
        option("--policy", type=FILE, callback=_found_policy,
               help="Content policy that texts are held against: a file, or the name of a "
               "built-in one (`auditor list policies`)."),
        option("--nli", type=MODEL, help="Cross-encoder that judges whether a text breaks a "
               "clause: a folder, or .onnx with its tokenizer. Else the policy's exemplars."),
        option("--embedder", metavar="FOLDER|NAME", help="Sentence embedder other than the "
               "installed one: a folder, or with --online a name on the hub."),
        option("--online", is_flag=True, help="Allow --embedder to be downloaded."),
        option("--least-tokens", type=click.IntRange(1, 1_000), default=8, show_default=True,
               help="Tokens that a matching span has at least."),
    )):  # fmt: skip
        function = decorate(function)
    return function


def judge_options(function: F) -> F:
    """`--judge --prompt-column --category-column --new-tokens --device`, as one `judging`."""
    function = gathered(Judging, "judging")(function)
    for decorate in reversed((
        option("--judge", default="refusal", show_default=True, metavar="refusal|policy|FOLDER",
               help="What calls a completion unsafe: that it does not refuse, that it breaks "
               "--policy, or a classifier's folder."),
        option("--judge-threshold", type=click.FloatRange(0, 1),
               help="Conflict above which a sentence breaks the policy, from a calibration."),
        option("--prompt-column", help="Column of the prompts, if not prompt, goal or text."),
        option("--category-column", help="Column of their category, if not category or type."),
        option("--new-tokens", type=click.IntRange(1, 4_096), default=64, show_default=True,
               help="Tokens of a completion at most."),
        option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="cpu",
               show_default=True, callback=resolved_device, help="Where models run."),
    )):  # fmt: skip
        function = decorate(function)
    return function


def tracer_of(index: Path, tracing: Tracing, device: str = "cpu") -> Tracer:
    """Open what the options name.

    Raises:
        ConfigurationError: A model that judges by a policy without one.
    """
    from auditor.trace.traced_text import TraceOptions
    from auditor.trace.tracing import open_tracer

    options = TraceOptions(least_tokens=tracing.least_tokens)
    return open_tracer(index, tracing.policy, models=tracing.models(device), options=options)


def calibration_of(path: Path | None) -> Calibration | None:
    """The calibration of a file, if one is named."""
    from auditor.trace.calibration import read_calibration

    return None if path is None else read_calibration(path)


def _found_policy(
    context: click.Context, parameter: click.Parameter, path: Path | None
) -> Path | None:
    """The file of a policy that is named."""
    from auditor_cli.plans import content_policies

    return path if path is None or path.is_file() else content_policies().get(str(path), path)


def resolved_device(context: click.Context, parameter: click.Parameter, device: str) -> str:
    """`cpu` or `cuda` for `auto`."""
    if device == "cpu":
        return device
    from auditor.language.opening import choose_device

    return choose_device(device)
