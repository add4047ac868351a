"""`auditor view` over real HTTP: who may ask, what is shown, and what never leaves the folder."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor.audit.comparison import compare_reports
from auditor.findings import Verdict
from auditor_reports.audit_json import load_report, render_json, run_fingerprint
from auditor_reports.comparison.page import render_comparison
from auditor_reports.html import render_html
from tests.functional.command import auditor
from tests.functional.viewed_runs import Reply, Viewed, viewing, write_run
from tests.golden.sample_comparison import sample_successor
from tests.golden.sample_report import sample_report
from tests.models import written_run
from tests.unit.reports.hostile_report import poisoned
from tests.unit.reports.html_reader import PageReader

SECRET = "nobody outside may read this"
HOSTILE_NAME = "a<script>alert(1)<"
HOSTILE_TEXT = "</style><script>alert(1)</script><img src=http://a.example/b>\x1b[31m\u202e"


def interrupt(folder: Path) -> None:
    """A run of two checks that has answered one and is writing the other."""
    written_run.write_run(
        folder,
        [
            written_run.made_result("AUD101", Verdict.HOLDS),
            written_run.made_result("AUD202", Verdict.VIOLATED),
        ],
    )
    (folder / "audit.json").unlink()
    *whole, last = (folder / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "ledger.jsonl").write_bytes(b"".join(whole) + last[:70])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every kind beside what must stay unread; do not write to it.

    `v1` with its report, `deeper/v2` without, `going` of which half is done, `broken`, one that
    is hostile in name and texts, one reached by a link, one whose file is a link.
    """
    outside = tmp_path_factory.mktemp("outside")
    write_run(outside / "elsewhere", sample_report())
    (outside / "secret.json").write_text(SECRET)
    folder = tmp_path_factory.mktemp("viewed")
    write_run(folder / "v1", sample_report(), "html", "markdown", "junit", "sarif")
    write_run(folder / "deeper/v2", sample_successor())
    write_run(folder / HOSTILE_NAME, poisoned(HOSTILE_TEXT))
    (folder / "broken").mkdir()
    (folder / "broken/audit.json").write_text(f'{{"plan": "{SECRET}",')
    interrupt(folder / "going")
    (folder / "v1/evidence").mkdir()
    (folder / "v1/evidence/audit.json").write_text(SECRET)
    (folder / "v1/notes.txt").write_text(SECRET)
    (folder / "v1/model-card.md").symlink_to(outside / "secret.json")
    (folder / "linked").symlink_to(outside / "elsewhere")
    (folder / "half").mkdir()
    (folder / "half/audit.json").symlink_to(outside / "secret.json")
    return folder


@pytest.fixture(scope="module")
def viewed(runs: Path) -> Iterator[Viewed]:
    """A server of these runs."""
    with viewing(runs) as server:
        yield server


def listed(viewed: Viewed) -> dict[str, str]:
    """The id of each run by its name in the list."""
    page = PageReader(viewed.ask("/").body)
    rows = [row for row in page.named("tr") if row.parent and row.parent.name == "tbody"]
    found = {}
    for row in rows:
        (head,) = [cell for cell in row.children if cell.name == "th"]
        links = [each for each in page.named("a") if each.parent is head]
        if links:
            found[links[0].text] = links[0].attributes["href"].split("/")[2]
    return found


def test_the_address_is_data_and_ctrl_c_ends_it(runs: Path) -> None:
    """One line on stdout, the rest on stderr, code 0."""
    with viewing(runs) as server:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", server.url)
        assert server.ask("/").status == 200
        ended = server.end()
    assert (ended.code, ended.out) == (0, "")
    assert "ended" in ended.err


def test_json_mode_prints_one_record(runs: Path) -> None:
    """Address, port and number of runs."""
    with viewing(runs, "--json") as server:
        record = json.loads(server.url)
        assert record["url"].startswith(f"http://127.0.0.1:{record['port']}/?token=")
        assert record["runs"] == 5


def test_two_servers_share_no_secret(runs: Path, viewed: Viewed) -> None:
    """The token of one opens none of the other."""
    with viewing(runs) as other:
        assert other.token != viewed.token
        assert other.ask(f"/?token={viewed.token}", cookie="").status == 403


