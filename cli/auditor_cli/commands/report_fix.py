"""`auditor report fix`: the page of a repair from its record."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from auditor.errors import ConfigurationError
from auditor_cli.fix_page import refuse_page
from auditor_cli.options import FILE, json_option, option, quiet_option
from auditor_cli.output import Output


@click.command(name="fix")
@click.argument("record", type=click.Path(path_type=Path))
@option("--html", type=FILE, help="Page to write, a new file.")
@option("--markdown", type=FILE, help="The same as Markdown, a new file.")
@json_option
@quiet_option
def command(
    record: Path, html: Path | None, markdown: Path | None, as_json: bool, quiet: bool
) -> int:
    """Write the page of a repair from RECORD, the file that auditor fix wrote.

    Needs no model. Always exits 0 when the pages were written, whatever the decision was. A run's
    folder that is called fix is named ./fix.
    """
    from auditor.files import write_atomically
    from auditor_reports.fix.json import load_fix
    from auditor_reports.fix.markdown import render_fix_markdown
    from auditor_reports.fix.page import render_fix
    from auditor_reports.fix.standing import contradictions

    asked = ((html, render_fix), (markdown, render_fix_markdown))
    pages = [(place, render) for place, render in asked if place is not None]
    if not pages:
        raise ConfigurationError("nothing to write; give --html FILE, --markdown FILE or both")
    if len({place.resolve() for place, _ in pages}) < len(pages):
        raise ConfigurationError(f"--html and --markdown both name {html}; give each its own file")
    for place, _ in pages:
        refuse_page(place)
    result = load_fix(record)
    output = Output(as_json, quiet)
    for text in contradictions(result):
        output.warn(f"the record contradicts itself: {text}")
    for place, render in pages:
        write_atomically(place, render(result).encode("utf-8"))
        output.data(str(place))
        output.record({"written": str(place)})
    return 0
