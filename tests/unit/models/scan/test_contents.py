"""Bytes judged by what they are: each format goes to its reader, and names promise."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest

from auditor.models.limits import Limits
from auditor.models.scan.byte_source import ByteSource
from auditor.models.scan.contents import inspect_source, keep_promise, read_weights
from auditor.models.scan.decision import Content, Decision, Problem
from auditor.models.scan.limits import ScanLimits
from auditor.models.scan.pickles.accidental import only_words, runs_as_pickle, runs_past
from tests.models.model_folders import entry, safetensors_bytes
from tests.models.onnx_networks import dense_network
from tests.models.packed import tarred, zipped

HOSTILE = "{{ ''.__class__ }}"


def judged(content: bytes, name: str = "a.dat", **limits: int) -> Content:
    """The answer to bytes of a known length."""
    source = ByteSource(io.BytesIO(content).read, size=len(content))
    return inspect_source(source, name, 0, ScanLimits(**limits))


def rules(content: Content) -> list[str]:
    """Of its problems, in order."""
    return [problem.rule for problem in content.problems]


def weights(data: bytes = bytes(8), **metadata: str) -> bytes:
    """A safetensors file with one tensor and these metadata."""
    header = {"__metadata__": metadata, "w": entry("U8", [len(data)], 0, len(data))}
    return safetensors_bytes(header, data)


def _in_archives(content: bytes) -> bytes:
    """More archives and streams around each other than are followed."""
    return gzip.compress(gzip.compress(zipped({"a": content}), mtime=0), mtime=0)


def array(values: object) -> bytes:
    """A NumPy file."""
    whole = io.BytesIO()
    np.save(whole, np.asarray(values))
    return whole.getvalue()


MODEL = dense_network([2, 2]).SerializeToString()
PIECES = b"\x0a\x08\x0a\x01a\x15\0\0\0\0" + b"\x12\x03\x0a\x01x"


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (b"", "empty"),
        (b"words", "text"),
        (weights(), "safetensors"),
        (MODEL, "onnx"),
        (array([1.0, 2.0]), "npy"),
        (zipped({"a.txt": b"words"}), "zip"),
        (tarred({"a.txt": b"words"}), "tar"),
        (gzip.compress(b"words", mtime=0), "gzip"),
        (b"\x89PNG\r\n\x1a\n rest", "PNG picture"),
        (PIECES, "sentencepiece"),
        ("\u00e4\u00f6\u00fc".encode(), "text"),
    ],
)
def test_sound_content_is_accepted_by_its_bytes(content: bytes, format_: str) -> None:
    """With what was looked at; the name says nothing."""
    found = judged(content)
    assert (found.format, rules(found)) == (format_, [])
    assert found.parts


@pytest.mark.parametrize(
    ("content", "rule", "decision"),
    [
        (b"\x7fELF" + bytes(60), "native-code", Decision.REFUSED),
        (b"\x80\x04N.", "pickle-content", Decision.REFUSED),
        (b"7z\xbc\xaf\x27\x1c" + bytes(30), "container", Decision.REFUSED),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "hdf5", None),
        (b"\x08\x01\x12\x10stay.saved_model", "tensorflow-graph", Decision.REFUSED),
        (b"\x1c\0\0\0TFL3" + bytes(30), "unknown-format", Decision.INCONCLUSIVE),
        (b"\x03\xff\x00", "unknown-format", Decision.INCONCLUSIVE),
        (b"\x0a\x0a\x0a\x04node\x12\x02op", "unknown-format", Decision.INCONCLUSIVE),
        (weights()[:-1], "truncated", Decision.REFUSED),
        (zipped({"a.pkl": b"\x80\x04N."}), "pickle-content", Decision.REFUSED),
        (tarred({"a.pkl": b"\x80\x04N."}), "pickle-content", Decision.REFUSED),
        (gzip.compress(b"\x80\x04N.", mtime=0), "pickle-content", Decision.REFUSED),
        (_in_archives(gzip.compress(b"x", mtime=0)), None,
         Decision.INCONCLUSIVE),
    ],
)  # fmt: skip
def test_other_content_is_not_accepted(
    content: bytes, rule: str | None, decision: Decision | None
) -> None:
    """Refused by its rule, or left open."""
    found = judged(content)
    assert rule is None or rule in rules(found)
    assert found.decision is not Decision.ACCEPTED
    assert decision in (None, found.decision)


@pytest.mark.parametrize(
    "ending", [".onnx", ".safetensors", ".gguf", ".npy", ".npz", ".SafeTensors"]
)
def test_a_name_that_promises_another_format_is_refused(ending: str) -> None:
    """First of all problems, so that it is the one that is shown."""
    for content in (b"words", b"", b"\x03\xff"):
        found = judged(content, f"sub/a{ending}")
        assert rules(found)[0] == "name-mismatch"
        assert found.decision is Decision.REFUSED


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.onnx", MODEL), ("a.safetensors", weights()), ("a.npy", array([1])),
     ("a.npz", zipped({"a.npy": array([1])})), ("weights.bin", weights()), ("a", MODEL)],
)  # fmt: skip
def test_a_promise_that_is_kept_is_no_problem(name: str, content: bytes) -> None:
    """Other names promise nothing."""
    assert rules(judged(content, name)) == []


def test_a_refused_or_absent_file_is_not_blamed_for_its_name() -> None:
    """What is wrong with it says more."""
    for problem in (Problem("malformed", "x"), Problem("not-downloaded", "x", "", "",
                                                       Decision.INCONCLUSIVE)):  # fmt: skip
        content = Content("git-lfs pointer", (problem,))
        assert keep_promise(content, "a.safetensors") is content


def test_an_onnx_file_that_is_none_is_refused_only_by_its_name() -> None:
    """Bytes that begin like one are often something else."""
    broken = MODEL[:-2]
    assert rules(judged(broken, "a.onnx")) == ["truncated"]
    assert rules(judged(broken, "a.bin")) == ["unknown-format"]


def test_a_graph_in_an_archive_is_judged_without_its_data() -> None:
    """Which lie outside of what is looked at."""
    model = dense_network([2, 2])
    first = model.graph.initializer[0]
    size = len(first.raw_data) or 16
    first.ClearField("raw_data")
    first.ClearField("float_data")
    first.data_location = 1
    first.external_data.add(key="location", value="w.data")
    first.external_data.add(key="length", value=str(size))
    found = judged(model.SerializeToString(), "m.onnx")
    assert rules(found) == ["container"]
    assert found.decision is Decision.INCONCLUSIVE


def test_large_unknown_content_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its beginning is enough to know that it is no graph."""
    asked = 0

    def read(count: int) -> bytes:
        nonlocal asked
        asked += count
        return b"\x03\xff" * (count // 2)

    found = inspect_source(ByteSource(read, size=2**40), "a.dat", 0, ScanLimits())
    assert rules(found) == ["unknown-format"]
    assert asked <= 2**17


def test_a_graph_beyond_the_limit_is_not_decided() -> None:
    """It would have to be held in memory."""
    found = judged(MODEL, "a.dat", graph_bytes=10)
    assert (rules(found), found.decision) == (["size-limit"], Decision.INCONCLUSIVE)
    assert Limits().file_bytes > 10


def test_templates_in_the_metadata_of_weights_are_judged() -> None:
    """Any key that speaks of one; others are words."""
    assert rules(judged(weights(chat_template="{{ messages }}", note=HOSTILE))) == []
    found = judged(weights(chat_template=HOSTILE))
    assert rules(found) == ["chat-template"]
    assert "chat_template" in found.problems[0].place


@pytest.mark.parametrize("low", range(256))
def test_the_length_of_a_header_may_be_any_opcode(low: int) -> None:
    """It is the first byte of a file, and says nothing of what follows."""
    data = bytes((n * 37 + low) % 256 for n in range(3_000))
    text = json.dumps({"w": entry("U8", [len(data)], 0, len(data))})
    content = safetensors_bytes(text + " " * (low + 256 - len(text)), data)
    assert rules(judged(content)) == []


@pytest.mark.parametrize("padding", [0, 200_000])
def test_weights_that_are_a_pickle_too_are_refused(padding: int, tmp_path: Path) -> None:
    """A line of text for the pickle holds the header; its program lies in the data."""
    marker = tmp_path / "marker"
    program = f"0cos\nmkdir\n(S'{marker}'\ntR.".encode()
    text = '{"w": ' + json.dumps(entry("U8", [len(program)], 0, len(program))) + "," * 0
    text += " " * padding
    length = -(-(len(text) + 2 - 0x56) // 256) * 256 + 0x56
    text += " " * (length - len(text) - 2) + "\n}"
    content = safetensors_bytes(text, program)
    assert content[:1] == b"V"
    found = judged(content, "model.safetensors")
    assert (rules(found), found.decision) == (["polyglot"], Decision.REFUSED)
    assert not marker.exists()


def test_a_picture_that_is_a_pickle_too_is_refused(tmp_path: Path) -> None:
    """`GIF89a...` is a number of eight bytes, and viewers ignore what follows; in archives too."""
    marker = tmp_path / "marker"
    content = b"GIF89a\x01\0\x01" + f"0cos\nmkdir\n(S'{marker}'\ntR.".encode()
    for name in ("a.dat", "a.gif", "pytorch_model.bin"):
        found = judged(content, name)
        assert (rules(found), found.decision) == (["polyglot"], Decision.REFUSED)
    assert "polyglot" in rules(judged(zipped({"m.gif": content})))
    assert not marker.exists()


WORDS = ["cat\ndog\n", "cat\ndog\nbird\nfish\n", "iris\nrose\n", "car\nboat\nplane\n",
         "Copyright (c) 2026 Nobody.\nAll rights reserved.\n" * 9, "Notes.\n", "I am\na text.\n",
         "copy\nthat\n", "0\n1\n2\n", "(a) one\n(b) two\n"]  # fmt: skip


@pytest.mark.parametrize("text", WORDS)
def test_words_are_no_pickle(text: str) -> None:
    """Though an unpickler would begin to read them."""
    found = judged(text.encode(), "labels.txt")
    assert (found.format, rules(found)) == ("text", [])


@pytest.mark.parametrize(
    "start",
    ["", "S'" + "a" * 70_000 + "'\n0", "V" + "b" * 70_000 + "\n0", "N0" * 40_000, "(lp0\n0"],
)
def test_a_printable_pickle_is_no_text(start: str, tmp_path: Path) -> None:
    """However long it puts off what it does, and whatever it is called."""
    marker = tmp_path / "marker"
    for end in ("tR.", "tRXXX", "tR"):
        program = f"{start}cos\nmkdir\n(S'{marker}'\n{end}".encode()
        for name in ("notes.txt", "model.pkl", "params.yaml"):
            found = judged(program, name)
            assert "pickle-import" in rules(found)
            assert found.decision is Decision.REFUSED
    assert not marker.exists()


def test_how_bytes_run_as_a_pickle() -> None:
    """Calls before it gives up count, calls after do not; so does an end."""

    def runs(content: bytes) -> bool:
        return runs_as_pickle(ByteSource(io.BytesIO(content).read), ScanLimits())

    assert runs(b"N.")
    assert runs(b"cos\ngetcwd\n(tR\xff")
    assert not runs(b"cos\ngetcwd\n\xff(tR.")
    assert not runs(b"tRcos\ngetcwd\n(tR.")
    assert not runs(b"")
    assert only_words(b"cat\ndog\n", whole=True)
    assert not only_words(b"cat\ndog\n", whole=False)
    assert not only_words(b"cos\npath\n", whole=True)
    assert runs_past(b"Vabc")
    assert not runs_past(b"# words")


def test_weights_of_unknown_length_are_not_accepted() -> None:
    """A compressed stream does not say how long it is."""
    found = judged(gzip.compress(weights(), mtime=0), "a.gz")
    assert found.decision is not Decision.ACCEPTED


def test_reading_weights_says_how_many_tensors() -> None:
    """For the answer."""
    content = weights()
    found = read_weights(io.BytesIO(content), len(content), ScanLimits())
    assert dict(found.facts) == {"tensors": "1"}
    assert found.parts == ("header", "metadata")


CHAT = "{% for message in messages %}{{ message.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("settings.json", json.dumps({"a": [{"chat_template": [HOSTILE]}]})),
        ("settings.json", json.dumps([{"default_chat_template": HOSTILE}])),
        ("chat.template", HOSTILE),
        ("a.TMPL", CHAT + HOSTILE),
        ("a.yaml", f'chat_template: "{HOSTILE}"'),
        ("a.yaml", f"chat_template:\n- name: tools\n  template: |\n    {HOSTILE}\n"),
        ("a.yaml", f"a: &x |\n  {HOSTILE}\nb:\n  chat_template: *x\n"),
    ],
)
def test_templates_are_judged_where_no_library_looks_for_them(name: str, content: str) -> None:
    """Some tool may be told to take them from there."""
    found = judged(content.encode(), name)
    assert rules(found) == ["chat-template"]
    assert found.decision is Decision.REFUSED


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("settings.json", json.dumps({"chat_template": CHAT, "text": HOSTILE})),
        ("settings.json", '"chat_template"'),
        ("settings.json", '{"chat_template": '),
        ("settings.json", json.dumps({"chat_template": "{{ .Prompt }}"})),
        ("modelfile.template", "{{ if .System }}{{ .System }}{{ end }}"),
        ("a.yaml", "chat_template: chatml\nother: \"{{ ''.__class__ }}\"\n"),
        ("a.yaml", "chat_template:\n  {{ .Values }}: 1\n"),
    ],
)
def test_other_texts_and_templates_of_other_languages_are_no_problem(
    name: str, content: str
) -> None:
    """What does not parse is for somebody else; YAML that is none is not decided, as before."""
    assert Decision.REFUSED not in {
        each.decision for each in judged(content.encode(), name).problems
    }


@pytest.mark.parametrize("name", ["settings.json", "a.yaml"])
def test_templates_without_end_are_not_judged(name: str) -> None:
    """Each takes its time, however short it is."""
    many = [{"chat_template": f"{{{{ {number} }}}}"} for number in range(2_000)]
    found = judged(json.dumps(many).encode(), name)
    assert set(rules(found)) == {"text-limit"}
    assert found.decision is Decision.INCONCLUSIVE


def test_a_json_text_longer_than_is_read_stays_a_text() -> None:
    """As large data sets are; no more is said than that its beginning was looked at."""
    found = judged(json.dumps({"chat_template": HOSTILE}).encode(), "a.json", text_bytes=20)
    assert (found.format, found.problems, found.parts) == ("text", (), ("beginning",))
