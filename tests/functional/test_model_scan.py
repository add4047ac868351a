"""`auditor model scan` from the command line: exit codes, records, SARIF, and hostile names."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.functional.command import Ended, auditor
from tests.models.model_folders import (
    entry,
    safetensors_bytes,
    write_folder,
    write_sharded,
)
from tests.models.onnx_networks import dense_network

SCHEMA = Path(__file__).parents[3] / "shared/data/schemas/sarif-schema-2.1.0.json"
WEIGHTS = safetensors_bytes({"w": entry("F32", [2], 0, 8)}, bytes(8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Something of each answer: `good`, `open`, `bad`, and single files of each."""
    write_sharded(tmp_path / "good")
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "convert.py").write_text("print(1)\n")
    (tmp_path / "bad").mkdir()
    marker = tmp_path / "marker"
    pickle = f"cos\nmkdir\n(S'{marker}'\ntR.".encode()
    (tmp_path / "bad" / "b.bin").write_bytes(pickle)
    (tmp_path / "bad" / "a.dat").write_bytes(b"\x03" + bytes(range(200)))
    (tmp_path / "w.safetensors").write_bytes(WEIGHTS)
    (tmp_path / "net.onnx").write_bytes(dense_network([2, 2]).SerializeToString())
    (tmp_path / "raw.dat").write_bytes(b"\x03" + bytes(range(200)))
    return tmp_path


def scan(folder: Path, *arguments: str) -> Ended:
    """How the scan ended; never with a traceback, and nothing was executed."""
    ended = auditor("model", "scan", *arguments, cwd=folder)
    assert "Traceback" not in ended.err
    assert not (folder / "marker").exists()
    return ended


def records(ended: Ended) -> list[dict[str, Any]]:
    """The lines of JSON."""
    return [json.loads(line) for line in ended.out.splitlines()]


@pytest.mark.parametrize(
    ("paths", "code"),
    [
        (("good",), 0),
        (("open",), 3),
        (("good", "raw.dat", "net.onnx"), 3),
        (("bad", "open", "good"), 6),
        (("empty",), 3),
        (("pipe",), 6),
        (("bad", "absent"), 2),
        (("good", "-o", "pdf=x"), 2),
    ],
)
def test_exit_codes(folder: Path, paths: tuple[str, ...], code: int) -> None:
    """The worst path decides; a path that is missing is a slip of the user."""
    (folder / "empty").mkdir()
    os.mkfifo(folder / "pipe")
    ended = scan(folder, *paths)
    assert ended.code == code, ended.out + ended.err
    assert bool(ended.out) is (code != 2)


def test_a_clean_answer_says_what_was_looked_at(folder: Path) -> None:
    """One line for each path, and no more than was established."""
    (folder / "good" / ".git").mkdir()
    (folder / "good" / ".git" / "config").write_text("x")
    lines = scan(folder, "good", "w.safetensors").out.splitlines()
    assert len(lines) == 3
    assert "transformers (gpt2); nothing in these parts matched a known danger" in lines[0]
    assert "2 safetensors" in lines[0]
    assert lines[1] == "good: not looked at: .git"
    assert lines[2].endswith("matched a known danger: header, metadata")


def test_problems_name_file_place_rule_and_way_out(folder: Path) -> None:
    """Refused ones first, each on one line."""
    lines = scan(folder, "bad").out.splitlines()
    assert lines[0].startswith("refused bad/b.bin")
    assert "[pickle-content]" in lines[0]
    assert any("imports 'os.mkdir'" in line for line in lines)
    assert lines[-1].startswith("not decided: bad/a.dat")


def test_many_open_questions_do_not_hide_a_refusal(folder: Path) -> None:
    """The lines are cut, and the refusal is among them."""
    for number in range(60):
        (folder / "bad" / f"a{number}.dat").write_bytes(b"\x03\xff")
    lines = scan(folder, "bad").out.splitlines()
    assert any(line.startswith("refused bad/b.bin") for line in lines)
    assert "more problems; --json lists all of them" in lines[-1]


