"""`auditor view`: run folders in a browser of this machine."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

import rich_click as click

from auditor.audit.run_directory import LEDGER, REPORT
from auditor.errors import FileMissing
from auditor_cli.exit_codes import ExitCode
from auditor_cli.options import json_option, option, quiet_option
from auditor_cli.output import Output
from auditor_cli.view.run_index import RunIndex
from auditor_cli.view.server import ViewServer


@click.command(name="view")
@click.argument("folder", type=click.Path(path_type=Path))
@option("--port", type=click.IntRange(0, 65535), default=0, envvar="AUDITOR_VIEW_PORT",
        help="Port of 127.0.0.1; 0 (the default) takes one that is free.")  # fmt: skip
@option("--no-browser", is_flag=True, envvar="AUDITOR_NO_BROWSER",
        help="Print the address and open nothing.")  # fmt: skip
@json_option
@quiet_option
def command(folder: Path, port: int, no_browser: bool, as_json: bool, quiet: bool) -> int:
    """Show the runs in FOLDER (or the one run it is) in a browser, until Ctrl-C.

    Reads only, on this machine only. The address that is printed holds a secret: who has it can
    read the runs while the command goes on.
    """
    output = Output(as_json, quiet)
    if not folder.is_dir():
        raise FileMissing(folder, "folder of runs")
    index = RunIndex(folder.resolve())
    count = index.count()
    with ViewServer(index, port, output.warn) as server:
        output.data(server.url)
        output.record({"url": server.url, "port": server.server_port, "runs": count})
        if not count:
            output.log(f"no {LEDGER} and no {REPORT} below {folder} yet")
        output.log(f"{count:,} runs; reading only, Ctrl-C ends it")
        if not no_browser and _has_screen():
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            output.log("ended")
    return ExitCode.PASSED


def _has_screen() -> bool:
    """Whether a browser would have a window; one in the terminal would take the terminal."""
    if not sys.stdout.isatty():
        return False
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
