"""`auditor language`: language models, asked from the command line."""

from __future__ import annotations

import rich_click as click

from auditor_cli.language_complete import complete


@click.group(name="language")
def command() -> None:
    """Ask language models."""


command.add_command(complete)
