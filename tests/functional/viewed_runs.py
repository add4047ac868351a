"""Starts `auditor view` and asks it over HTTP, header by header."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from auditor.findings import AuditReport
from auditor_reports.registry import WRITERS
from tests.functional.command import Ended, clean_environment, command_line, heed_interrupts

WAIT_S = 60


def write_run(folder: Path, report: AuditReport, *others: str) -> None:
    """A run's folder with `audit.json` and further formats."""
    folder.mkdir(parents=True)
    for writer in WRITERS:
        if writer.name in ("json", *others):
            (folder / writer.filename).write_bytes(writer.render(report))


@dataclass(frozen=True)
class Reply:
    """What came back; names of headers in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Viewed:
    """A server that runs."""

    url: str
    process: subprocess.Popen[str]

    @property
    def host(self) -> str:
        """What its Host header has to say."""
        return urlsplit(self.url).netloc

    @property
    def origin(self) -> str:
        """The beginning of every address of it."""
        return f"http://{self.host}"

    @property
    def token(self) -> str:
        """The secret in its address."""
        return urlsplit(self.url).query.removeprefix("token=")

    @property
    def cookie(self) -> str:
        """The cookie it set, as a browser sends it."""
        given = self.ask(f"/?token={self.token}", cookie="").headers["set-cookie"]
        return given.partition(";")[0]

    def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        cookie: str | None = None,
        hosts: Sequence[str] | None = None,
    ) -> Reply:
        """One request in a connection of its own; with the right cookie and host unless given."""
        asked = HTTPConnection(self.host, timeout=WAIT_S)
        try:
            asked.putrequest(method, path, skip_host=True)
            for host in (self.host,) if hosts is None else hosts:
                asked.putheader("Host", host)
            told = self.cookie if cookie is None else cookie
            if told:
                asked.putheader("Cookie", told)
            asked.endheaders()
            answer = asked.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, headers, answer.read())
        finally:
            asked.close()

    def end(self) -> Ended:
        """Press Ctrl-C; how it ended and what it had printed after its address."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=WAIT_S)
        return Ended(self.process.returncode, out, err)


@contextmanager
def viewing(folder: Path, *options: str) -> Iterator[Viewed]:
    """The server of a folder, from its first line on; it is ended on leaving."""
    process = subprocess.Popen(
        command_line("view", folder, "--no-browser", *options),
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    try:
        if process.stdout is None:
            raise ValueError("its output was not asked for")
        yield Viewed(process.stdout.readline().strip(), process)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
