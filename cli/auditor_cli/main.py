"""The `auditor` command: one entry point that maps every ending to an exit code.

Commands are imported when they are used, so that `auditor --help` and shell completion
stay quick and import neither torch nor onnxruntime.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

# Products here are small: threads of a matrix library only wait for each other, thirty times as
# long on a busy machine. Read when NumPy loads; a caller's own setting wins.
os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))

import rich_click as click
from click.exceptions import Exit

from auditor.errors import AuditorError, did_you_mean
from auditor_cli.exit_codes import MEANINGS, ExitCode, code_for
from auditor_reports.sanitise import one_line

# name: (module, one line for --help)
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "Audit models as a plan says and gate on the result."),
    "gate": ("gate", "Apply policy, waivers and baseline to a finished run."),
    "baseline": ("baseline", "Write what a run has found as a baseline, or show one."),
    "waiver": ("waiver", "Add, list or check waivers."),
    "runs": ("runs", "List, show, remove, sign or verify runs."),
    "cache": ("cache", "Show, prune or clear kept answers of earlier runs."),
    "report": ("report", "Write reports of a run."),
    "diff": ("diff", "Compare two runs."),
    "view": ("view", "Show runs in a browser, on this machine only."),
    "verify": ("verify", "Verify one property of one ONNX model."),
    "mine": ("mine", "Mine activation patterns of a classifier."),
    "patterns": ("patterns", "Show, compare or test mined patterns."),
    "trace": ("trace", "Index training text and find where a text occurs in it."),
    "fix": ("fix", "Repair a model, and accept the repair or not."),
    "language": ("language", "Ask language models, and judge what they say."),
    "model": ("model", "Look at a model file without executing it."),
    "init": ("init", "Write a first plan for a model."),
    "list": ("list_", "List checks, fixes, plans, content policies or frameworks."),
    "config": ("config", "Validate a plan or print its schema."),
    "doctor": ("doctor", "Say what is missing or too old on this machine."),
    "completion": ("completion", "Print a shell completion script."),
}


class LazyGroup(click.RichGroup):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A stand-in with the help line, enough for `--help` and completion."""
        if cmd_name not in COMMANDS:
            return None
        return click.RichCommand(name=cmd_name, short_help=COMMANDS[cmd_name][1])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The real command, imported now."""
        name = args[0]
        if name not in COMMANDS:
            if name.startswith("-"):
                raise click.NoSuchOption(name, ctx=ctx)
            hint = did_you_mean(name, list(COMMANDS)) or "; see auditor --help"
            raise click.UsageError(f"unknown command '{name}'{hint}", ctx=ctx)
        module = importlib.import_module(f"auditor_cli.commands.{COMMANDS[name][0]}")
        return name, module.command, args[1:]


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="auditor", prog_name="auditor")
def cli() -> None:
    """Audit a model against a plan, and gate its release on the evidence.

    Exit codes: 0 passed, 1 failed, 2 usage, 3 inconclusive, 4 internal error, 5 nothing
    audited, 6 input refused as unsafe, 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with the right exit code."""
    # Loading libraries makes many objects and hardly any garbage; looking for it costs a sixth
    # of a short command.
    gc.set_threshold(100_000, 20, 20)
    code = run_command_line(list(sys.argv[1:] if arguments is None else arguments))
    _flush()
    gc.freeze()  # the process ends: nothing is left to look for
    sys.exit(code)


def run_command_line(arguments: list[str]) -> int:
    """Run a command and return its exit code; never raises."""
    if "--online" not in arguments:
        # Read when the libraries are imported, here and in worker processes.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    as_json = "--json" in arguments
    try:
        value: Any = cli.main(args=arguments, prog_name="auditor", standalone_mode=False)
        return value if isinstance(value, int) else ExitCode.PASSED
    except Exit as ending:
        return ending.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "auditor"
        text = f"{where}: {error.format_message()} (see {where} --help)"
        return _fail(text, "usage", ExitCode.USAGE, as_json)
    except click.ClickException as error:
        return _fail(error.format_message(), "usage", ExitCode.USAGE, as_json)
    except (KeyboardInterrupt, click.Abort):
        text = f"interrupted; {MEANINGS[ExitCode.INTERRUPTED].split('; ')[1]}"
        return _fail(text, "interrupted", ExitCode.INTERRUPTED, as_json)
    except AuditorError as error:
        return _fail(str(error), type(error).__name__, code_for(error), as_json)
    except BrokenPipeError:
        _silence(sys.stdout.fileno())
        return ExitCode.INTERNAL
    except Exception as error:  # noqa: BLE001 - the last border: a bug must not look like a verdict
        if os.environ.get("AUDITOR_DEBUG"):
            traceback.print_exc()
        text = (
            f"internal error: {type(error).__name__}: {error}; set AUDITOR_DEBUG=1 for the "
            "traceback and report it"
        )
        return _fail(text, "internal", ExitCode.INTERNAL, as_json)


def _fail(message: str, kind: str, code: ExitCode, as_json: bool) -> int:
    """One line on stderr, or one JSON line on stdout."""
    # It may quote a file or an argument that a terminal would obey.
    line = one_line(message)
    if as_json:
        record = {"error": {"kind": kind, "message": line, "exit_code": int(code)}}
        print(json.dumps(record, sort_keys=True))
    else:
        print(f"auditor: {line}", file=sys.stderr)
    return code


def _flush() -> None:
    """Write out what is buffered; a reader that has gone away changes no exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            _silence(stream.fileno())


def _silence(descriptor: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


if __name__ == "__main__":
    main()
