"""The local server of `auditor view`: loopback only, reading only, and for one person only.

A page of another site that the same browser shows must not get at it: the address holds a
secret token (then a cookie that is never sent with requests of other sites), the Host header
must name this machine (a rebound name does not), and nothing may be framed or kept.
"""

from __future__ import annotations

import hmac
import secrets
import socketserver
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO, Final
from urllib.parse import parse_qs

from auditor.errors import AuditorError, ConfigurationError
from auditor_cli.view.pages import Reply, answer, is_known, plain
from auditor_cli.view.run_index import RunIndex
from auditor_reports.sanitise import one_line

LOOPBACK: Final = "127.0.0.1"
METHODS: Final = ("GET", "HEAD")
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class ViewServer(ThreadingHTTPServer):
    """Serves the runs of an index on a port of this machine.

    Attributes:
        index: What is shown.
        token: The secret that lets a browser in.
    """

    daemon_threads = True

    def __init__(self, index: RunIndex, port: int, report: Callable[[str], None]) -> None:
        """Bind the port.

        Args:
            index: What is shown.
            port: 0 for one that is free.
            report: Told of what went wrong inside, one line each.

        Raises:
            ConfigurationError: The port cannot be used.
        """
        self.index, self.report = index, report
        self.token = secrets.token_urlsafe(32)
        try:
            super().__init__((LOOPBACK, port), ViewHandler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigurationError(
                f"port {port} of {LOOPBACK} cannot be used: {reason}; choose another with --port, "
                "or 0 for one that is free"
            ) from None

    def server_bind(self) -> None:
        """Bind without asking anybody for the name of this machine."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away is nothing; all else is told in one line."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            self.report(f"{type(error).__name__}: {error}")

    @property
    def url(self) -> str:
        """The address with its token."""
        return f"http://{LOOPBACK}:{self.server_port}/?token={self.token}"

    @property
    def hosts(self) -> frozenset[str]:
        """What a Host header may say."""
        return frozenset(f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost"))

    @property
    def cookie(self) -> str:
        """The cookie's name; cookies do not tell ports apart, so its name does."""
        return f"auditor_view_{self.server_port}"

    def is_token(self, given: str) -> bool:
        """Whether it is the token; takes the same time whatever is given."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())


class ViewHandler(BaseHTTPRequestHandler):
    """One connection."""

    server: ViewServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def parse_request(self) -> bool:
        """Read the request line and headers; what is not asked for properly ends here."""
        if not super().parse_request():
            return False
        refused = self._refusal()
        if refused is not None:
            self.close_connection = True
            self._send(refused)
            return False
        return True

    def do_GET(self) -> None:
        """Answer a request of somebody who may ask."""
        path, _, query = self.path.partition("?")
        token = parse_qs(query, max_num_fields=20).get("token")
        if token and is_known(path):
            self._admit(path)
            return
        self._send(self._answer(path, query))

    do_HEAD = do_GET  # noqa: N815 - `_send` leaves the body out

    def _answer(self, path: str, query: str) -> Reply:
        try:
            return answer(self.server.index, path, query)
        except AuditorError as error:
            line = one_line(str(error))
            return plain(HTTPStatus.UNPROCESSABLE_ENTITY, f"this run cannot be read: {line}")
        except Exception as error:  # noqa: BLE001 - one bad run must not end the server
            self.server.report(f"{type(error).__name__}: {error}")
            return plain(HTTPStatus.INTERNAL_SERVER_ERROR, "the page could not be made")

    def _refusal(self) -> Reply | None:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            return plain(HTTPStatus.MISDIRECTED_REQUEST, "this server is not called that")
        if self.command not in METHODS:
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "only reading is possible: GET or HEAD")
        if not self._may_ask():
            return plain(
                HTTPStatus.FORBIDDEN, "open the whole address that `auditor view` has printed"
            )
        return None

    def _may_ask(self) -> bool:
        try:
            given = parse_qs(self.path.partition("?")[2], max_num_fields=20).get("token", [])
        except ValueError:
            return False
        return any(self.server.is_token(each) for each in [*given, *self._cookies()])

    def _cookies(self) -> list[str]:
        """The values of our cookie; http.cookies takes seconds over some (CVE-2024-7592)."""
        pairs = (each.partition("=") for each in self.headers.get("Cookie", "").split(";"))
        return [value.strip() for name, _, value in pairs if name.strip() == self.server.cookie]

    def _admit(self, path: str) -> None:
        """Keep the token in a cookie and take it out of the address."""
        reply = plain(HTTPStatus.SEE_OTHER, "see there")
        cookie = f"{self.server.cookie}={self.server.token}; Path=/; HttpOnly; SameSite=Strict"
        self._send(reply, {"Location": path, "Set-Cookie": cookie})

    def _send(self, reply: Reply, more: dict[str, str] | None = None) -> None:
        with reply.body as body:
            self.send_response(reply.status)
            policy = f"{reply.policy}; frame-ancestors 'none'"
            if reply.status == HTTPStatus.METHOD_NOT_ALLOWED:
                self.send_header("Allow", ", ".join(METHODS))
            if self.close_connection:
                self.send_header("Connection", "close")
            for name, value in {
                **HEADERS,
                "Content-Security-Policy": policy,
                "Content-Type": reply.media_type,
                "Content-Length": str(reply.size),
                **(more or {}),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self._copy(body, reply.size)

    def _copy(self, body: BinaryIO, left: int) -> None:
        """Send as many bytes as were announced, also where a file has grown since."""
        while left > 0 and (part := body.read(min(left, 1 << 16))):
            self.wfile.write(part)
            left -= len(part)
        self.close_connection = self.close_connection or left > 0

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A request that is none: a fixed line, nothing of what was sent."""
        self.close_connection = True
        self._send(plain(HTTPStatus(code), "this is no request that can be answered"))

    def version_string(self) -> str:
        """No versions are told."""
        return "auditor"

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not written down; they hold a token."""