@pytest.mark.parametrize("path", ["/", "/compare", "/runs/0000000000000000/audit.json", "/x", "//"])
def test_nothing_is_told_without_the_token(viewed: Viewed, path: str) -> None:
    """Not even whether there is such a page."""
    name = viewed.cookie.partition("=")[0]
    for cookie in ("", f"{name}=", f"{name}=wrong", f"{name}={viewed.token[:-1]}", "\x7f;;=,"):
        reply = viewed.ask(path, cookie=cookie)
        assert reply.status == 403
        assert reply.body == viewed.ask("/", cookie="").body
    for token in ("", "wrong", "%00", "é".encode().hex()):
        assert viewed.ask(f"/?token={token}", cookie="").status == 403


def test_the_token_becomes_a_cookie_and_leaves_the_address(viewed: Viewed) -> None:
    """Which no script reads and no other site makes a browser send."""
    reply = viewed.ask(f"/?token={viewed.token}", cookie="")
    assert (reply.status, reply.headers["location"]) == (303, "/")
    _, *rules = reply.headers["set-cookie"].split("; ")
    assert set(rules) == {"Path=/", "HttpOnly", "SameSite=Strict"}
    assert viewed.token not in reply.headers["location"]
    assert viewed.ask("/").status == 200


@pytest.mark.parametrize(
    "hosts",
    [["evil.example"], ["127.0.0.1"], ["127.0.0.1.evil.example:{port}"], [], ["{host}", "{host}"]],
    ids=["another", "no port", "longer", "none", "two"],
)
def test_another_host_is_refused_even_with_the_token(viewed: Viewed, hosts: list[str]) -> None:
    """A name that a page has rebound to this machine is not this machine's."""
    port = viewed.host.split(":")[1]
    told = [each.format(host=viewed.host, port=port) for each in hosts]
    assert viewed.ask(f"/?token={viewed.token}", hosts=told).status == 421
    assert viewed.ask("/", hosts=[f"localhost:{port}"]).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_only_reading_is_allowed(viewed: Viewed, method: str) -> None:
    """Whoever asks."""
    reply = viewed.ask("/", method)
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


def test_head_tells_what_get_would_send(viewed: Viewed) -> None:
    """The same headers and no body."""
    got, head = viewed.ask("/"), viewed.ask("/", "HEAD")
    varying = {"date"}
    assert head.body == b""
    assert {k: v for k, v in head.headers.items() if k not in varying} == {
        k: v for k, v in got.headers.items() if k not in varying
    }
    assert int(head.headers["content-length"]) == len(got.body)


def every_reply(viewed: Viewed) -> list[Reply]:
    """Replies of every sort."""
    key = listed(viewed)["v1"]
    return [
        viewed.ask("/"),
        viewed.ask(f"/runs/{key}/report.html"),
        viewed.ask(f"/runs/{key}/audit.json"),
        viewed.ask(f"/compare?old={key}&new={key}"),
        viewed.ask("/nowhere"),
        viewed.ask("/", cookie=""),
        viewed.ask("/", "POST"),
        viewed.ask("/", hosts=["evil.example"]),
    ]


def test_every_reply_forbids_keeping_framing_and_guessing(viewed: Viewed) -> None:
    """Whatever its status is; no script runs but the report's own."""
    for reply in every_reply(viewed):
        told = reply.headers
        assert told["cache-control"] == "no-store"
        assert told["x-content-type-options"] == "nosniff"
        assert told["referrer-policy"] == "no-referrer"
        policy = dict(part.strip().split(" ", 1) for part in told["content-security-policy"].split(
            ";") if " " in part.strip())  # fmt: skip
        assert policy["default-src"] == policy["base-uri"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["form-action"] in ("'none'", "'self'")
        assert re.fullmatch(r"'sha256-[\w+/=]+'", policy.get("script-src", "'sha256-x'"))
        assert "http" not in told["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.json",
        "/runs/../v1/audit.json",
        "/runs/%2e%2e/audit.json",
        "/runs/{key}/../../v1/notes.txt",
        "/runs/{key}/..%2f..%2fsecret.json",
        "/runs/{key}/notes.txt",
        "/runs/{key}/plan.yaml",
        "/runs/{key}/ledger.jsonl",
        "/runs/{key}/evidence/audit.json",
        "/runs/{key}/model-card.md",
        "/runs/{key}/audit.json%00.html",
        "/runs/{key}/",
        "/v1/audit.json",
        "http://127.0.0.1/runs/{key}/audit.json",
    ],
)
def test_only_known_reports_of_known_runs_are_served(viewed: Viewed, path: str) -> None:
    """No other file, no path out of the folder, no link."""
    reply = viewed.ask(path.format(key=listed(viewed)["v1"]))
    assert reply.status == 404
    assert SECRET.encode() not in reply.body


