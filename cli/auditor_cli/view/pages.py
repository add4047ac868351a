"""What the local server answers to an address: a list, a report, a stored file, a comparison.

An address names a run by the id of `run_index` and a file by the name of a known report; no
part of it ever becomes a path.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import parse_qs

from auditor.audit.comparison import compare_reports
from auditor.audit.run_directory import REPORT
from auditor.files import plain_digest
from auditor.findings import AuditReport
from auditor_cli.stored_runs import is_behind, is_plain_file, read_stored_run
from auditor_cli.view.run_index import RunIndex
from auditor_reports.audit_json import run_fingerprint
from auditor_reports.comparison.page import page_style, render_comparison
from auditor_reports.html import render_html
from auditor_reports.html_environment import asset, content_policy
from auditor_reports.registry import WRITERS, Writer
from auditor_reports.run_list_page import render_run_list, run_list_policy

HTML: Final = "text/html; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
NOTHING_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'"
_LARGEST_PAGE: Final = 64 * 1024 * 1024
_ROUTE: Final = re.compile(r"/runs/([0-9a-f]{16})/([A-Za-z0-9._-]{1,80})")
# Neither exists on Windows.
_NO_DETOUR: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True)
class Reply:
    """What is sent back.

    Attributes:
        body: Open for reading; whoever sends it closes it.
        size: Bytes to send of it.
        policy: The content policy, without the part about frames.
    """

    status: HTTPStatus
    body: BinaryIO
    size: int
    media_type: str = TEXT
    policy: str = NOTHING_POLICY


def plain(status: HTTPStatus, text: str) -> Reply:
    """A line of text."""
    return _held(text.encode("utf-8", "replace") + b"\n", status=status)


def is_known(path: str) -> bool:
    """Whether the path has the form of any address that is answered."""
    return path in ("/", "/compare", "/favicon.ico") or bool(_ROUTE.fullmatch(path))


def answer(index: RunIndex, path: str, query: str) -> Reply:
    """The reply to an address whose sender may ask.

    Raises:
        AuditorError: A run cannot be read.
    """
    wanted = {name: values[-1] for name, values in parse_qs(query, max_num_fields=20).items()}
    route = _ROUTE.fullmatch(path)
    if route:
        return _run_file(index, route[1], route[2])
    if path == "/":
        return _run_list(index, wanted)
    if path == "/compare":
        return _comparison(index, wanted.get("old", ""), wanted.get("new", ""))
    if path == "/favicon.ico":
        return _held(b"", status=HTTPStatus.NO_CONTENT)
    return _missing()


def stored_page_policy() -> str:
    """For a page from a run's folder: any style of its own, no script but ours, no address."""
    strict = content_policy("", asset("report.js"))
    return re.sub(r"style-src '[^']*'", "style-src 'unsafe-inline'", strict)


def _run_list(index: RunIndex, wanted: dict[str, str]) -> Reply:
    page = wanted.get("page", "1")
    content = render_run_list(
        index.refresh(),
        index.root.name or str(index.root),
        words=wanted.get("words", ""),
        page=int(page) if page.isascii() and page.isdigit() and len(page) < 7 else 1,
        left_out=index.left_out,
    )
    return _held(content, HTML, run_list_policy())


def _comparison(index: RunIndex, old: str, new: str) -> Reply:
    folders = index.folder(old), index.folder(new)
    if folders[0] is None or folders[1] is None:
        return plain(HTTPStatus.BAD_REQUEST, "choose an old and a new run of the list")
    reports = read_stored_run(folders[0]), read_stored_run(folders[1])
    seals = run_fingerprint(reports[0]), run_fingerprint(reports[1])
    page = render_comparison(compare_reports(*reports, seals))
    return _held(page, HTML, content_policy(page_style()))


def _run_file(index: RunIndex, key: str, name: str) -> Reply:
    folder = index.folder(key)
    writer = next((each for each in WRITERS if each.filename == name), None)
    if folder is None or writer is None:
        return _missing()
    if writer.name == "html" and not _is_current(folder, name):
        return _fresh(read_stored_run(folder))
    return _stored(index.root, folder / name, writer)


def _is_current(folder: Path, name: str) -> bool:
    """Whether the stored page names the fingerprint of the `audit.json` beside it."""
    report, page = folder / REPORT, folder / name
    if not is_plain_file(report) or is_behind(folder) or not is_plain_file(page):
        return False
    if page.stat().st_size > _LARGEST_PAGE:
        return False
    return plain_digest(report).encode() in page.read_bytes()


def _fresh(report: AuditReport) -> Reply:
    policy = content_policy(asset("style.css"), asset("report.js"))
    return _held(render_html(report), HTML, policy)


def _stored(root: Path, path: Path, writer: Writer) -> Reply:
    """A file of a run's folder, as it lies there; never through a link."""
    if not path.resolve().is_relative_to(root):
        return _missing()
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | _NO_DETOUR)
    except OSError:
        return _missing()
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return _missing()
    body = os.fdopen(descriptor, "rb")
    if writer.media_type == "text/html":
        return Reply(HTTPStatus.OK, body, status.st_size, HTML, stored_page_policy())
    # Whatever else it is, a browser shows it as text and acts on none of it.
    media_type = writer.media_type if writer.media_type == "application/pdf" else TEXT
    return Reply(HTTPStatus.OK, body, status.st_size, media_type, f"{NOTHING_POLICY}; sandbox")


def _held(
    content: bytes,
    media_type: str = TEXT,
    policy: str = NOTHING_POLICY,
    status: HTTPStatus = HTTPStatus.OK,
) -> Reply:
    return Reply(status, BytesIO(content), len(content), media_type, policy)


def _missing() -> Reply:
    return plain(HTTPStatus.NOT_FOUND, "there is no such page; go back to the list of runs")
