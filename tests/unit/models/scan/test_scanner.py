"""Scanning a whole file or folder: what is judged, what is hashed, and what stays open."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import onnx
import onnx.helper
import pytest

from auditor.errors import FileMissing
from auditor.models.scan.answer import PathScan
from auditor.models.scan.decision import Decision
from auditor.models.scan.file_content import inspect_file
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.scanner import scan_path
from auditor.models.scan.tree import list_tree
from tests.models.model_folders import entry, safetensors_bytes, write_folder, write_sharded
from tests.models.onnx_networks import dense_network

SCANNER = "auditor.models.scan.scanner"
WEIGHTS = safetensors_bytes({"w": entry("F32", [2], 0, 8)}, bytes(8))


def rules(scan: PathScan) -> list[tuple[str, str]]:
    """File and rule of each problem."""
    return [(name, problem.rule) for name, problem in scan.all_problems()]


def formats(scan: PathScan) -> dict[str, str]:
    """What each file is."""
    return {file.name: file.content.format for file in scan.files}


def write(path: Path, content: bytes | str) -> Path:
    """A file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_file_is_judged_and_hashed(tmp_path: Path) -> None:
    """By its own name."""
    path = write(tmp_path / "a.safetensors", WEIGHTS)
    scan = scan_path(path)
    (file,) = scan.files
    assert (scan.decision, scan.is_folder) == (Decision.ACCEPTED, False)
    assert (file.name, file.size) == ("a.safetensors", len(WEIGHTS))
    assert (file.content.format, file.content.facts["tensors"]) == ("safetensors", "1")
    assert file.sha256 == hashlib.sha256(WEIGHTS).hexdigest()


def test_a_file_need_not_be_hashed(tmp_path: Path) -> None:
    """Judged all the same."""
    write(tmp_path / "a.pkl", b"\x80\x04N.")
    write(tmp_path / "b.safetensors", WEIGHTS)
    scan = scan_path(tmp_path, hashed=False)
    assert {file.sha256 for file in scan.files} == {""}
    assert scan.decision is Decision.REFUSED


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    """And no verdict."""
    with pytest.raises(FileMissing):
        scan_path(tmp_path / "absent")


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    """Nobody writes to it."""
    os.mkfifo(tmp_path / "pipe")
    scan = scan_path(tmp_path / "pipe")
    assert (rules(scan), scan.decision) == ([("", "not-a-file")], Decision.REFUSED)


