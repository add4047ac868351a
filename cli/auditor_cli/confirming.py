"""Asks before something is removed for good."""

from __future__ import annotations

import sys

import rich_click as click

from auditor.errors import ConfigurationError
from auditor_cli.options import option
from auditor_cli.output import Output
from auditor_reports.sanitise import one_line

yes_option = option("--yes", is_flag=True, help="Do not ask.")


def may_remove(what: str, output: Output, *, yes: bool) -> bool:
    """Whether the user wants it removed; says so if not.

    Args:
        what: For example `runs/demo with its evidence`.
        output: Where the answer is told.
        yes: Whether the command line said so already.

    Raises:
        ConfigurationError: There is nobody to ask.
    """
    if yes:
        return True
    if output.as_json or not sys.stdin.isatty():
        raise ConfigurationError(
            f"nobody to ask whether {one_line(what)} may be removed; add --yes"
        )
    if click.confirm(f"Remove {one_line(what)}?", err=True):
        return True
    output.data("nothing was removed")
    return False
