"""Requests that no browser sends: each is answered in one way, and nothing outside is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor_cli.view.run_index import RunIndex, run_id
from auditor_cli.view.server import ViewServer
from auditor_reports.audit_json import render_json
from tests.golden.sample_report import sample_report

SECRET = b"precious words"


@pytest.fixture
def told() -> list[str]:
    """What went wrong inside of the server."""
    return []


@pytest.fixture
def server(tmp_path: Path, told: list[str]) -> Iterator[ViewServer]:
    """A server of one run, beside a file that is not served."""
    (tmp_path / "runs" / "v1").mkdir(parents=True)
    (tmp_path / "runs" / "v1" / "audit.json").write_bytes(render_json(sample_report()))
    (tmp_path / "secret.json").write_bytes(SECRET)
    (tmp_path / "runs" / "v1" / "secret.json").write_bytes(SECRET)
    index = RunIndex(tmp_path / "runs")
    index.refresh()
    served = ViewServer(index, 0, told.append)
    thread = threading.Thread(target=served.serve_forever, args=(0.01,))
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


def ask(server: ViewServer, content: bytes) -> bytes:
    """All that comes back for these bytes, after which nothing more is sent."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            parts = list(iter(lambda: connection.recv(1 << 16), b""))
        except ConnectionError:  # it went away while there was more to send
            return b""
    return b"".join(parts)


def request(server: ViewServer, path: bytes, *headers: bytes) -> bytes:
    """A request of somebody who may ask."""
    cookie = f"{server.cookie}={server.token}".encode()
    host = f"127.0.0.1:{server.server_port}".encode()
    lines = (b"GET " + path + b" HTTP/1.1", b"Host: " + host, b"Cookie: " + cookie, *headers)
    return b"\r\n".join((*lines, b"Connection: close", b"", b""))


def status_of(reply: bytes) -> int:
    """The code of a reply; 0 where the protocol was not understood, and so no code is sent."""
    return int(reply.split(b" ", 2)[1]) if reply.startswith(b"HTTP/1.1 ") else 0


def test_whoever_may_ask_is_answered(server: ViewServer, tmp_path: Path) -> None:
    """Otherwise what is refused below would say nothing."""
    key = run_id(tmp_path / "runs", tmp_path / "runs" / "v1").encode()
    assert status_of(ask(server, request(server, b"/"))) == 200
    assert status_of(ask(server, request(server, b"/runs/" + key + b"/audit.json"))) == 200


@pytest.mark.parametrize(
    "name",
    [
        b"..%2fsecret.json", b"%2e%2e/%2e%2e/secret.json", b"....//secret.json", b"%c0%ae%c0%ae/",
        b"..%5c..%5csecret.json", b"%252e%252e%252fsecret.json", b"secret.json", b"audit.json%00",
        b"audit.json\x00", b"audit.json/", b"./audit.json", b"audit.json;a=b", b"\xff\xfe",
        b"../" * 20_000 + b"secret.json", b"a" * 60_000, b"%2e" * 20_000, b"audit.json%0d%0aX:y",
    ],
    ids=lambda name: str(name[:24]),
)  # fmt: skip
def test_no_spelling_of_a_path_leads_out(
    server: ViewServer, tmp_path: Path, told: list[str], name: bytes
) -> None:
    """Dots encoded once, twice and overlong, NUL, other slashes, very long ones."""
    key = run_id(tmp_path / "runs", tmp_path / "runs" / "v1").encode()
    for path in (b"/runs/" + key + b"/" + name, b"/" + name, b"//" + name):
        reply = ask(server, request(server, path))
        assert status_of(reply) in (400, 404, 414)
        assert SECRET not in reply
        assert name[:12] not in reply
    assert told == []


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 0),
        (b"GET\r\n\r\n", 0),
        (b"GET / HTTP/9.9\r\n\r\n", 0),
        (b"GET / HTTP/1.1\r\nHost\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\n\r\n", 421),
        (b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\na: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /?" + b"token=a&" * 5_000 + b" HTTP/1.1\r\nHost: {host}\r\n\r\n", 403),
        (b"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: a=\"" + b"\\" * 60_000 + b'"\r\n\r\n', 403),
        (b"GET / HTTP/1.1\r\nHost: {host}\r\nCookie: " + b'a="\\' * 15_000 + b"\r\n\r\n", 403),
        (b"GET /?token=%ff%fe%ed%a0%80 HTTP/1.1\r\nHost: {host}\r\n\r\n", 403),
    ],
    ids=["tls", "word", "version", "no-colon", "no-host", "long-line", "many-headers",
         "long-header", "many-tokens", "quoted-cookie", "open-cookie", "no-utf8"],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_ends_nothing(
    server: ViewServer, told: list[str], content: bytes, status: int
) -> None:
    """Nothing of it comes back; the next one is answered."""
    host = f"127.0.0.1:{server.server_port}".encode()
    reply = ask(server, content.replace(b"{host}", host))
    assert not reply or status_of(reply) == status
    assert reply.count(b"\n") <= 20
    assert status_of(ask(server, request(server, b"/"))) == 200
    assert told == []


def test_a_cookie_is_taken_as_it_stands(server: ViewServer) -> None:
    """Undoing quotes takes time that grows with the square of what anybody may send."""
    plain = request(server, b"/")
    token = server.token.encode()
    assert status_of(ask(server, plain)) == 200
    assert status_of(ask(server, plain.replace(token, b'"' + token + b'"'))) == 403