def test_a_file_that_must_not_be_read_is_not_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone and in a folder; root may read everything, so the system's answer is made up."""
    path = write(tmp_path / "a.bin", b"x")
    real = os.open

    def refuse(file: Any, *arguments: Any, **options: Any) -> int:
        if os.fspath(file).endswith("a.bin"):
            raise PermissionError(13, "Permission denied")
        return real(file, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    for scanned in (path, tmp_path):
        scan = scan_path(scanned)
        assert [rule for _, rule in rules(scan)] == ["unreadable"]
        assert scan.decision is Decision.INCONCLUSIVE


@pytest.mark.parametrize("inside", [(), (".git/config",), ("empty/",)])
def test_a_folder_without_files_is_not_decided(tmp_path: Path, inside: tuple[str, ...]) -> None:
    """Nothing was looked at, so nothing is called clean."""
    for name in inside:
        if name.endswith("/"):
            (tmp_path / name).mkdir()
        else:
            write(tmp_path / name, "x")
    scan = scan_path(tmp_path)
    assert (rules(scan), scan.decision) == ([("", "no-files")], Decision.INCONCLUSIVE)


def test_a_sound_model_folder_is_accepted(tmp_path: Path) -> None:
    """With its kind, each file and the digests that sha256sum gives."""
    folder = write_sharded(tmp_path / "model")
    scan = scan_path(folder)
    assert (scan.decision, list(scan.all_problems())) == (Decision.ACCEPTED, [])
    assert dict(scan.kinds) == {".": "transformers (gpt2)"}
    for file in scan.files:
        assert file.sha256 == hashlib.sha256((folder / file.name).read_bytes()).hexdigest()
    assert {file.name for file in scan.files} == {each.name for each in folder.iterdir()}


def test_two_models_below_one_folder_are_both_judged(tmp_path: Path) -> None:
    """Each under its own path; a problem of one names it."""
    write_folder(tmp_path / "a")
    write_folder(tmp_path / "b" / "c")
    write(tmp_path / "b" / "c" / "extra.xyz", "?")
    scan = scan_path(tmp_path)
    assert scan.kinds == {"a": "transformers (gpt2)", "b/c": "transformers"}
    assert [(p.rule, p.place) for p in scan.problems] == [("unknown-file", "b/c/extra.xyz")]
    assert scan.decision is Decision.REFUSED


def test_a_model_inside_a_model_belongs_to_it(tmp_path: Path) -> None:
    """The outer layout has no place for the weights of the inner."""
    write_folder(write_folder(tmp_path / "outer") / "inner")
    scan = scan_path(tmp_path)
    assert list(scan.kinds) == ["outer"]
    assert ("outer/inner/model.safetensors", "unknown-file") in rules(scan)
    assert "outer/inner/model.safetensors" in formats(scan)


def test_a_hub_cache_is_scanned_through_its_links(tmp_path: Path) -> None:
    """The repository with blobs and snapshot, and the snapshot alone."""
    whole = write_folder(tmp_path / "whole")
    repository = tmp_path / "models--org--name"
    snapshot = repository / "snapshots" / "rev"
    snapshot.mkdir(parents=True)
    for file in whole.iterdir():
        blob = hashlib.sha256(file.read_bytes()).hexdigest()
        write(repository / "blobs" / blob, file.read_bytes())
        (snapshot / file.name).symlink_to(f"../../blobs/{blob}")
    alone, both = scan_path(snapshot), scan_path(repository)
    assert alone.decision is both.decision is Decision.ACCEPTED
    assert both.kinds == {"snapshots/rev": "transformers (gpt2)"}
    assert {f.sha256 for f in alone.files} == {f.sha256 for f in both.files}
    assert all(f.sha256 == f.name.rpartition("/")[2] for f in both.files if "blobs" in f.name)


def test_a_file_of_holes_is_judged_and_not_hashed(tmp_path: Path) -> None:
    """A header that covers four terabytes; in a model's folder too."""
    size = 2**42 - 1024
    folder = write_folder(tmp_path / "model")
    with (folder / "model.safetensors").open("wb") as file:
        file.write(safetensors_bytes({"w": entry("U8", [size], 0, size)}))
        file.truncate(file.tell() + size)
    scan = scan_path(folder)
    (weights,) = (file for file in scan.files if file.name == "model.safetensors")
    assert (scan.decision, weights.sha256) == (Decision.ACCEPTED, "")
    assert weights.content.facts["tensors"] == "1"


def test_a_file_that_grows_while_it_is_read_is_not_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was hashed may not be what was judged."""
    path = write(tmp_path / "a.txt", "words")

    def and_grow(*arguments: Any) -> Any:
        found = inspect_file(*arguments)
        with path.open("ab") as file:
            file.write(b"more")
        return found

    monkeypatch.setattr(f"{SCANNER}.inspect_file", and_grow)
    scan = scan_path(path)
    assert (rules(scan), scan.decision) == ([("a.txt", "changed")], Decision.INCONCLUSIVE)


def test_a_file_replaced_after_the_listing_is_not_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one of another size, or by a link."""
    for name in ("longer", "link"):
        write(tmp_path / name, "x")

    def and_replace(*arguments: Any) -> Any:
        tree = list_tree(*arguments)
        write(tmp_path / "longer", "xyz")
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("longer")
        return tree

    monkeypatch.setattr(f"{SCANNER}.list_tree", and_replace)
    scan = scan_path(tmp_path)
    assert {name for name, _ in rules(scan)} == {"longer", "link"}
    assert scan.decision is Decision.INCONCLUSIVE


def with_data(folder: Path, data: bytes, location: str = "m.data") -> Path:
    """A graph whose only tensor lies in a file beside it."""
    model = dense_network([len(data) // 4, 1])
    first = model.graph.initializer[0]
    first.ClearField("raw_data")
    first.ClearField("float_data")
    first.dims[:] = [len(data) // 4, 1]
    first.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", str(len(data)))):
        first.external_data.add(key=key, value=value)
    write(folder / location, data)
    write(folder / "m.onnx", model.SerializeToString())
    return folder


@pytest.mark.parametrize(
    "start",
    [b"\x80\x02", b"\x80\x04\x95", b"\x1f\x8b\x08\x00", b"\x08\x01\x02", b"\0\0", b"GGUF\x03\0\0\0",
     b"\x93NUMPY\x01\0", b"c\x01\x02\n"],
)  # fmt: skip
def test_numbers_of_a_graph_may_begin_like_anything(tmp_path: Path, start: bytes) -> None:
    """They have no format of their own; the graph says what they are."""
    data = start + bytes(range(1, 256)) * 4
    folder = with_data(tmp_path, data + bytes(-len(data) % 4))
    scan = scan_path(folder)
    assert rules(scan) == []
    assert formats(scan) == {"m.data": "data of an ONNX graph", "m.onnx": "onnx"}


def test_numbers_without_a_graph_are_not_decided(tmp_path: Path) -> None:
    """The same bytes, and nothing that names them; or a graph that is refused."""
    data = b"\x03\xff" + bytes(range(254))
    write(tmp_path / "alone" / "m.data", data)
    assert rules(scan_path(tmp_path / "alone")) == [("m.data", "unknown-format")]
    folder = with_data(tmp_path / "b", data)
    write(folder / "m.onnx", (folder / "m.onnx").read_bytes()[:-3])
    assert ("m.data", "unknown-format") in rules(scan_path(folder))


def test_a_pickle_is_not_excused_by_a_graph_that_names_it(tmp_path: Path) -> None:
    """Whole, or with numbers behind it that break it off after it has run."""
    marker = tmp_path / "marker"
    pickle = f"cos\nmkdir\n(S'{marker}'\ntR".encode()
    for number, data in enumerate((pickle + b".", pickle + b"\xff" * 9, b"\x80\x02}.")):
        folder = tmp_path / f"given{number}"
        with_data(folder, data + bytes(-len(data) % 4), "pytorch_model.bin")
        scan = scan_path(folder)
        assert ("pytorch_model.bin", "pickle-content") in rules(scan)
        assert scan.decision is Decision.REFUSED
    assert not marker.exists()


@pytest.mark.parametrize("base", ["weights", "graph", "text"])
@pytest.mark.parametrize("behind", [b"", b"rest"])
def test_a_zip_behind_another_file_is_refused(tmp_path: Path, base: str, behind: bytes) -> None:
    """Readers of archives look from the end; few mind a byte behind it."""
    import io
    import zipfile

    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("data.pkl", b"\x80\x02N.")
    tail = inner.getvalue() + behind
    if base == "weights":
        content = safetensors_bytes({"w": entry("U8", [len(tail)], 0, len(tail))}, tail)
        path = write(tmp_path / "a.safetensors", content)
    elif base == "graph":
        model = dense_network([2, 2])
        model.doc_string = "x"
        model.graph.initializer.add(name="z", dims=[len(tail)], data_type=2, raw_data=tail)
        path = write(tmp_path / "a.onnx", model.SerializeToString())
    else:
        path = write(tmp_path / "a.txt", b"words\n" + tail)
    assert "polyglot" in {rule for _, rule in rules(scan_path(path))}


def test_every_file_is_scanned_whatever_came_before(tmp_path: Path) -> None:
    """A refused one does not hide the others, and the worst decides."""
    write(tmp_path / "a.pkl", b"\x80\x04N.")
    write(tmp_path / "b.py", "x = 1\n")
    write(tmp_path / "c.safetensors", WEIGHTS)
    scan = scan_path(tmp_path)
    assert formats(scan) == {"a.pkl": "pickle", "b.py": "code", "c.safetensors": "safetensors"}
    assert scan.decision is Decision.REFUSED


def test_limits_are_passed_on(tmp_path: Path) -> None:
    """To the listing and to the readers."""
    write(tmp_path / "a.yaml", "a: 1\n")
    write(tmp_path / "b.yaml", "a: 1\n")
    assert rules(scan_path(tmp_path, ScanLimits(files=1))) == [("", "file-limit")]
    limited = scan_path(tmp_path / "a.yaml", ScanLimits(text_bytes=2))
    assert rules(limited) == [("a.yaml", "text-limit")]


def test_a_configuration_in_a_folder_of_its_own_is_judged(tmp_path: Path) -> None:
    """Also where no model lies beside it, and in a hidden folder."""
    write(tmp_path / ".cache" / "config.json", json.dumps({"auto_map": {"A": "b.C"}}))
    scan = scan_path(tmp_path)
    assert rules(scan) == [(".cache/config.json", "custom-code")]
