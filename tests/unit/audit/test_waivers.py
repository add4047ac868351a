"""Waivers: what they cover, when they end, and adding one to a file that people edit."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from auditor.audit.waivers import Waiver, add_waiver, load_waivers
from auditor.errors import ConfigurationError, InvalidText

TODAY = date(2026, 11, 23)
WAIVER = """
- match: AUD201
  model_digest: any
  reason: the region is outside the product's use
  approved_by: release owner
  expires: {expires}
"""


def test_a_waiver_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "waivers.yaml"
    file.write_text(WAIVER.format(expires="2027-03-31"))
    (waiver,) = load_waivers(file, TODAY)
    assert (waiver.match, waiver.expires) == ("AUD201", date(2027, 3, 31))


def test_a_waiver_may_not_run_longer_than_a_year(tmp_path: Path) -> None:
    file = tmp_path / "waivers.yaml"
    file.write_text(WAIVER.format(expires="2028-01-01"))
    with pytest.raises(InvalidText, match=r"waivers.yaml:6:\d+: expires 2028-01-01 is more than"):
        load_waivers(file, TODAY)


@pytest.mark.parametrize("key", ["reason", "approved_by", "expires", "model_digest"])
def test_a_waiver_needs_its_fields(tmp_path: Path, key: str) -> None:
    file = tmp_path / "waivers.yaml"
    lines = WAIVER.format(expires="2027-03-31").splitlines()
    file.write_text("\n".join(line for line in lines if f"{key}:" not in line))
    with pytest.raises(InvalidText, match=f"{key}: Field required"):
        load_waivers(file, TODAY)


def waiver(match: str, digest: str = "any") -> Waiver:
    return Waiver(match=match, model_digest=digest, reason="r", approved_by="a", expires=TODAY)


def test_a_waiver_names_a_code_an_id_or_a_fingerprint_or_a_glob_over_them() -> None:
    names = ("AUD201", "AUD201:digits", "0" * 32)
    assert all(waiver(match).names(names) for match in (*names, "AUD2*", "*:digits"))
    assert not any(waiver(match).names(names) for match in ("AUD20", "AUD3*", "digits"))
    assert [waiver(match).is_glob for match in ("AUD201", "AUD2*", "AUD20?")] == [False, True, True]


def test_a_waiver_for_one_model_is_not_for_another() -> None:
    assert waiver("AUD201", "sha256:a").is_for("sha256:a")
    assert not waiver("AUD201", "sha256:a").is_for("sha256:b")
    assert waiver("AUD201").is_for("sha256:b")


HEAD = """\
# accepted in the review of March
-   match: AUD202   # one check
    model_digest: any
    reason: "outside the product's use"
    approved_by: release owner
    expires: 2027-01-31
# the next review is in May
"""


def new(**changes: object) -> Waiver:
    """A waiver that nothing is wrong with."""
    fields = {
        "match": "AUD201", "model_digest": "any", "reason": "it is: 'so' # really",
        "approved_by": "release owner", "expires": TODAY + timedelta(days=30),
    }  # fmt: skip
    return Waiver.model_validate({**fields, **changes})


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("indent", ["", "  "])
def test_adding_keeps_what_stands_there(tmp_path: Path, line_end: str, indent: str) -> None:
    """Comments, order, quotes, indentation and line ends: the old bytes are the beginning."""
    text = "".join(f"{indent}{line}{line_end}" for line in HEAD.splitlines())
    file = tmp_path / "w.yaml"
    file.write_bytes(text.encode())
    add_waiver(file, new(), TODAY)
    assert file.read_bytes().startswith(text.encode())
    assert [waiver.match for waiver in load_waivers(file, TODAY)] == ["AUD202", "AUD201"]
    assert load_waivers(file, TODAY)[1] == new()


@pytest.mark.parametrize("text", [None, "", "# nothing yet\n", "# no line end"])
def test_adding_begins_a_file(tmp_path: Path, text: str | None) -> None:
    """Also one that holds nothing but a comment."""
    file = tmp_path / "w.yaml"
    if text is not None:
        file.write_text(text)
    add_waiver(file, new(ticket="ABC-1"), TODAY)
    assert load_waivers(file, TODAY) == (new(ticket="ABC-1"),)
    assert file.read_text().startswith(text or "")


def test_a_list_that_cannot_be_appended_to_is_left_alone(tmp_path: Path) -> None:
    """It is said how it would have to be written."""
    file = tmp_path / "w.yaml"
    file.write_text("[]\n")
    with pytest.raises(ConfigurationError, match="a line starting '- ' for each waiver"):
        add_waiver(file, new(), TODAY)
    assert file.read_text() == "[]\n"


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"match": " "}, "--match is empty"),
        ({"model_digest": "sha256:12"}, "neither 'any' nor sha256"),
        ({"expires": TODAY - timedelta(days=1)}, "is past"),
        ({"expires": TODAY + timedelta(days=366)}, "the last day is 2027-11-23"),
        ({"match": "AUD202"}, "already waives 'AUD202' for model any, until 2027-01-31"),
    ],
)
def test_a_wrong_waiver_is_not_added(tmp_path: Path, changes: dict[str, object], part: str) -> None:
    """The file stays as it is."""
    file = tmp_path / "w.yaml"
    file.write_text(HEAD)
    with pytest.raises(ConfigurationError, match=part):
        add_waiver(file, new(**changes), TODAY)
    assert file.read_text() == HEAD


def test_the_longest_waiver_and_one_for_another_model_are_added(tmp_path: Path) -> None:
    """The last day allowed is allowed; a duplicate is one for the same model."""
    file = tmp_path / "w.yaml"
    file.write_text(HEAD)
    add_waiver(file, new(expires=TODAY + timedelta(days=365)), TODAY)
    add_waiver(file, new(match="AUD202", model_digest="sha256:" + "a" * 64), TODAY)
    assert len(load_waivers(file, TODAY)) == 3


@pytest.mark.parametrize(("days", "soon"), [(-1, False), (0, True), (14, True), (15, False)])
def test_days_left_and_the_end_that_is_near(days: int, soon: bool) -> None:
    """The last day counts as a day on which it holds."""
    ending = new(expires=TODAY + timedelta(days=days))
    assert (ending.days_left(TODAY), ending.ends_soon(TODAY)) == (days, soon)


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    """It names the byte."""
    (tmp_path / "p.yaml").write_bytes(b"fail_on: \xff")
    with pytest.raises(InvalidText, match=r"p\.yaml: not UTF-8 text at byte 9"):
        load_waivers(tmp_path / "p.yaml", TODAY)