def test_links_are_not_followed_to_runs(viewed: Viewed) -> None:
    """Neither a folder nor a file that is one; what is no run is not in the list."""
    text = viewed.ask("/").body.decode()
    assert "linked" not in text
    assert "half" not in text
    assert SECRET not in text


def test_runs_are_listed_newest_first_with_their_decision(viewed: Viewed) -> None:
    """An interrupted one is told as not complete, an unreadable one with the reason."""
    page = PageReader(viewed.ask("/").body)
    names = [e.text for e in page.named("a") if e.attributes["href"].endswith("report.html")]
    finished = {
        "deeper/v2": sample_successor().timing.finished,
        "going": written_run.MOMENT,
        "v1": sample_report().timing.finished,
    }
    newest_first = sorted(finished, key=lambda name: finished[name], reverse=True)
    assert [name for name in names if name in finished] == newest_first
    text = viewed.ask("/").body.decode()
    assert text.count("not complete") == 1
    assert text.count("cannot be read") == 1
    assert "audit.json is not valid JSON" in text


def test_a_report_is_served_as_it_lies_or_made_anew(viewed: Viewed, runs: Path) -> None:
    """Of `v2` only `audit.json` was kept."""
    keys = listed(viewed)
    stored = viewed.ask(f"/runs/{keys['v1']}/report.html")
    assert stored.body == (runs / "v1/report.html").read_bytes()
    fresh = viewed.ask(f"/runs/{keys['deeper/v2']}/report.html")
    assert fresh.body == render_html(load_report(runs / "deeper/v2/audit.json"))


@pytest.mark.parametrize("stored", ["of another run", "no report at all"])
def test_a_page_that_is_not_of_the_run_is_not_served(stored: str, tmp_path: Path) -> None:
    """It does not name the fingerprint of the `audit.json` beside it: it is made anew."""
    write_run(tmp_path / "run", sample_report())
    page = render_html(sample_successor()) if stored == "of another run" else stored.encode()
    (tmp_path / "run/report.html").write_bytes(page)
    with viewing(tmp_path) as server:
        reply = server.ask(f"/runs/{listed(server)['run']}/report.html")
    assert reply.body == render_html(load_report(tmp_path / "run/audit.json"))


def test_a_run_that_goes_on_has_a_report(viewed: Viewed) -> None:
    """Of what its ledger holds so far."""
    reply = viewed.ask(f"/runs/{listed(viewed)['going']}/report.html")
    assert reply.status == 200
    assert b"This run is not complete." in reply.body


def test_other_formats_are_shown_as_text(viewed: Viewed, runs: Path) -> None:
    """A browser acts on none of them."""
    key = listed(viewed)["v1"]
    for name in ("audit.json", "summary.md", "junit.xml", "audit.sarif"):
        reply = viewed.ask(f"/runs/{key}/{name}")
        assert reply.body == (runs / "v1" / name).read_bytes()
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert "sandbox" in reply.headers["content-security-policy"]


def test_two_runs_are_compared(viewed: Viewed) -> None:
    """As `auditor diff` does."""
    keys = listed(viewed)
    reply = viewed.ask(f"/compare?old={keys['v1']}&new={keys['deeper/v2']}")
    seals = run_fingerprint(sample_report()), run_fingerprint(sample_successor())
    assert reply.body == render_comparison(
        compare_reports(sample_report(), sample_successor(), seals)
    )