def test_records_hold_all_files_and_all_problems(folder: Path) -> None:
    """One for each path, in the order of the paths; the first problem stands at the top."""
    good, bad = records(scan(folder, "good", "bad", "--json"))
    assert (good["path"], good["verdict"], good["problems"]) == ("good", "accepted", [])
    assert good["models"] == {".": "transformers (gpt2)"}
    assert not {"rule", "file", "reason"} & good.keys()
    for file in good["files"]:
        content = (folder / "good" / file["name"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert (file["size"], file["verdict"]) == (len(content), "accepted")
        assert file["looked_at"]
    assert (bad["path"], bad["verdict"]) == ("bad", "refused")
    assert (bad["file"], bad["rule"]) == ("b.bin", "pickle-content")
    assert [each["file"] for each in bad["problems"]] == ["a.dat", "b.bin", "b.bin"]
    first = bad["problems"][1]
    assert {key: bad[key] for key in first} == first


def test_without_hash_no_file_has_a_digest(folder: Path) -> None:
    """By the option or the environment; the answer is the same."""
    by_option = records(scan(folder, "good", "w.safetensors", "--no-hash", "--json"))
    ended = auditor("model", "scan", "good", "--json", cwd=folder, env={"AUDITOR_SCAN_HASH": "0"})
    for record in (*by_option, json.loads(ended.out)):
        assert record["verdict"] == "accepted"
        assert {file["sha256"] for file in record["files"]} == {""}


def test_sarif_is_written_beside_the_answer(folder: Path) -> None:
    """For all paths together, valid, with the exit code; the answer is printed as ever."""
    plain = scan(folder, "bad", "good")
    ended = scan(folder, "bad", "good", "-o", "sarif=out/scan.sarif")
    assert (ended.code, ended.out) == (plain.code, plain.out)
    log = json.loads((folder / "out" / "scan.sarif").read_text("utf-8"))
    (run,) = log["runs"]
    assert run["invocations"][0]["exitCode"] == 6
    assert {result["ruleId"] for result in run["results"]} == {
        "pickle-content", "pickle-import", "unknown-format",
    }  # fmt: skip
    assert "good/config.json" in {a["location"]["uri"] for a in run["artifacts"]}
    if not SCHEMA.is_file():
        pytest.skip(f"needs the official schema at {SCHEMA}")
    errors = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text("utf-8"))).iter_errors(log)
    assert [error.message for error in errors] == []


def test_sarif_that_cannot_be_written_is_one_line(folder: Path) -> None:
    """A slip of the user, after the answer."""
    ended = scan(folder, "good", "-o", "sarif=w.safetensors/x")
    assert ended.code == 2
    assert len(ended.err.splitlines()) == 1


NAMES = (b"<script>.py", b"\x1b[2J.py", b"a\n::error::x.py", b"\xe2\x80\xaeyp.py", b"\xff\xfe.py",
         b"[red]x.py")  # fmt: skip


def test_hostile_names_do_not_act(folder: Path) -> None:
    """On the terminal, in the records and in SARIF; all of them are there."""
    inside = folder / "named"
    inside.mkdir()
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(inside) + b"/" + name)).write_text("x")
    ended = scan(folder, "named", "-o", "sarif=scan.sarif")
    assert ended.code == 6
    assert all(line.isprintable() for line in ended.out.splitlines())
    assert not any(line.lstrip().startswith("::") for line in ended.out.splitlines())
    assert "named/[red]x.py" in ended.out
    text = (folder / "scan.sarif").read_text("utf-8")
    assert not {"\x1b", "\u202e"} & set(text)
    (record,) = records(scan(folder, "named", "--json"))
    assert {file["name"] for file in record["files"]} == {os.fsdecode(name) for name in NAMES}


def test_hostile_paths_that_are_accepted_do_not_act(folder: Path) -> None:
    """They stand at the start of the line, where a build log looks for commands."""
    names = ("::error::x.safetensors", "\x1b[2J.safetensors")
    for name in names:
        (folder / name).write_bytes(WEIGHTS)
    ended = scan(folder, "--", *names)
    assert ended.code == 0
    assert len(ended.out.splitlines()) == 2
    assert not any(line.startswith("::") for line in ended.out.splitlines())
    assert all(line.isprintable() for line in ended.out.splitlines())


def test_a_pointer_of_git_lfs_says_what_to_do(folder: Path) -> None:
    """Nothing was fetched, so nothing can be said."""
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (folder / "m.safetensors").write_text(text)
    ended = scan(folder, "m.safetensors")
    assert ended.code == 3
    assert "git lfs pull" in ended.out


def test_archives_are_looked_into(folder: Path) -> None:
    """A pickle in a zip in a zip is found, and named by its members."""
    with zipfile.ZipFile(folder / "inner.zip", "w") as archive:
        archive.write(folder / "bad" / "b.bin", "b.bin")
    with zipfile.ZipFile(folder / "outer.zip", "w") as archive:
        archive.write(folder / "inner.zip", "in/inner.zip")
    (record,) = records(scan(folder, "outer.zip", "--json"))
    assert record["verdict"] == "refused"
    places = [each["place"] for each in record["problems"] if each["rule"] == "pickle-content"]
    assert any("inner.zip" in place and "b.bin" in place for place in places)


def test_a_folder_of_models_is_one_answer(folder: Path) -> None:
    """The kinds of all of them, by their paths."""
    write_folder(folder / "all" / "one")
    write_sharded(folder / "all" / "deep" / "two")
    (record,) = records(scan(folder, "all", "--json"))
    assert record["verdict"] == "accepted"
    assert record["models"] == {
        "deep/two": "transformers (gpt2)", "one": "transformers (gpt2)",
    }  # fmt: skip
