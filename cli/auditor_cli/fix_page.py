"""`--html` of every `auditor fix NAME`: the page of a repair, written beside its record.

A command takes the option by one decorator. The place is refused before any work, and where it
is the place of something else that the command writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from auditor.errors import ConfigurationError
from auditor_cli.options import FILE, option

if TYPE_CHECKING:
    from auditor.fix import FixResult

_KEY = "auditor_cli.fix_page"


def refuse_page(page: Path) -> None:
    """Refuse a place for a page that exists or cannot be written.

    Raises:
        OutputNotWritable: The place is no good.
    """
    from auditor.files import refuse_existing, refuse_unwritable

    refuse_existing(page, "a page")
    refuse_unwritable(page)


def _keep_place(context: click.Context, _: click.Parameter, page: Path | None) -> None:
    if page is not None:
        refuse_page(page)
        context.meta[_KEY] = page


page_option = option(
    "--html", type=FILE, expose_value=False, callback=_keep_place,
    help="Page of the record for reading, a new file.",
)  # fmt: skip
"""Gives a command `--html`; its value is looked up by the functions below."""


def keep_apart(out: Path) -> None:
    """Refuse what the command writes where the page, if one is asked for, is to be written.

    Raises:
        ConfigurationError: The page would lie at `out`, or inside of it.
    """
    page = _asked_for()
    if page is None:
        return
    place = page.resolve()
    if out.resolve() in (place, *place.parents):
        raise ConfigurationError(
            f"--html {page} is at or in {out}, which is written as well; choose another place"
        )


def write_page(result: FixResult) -> Path | None:
    """Write the page if one is asked for; returns its path."""
    page = _asked_for()
    if page is not None:
        from auditor.files import write_atomically
        from auditor_reports.fix.page import render_fix

        write_atomically(page, render_fix(result).encode("utf-8"))
    return page


def _asked_for() -> Path | None:
    context = click.get_current_context(silent=True)
    return context.meta.get(_KEY) if context else None