@pytest.mark.parametrize("query", ["", "?old={key}", "?old={key}&new=0", "?new=%00&old=..", "?&&&"])
def test_a_comparison_needs_two_runs(viewed: Viewed, query: str) -> None:
    """And says so."""
    reply = viewed.ask(f"/compare{query.format(key=listed(viewed)['v1'])}")
    assert reply.status == 400
    assert b"choose an old and a new run" in reply.body


def test_a_run_that_cannot_be_read_ends_nothing(viewed: Viewed, runs: Path) -> None:
    """Its page says why in one line, and the next request is answered."""
    page = viewed.ask("/").body.decode()
    key = re.findall(r"/runs/([0-9a-f]{16})/audit\.json", page)
    (broken,) = set(key) - set(listed(viewed).values())
    reply = viewed.ask(f"/compare?old={broken}&new={broken}")
    assert reply.status == 422
    assert b"not valid JSON" in reply.body
    assert viewed.ask("/").status == 200


def test_hostile_names_and_texts_are_inert(viewed: Viewed) -> None:
    """The list has no script and no address but its own, the page of the run neither."""
    page = PageReader(viewed.ask("/").body)
    assert page.unbalanced == []
    assert page.named("script", "img", "iframe") == []
    assert any("<script>" in element.text for element in page.named("a"))
    assert all(e.attributes["href"].startswith(("/", "#")) for e in page.named("a", "use"))
    key = listed(viewed)[HOSTILE_NAME]
    text = viewed.ask(f"/runs/{key}/report.html").body.decode()
    assert len(PageReader(text.encode()).named("script")) == 1
    for shown in (text, viewed.ask("/").body.decode()):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown)


@pytest.mark.parametrize(
    ("words", "found"),
    [("DEEPER", ["deeper/v2"]), ("release 2.4", ["v1"]), ("nothing of the kind", [])],
)
def test_runs_are_found_by_what_they_mention(viewed: Viewed, words: str, found: list[str]) -> None:
    """Folder, plan or subject, capitals or not."""
    page = PageReader(viewed.ask(f"/?words={words.replace(' ', '%20')}").body)
    names = [e.text for e in page.named("a") if e.attributes["href"].endswith("report.html")]
    assert [name for name in names if name != "report.html"] == found


def test_a_run_that_begins_or_changes_is_seen(tmp_path: Path) -> None:
    """Without starting the server again; an empty folder is no error."""
    with viewing(tmp_path) as server:
        assert "No run yet" in server.ask("/").body.decode()
        write_run(tmp_path / "first", sample_report())
        assert sample_report().plan_title in server.ask("/").body.decode()
        (tmp_path / "first/audit.json").write_bytes(render_json(sample_successor()))
        assert sample_successor().plan_title in server.ask("/").body.decode()
        shutil.rmtree(tmp_path / "first")
        assert "No run yet" in server.ask("/").body.decode()


def test_the_folder_of_one_run_is_a_list_of_one(runs: Path) -> None:
    """Called by its own name."""
    with viewing(runs / "v1") as server:
        assert list(listed(server)) == ["v1"]


def test_nothing_is_written(runs: Path, viewed: Viewed) -> None:
    """Not one file is made or touched by looking."""

    def state() -> dict[str, tuple[int, int]]:
        found = (path for path in runs.rglob("*"))
        return {str(p): (p.lstat().st_mtime_ns, p.lstat().st_size) for p in found}

    before = state()
    every_reply(viewed)
    assert state() == before


def test_a_port_in_use_and_a_missing_folder_are_named(runs: Path, viewed: Viewed) -> None:
    """One line with the way out, code 2."""
    port = viewed.host.split(":")[1]
    taken = auditor("view", runs, "--port", port, "--no-browser", cwd=runs)
    assert taken.code == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in taken.err
    missing = auditor("view", "nowhere", "--no-browser", cwd=runs)
    assert (missing.code, missing.out) == (2, "")
    assert "folder of runs not found: nowhere" in missing.err
