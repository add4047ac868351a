"""`auditor completion`: print a shell completion script."""

from __future__ import annotations

import rich_click as click
from click.shell_completion import get_completion_class

from auditor_cli.output import Output


@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> int:
    """Print the completion script of SHELL; source it in your shell's start file."""
    from auditor_cli.main import cli

    completion = get_completion_class(shell)
    if completion is None:
        raise click.UsageError(f"no completion for {shell}")
    Output().data(completion(cli, {}, "auditor", "_AUDITOR_COMPLETE").source())
    return 0
