"""Model folders: what is read of a sound one, and by which rule a dangerous one is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import FileChanged, FileMissing, RefusedModel
from auditor.models.limits import FolderLimits
from auditor.models.transformers_folder import read_folder
from tests.models.model_folders import (
    CONFIG,
    WEIGHTS,
    safetensors_bytes,
    write_folder,
    write_index,
    write_sharded,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound model folder."""
    return write_folder(tmp_path / "model")


def refusal(folder: Path, limits: FolderLimits | None = None) -> RefusedModel:
    """The refusal of a folder, one line with a way out."""
    with pytest.raises(RefusedModel) as caught:
        read_folder(folder, limits=limits)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.way_out
    return caught.value


def test_a_sound_folder_is_described(folder: Path) -> None:
    """Type, numbers, types of numbers, files, and bytes."""
    found = read_folder(folder)
    assert (found.path, found.model_type, found.parameter_count) == (folder, "gpt2", 9)
    assert found.dtypes == {"F16": 3, "F32": 6}
    assert found.files == ("config.json", "model.safetensors", "tokenizer.json")
    assert found.size == sum((folder / name).stat().st_size for name in found.files)
    (weights,) = found.weights
    assert (weights.name, weights.path) == ("model.safetensors", folder / "model.safetensors")
    assert {tensor.name: tensor.shape for tensor in weights.tensors} == {
        name: value.shape for name, value in WEIGHTS.items()
    }


def test_the_offsets_of_a_tensor_are_those_of_its_bytes(folder: Path) -> None:
    """Reading the file between them gives back the numbers."""
    (weights,) = read_folder(folder).weights
    content = weights.path.read_bytes()
    for tensor in weights.tensors:
        dtype = {"F32": np.float32, "F16": np.float16}[tensor.dtype]
        found = np.frombuffer(content[tensor.begin : tensor.end], dtype).reshape(tensor.shape)
        assert np.array_equal(found, WEIGHTS[tensor.name])


def test_the_digest_is_the_documented_one(folder: Path) -> None:
    """What sha256sum of the model's files gives, through sha256sum."""
    lines = "".join(
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("config.json", "model.safetensors", "tokenizer.json")
    )
    expected = f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    assert read_folder(folder, expected_digest=expected).digest == expected


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_changed_part_changes_the_digest(folder: Path, name: str) -> None:
    """Configuration, tokenizer and chat template are the model as much as its weights."""
    before = read_folder(folder).digest
    (folder / name).write_text(json.dumps(CONFIG | {"n_embd": 3}))
    with pytest.raises(FileChanged, match="changed during the run"):
        read_folder(folder, expected_digest=before)


def test_documents_and_hidden_files_do_not_change_the_digest(folder: Path) -> None:
    """A corrected model card is not another model."""
    before = read_folder(folder).digest
    (folder / "README.md").write_text("# Another text\n")
    (folder / "LICENSE").unlink()
    (folder / ".cache").mkdir()
    (folder / ".cache" / "lock.py").write_text("")
    assert read_folder(folder).digest == before


def test_sharded_weights_are_read_with_their_index(tmp_path: Path) -> None:
    """The same numbers as in one file."""
    found = read_folder(write_sharded(tmp_path / "model"))
    assert [file.name for file in found.weights] == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    ]  # fmt: skip
    assert found.parameter_count == 9


def test_a_snapshot_of_the_cache_is_read_through_its_links(tmp_path: Path, folder: Path) -> None:
    """With the digest of the same files without links."""
    blobs = tmp_path / "repository" / "blobs"
    snapshot = tmp_path / "repository" / "snapshots" / "revision"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(folder.iterdir())):
        shutil.copy(file, blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    assert read_folder(snapshot).digest == read_folder(folder).digest


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_configuration_or_weights_is_no_model(folder: Path, name: str) -> None:
    """The message names the file that is missing."""
    (folder / name).unlink()
    with pytest.raises(FileMissing, match=f"of a transformers model not found: .*{name}"):
        read_folder(folder)


def test_a_path_that_is_no_folder_is_missing(tmp_path: Path) -> None:
    """So is one that does not exist."""
    (tmp_path / "file").touch()
    for name in ("file", "absent"):
        with pytest.raises(FileMissing):
            read_folder(tmp_path / name)


class _Marker:
    """A pickle of this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def _archive(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("data.txt", "x")
    elif kind == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("a"))
    else:
        buffer.write(gzip.compress(b"x"))
    return buffer.getvalue()


@pytest.mark.parametrize("name", [
    "pytorch_model.bin", "model.pt", "x.pth", "x.ckpt", "x.pkl", "sub/training_args.BIN",
    "README.md", "tokenizer.model", "model.safetensors", "vocab.txt",
])  # fmt: skip
def test_a_pickle_is_refused_whatever_it_is_called(folder: Path, name: str) -> None:
    """And not opened: what it would do has not happened."""
    marker = folder.parent / "marker"
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(pickle.dumps(_Marker(marker)))
    found = refusal(folder)
    assert (found.rule, found.place) == ("pickle-content", name)
    assert not marker.exists()


def test_weights_named_like_a_pickle_are_refused_by_name(folder: Path) -> None:
    """Libraries go by the name, so safetensors called .bin would be unpickled."""
    shutil.copy(folder / "model.safetensors", folder / "pytorch_model.bin")
    assert refusal(folder).rule == "pickle-content"


@pytest.mark.parametrize("kind", ["zip", "tar", "gzip"])
def test_an_archive_is_refused_whatever_it_is_called(folder: Path, kind: str) -> None:
    """Nothing is unpacked."""
    (folder / "vocab.txt").write_bytes(_archive(kind))
    assert refusal(folder).rule == "container"


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("modeling_x.py", "custom-code"),
        ("sub/__init__.py", "custom-code"),
        ("kernel.so", "custom-code"),
        ("more.zip", "container"),
        ("model.onnx", "unknown-file"),
        ("weights.gguf", "unknown-file"),
        ("sub/model.safetensors", "unknown-file"),
        ("noname", "unknown-file"),
    ],
)
def test_files_of_other_kinds_are_refused_by_name(folder: Path, name: str, rule: str) -> None:
    """Only what belongs to a model is let through."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    found = refusal(folder)
    assert (found.rule, found.place) == (rule, name)


def test_text_that_happens_to_parse_as_an_old_pickle_is_text(folder: Path) -> None:
    """A licence must not be refused for the letters it begins with."""
    (folder / "LICENSE").write_text("(N.")
    (folder / "vocab.txt").write_text("(N.")
    assert "vocab.txt" in read_folder(folder).files


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        (CONFIG | {"auto_map": {"AutoModel": "modeling_x.X"}}, "custom-code"),
        (CONFIG | {"text_config": {"trust_remote_code": True}}, "custom-code"),
        (CONFIG | {"layers": [{"_target_": "os.system"}]}, "custom-code"),
        (CONFIG | {"_attn_implementation_internal": "sdpa"}, "config-reference"),
        (CONFIG | {"_attn_implementation": "someone/kernel"}, "config-reference"),
        (CONFIG | {"attn_implementation": {"text": "someone/kernel"}}, "config-reference"),
        (CONFIG | {"transformers_weights": "pytorch_model.bin"}, "config-reference"),
        (CONFIG | {"vocab_file": "../../secret"}, "config-reference"),
        ({"n_embd": 2}, "malformed"),
        (CONFIG | {"model_type": "../x"}, "malformed"),
        (CONFIG | {"model_type": ["gpt2"]}, "malformed"),
    ],
)
def test_configuration_that_steers_elsewhere_is_refused(
    tmp_path: Path, config: dict[str, Any], rule: str
) -> None:
    """At any depth."""
    found = refusal(write_folder(tmp_path / "model", config))
    assert (found.rule, found.place) == (rule, "config.json")


def test_harmless_forms_of_these_keys_are_let_through(tmp_path: Path) -> None:
    """Keys that ask for nothing, names of implementations, and an old path that nobody opens."""
    config = CONFIG | {
        "auto_map": {}, "trust_remote_code": False, "_attn_implementation": "sdpa",
        "special_tokens_map_file": "/home/somebody/special_tokens_map.json",
        "tokenizer_file": None, "vocab_file": "vocab.txt",
    }  # fmt: skip
    assert read_folder(write_folder(tmp_path / "model", config)).model_type == "gpt2"


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json"])
def test_every_configuration_is_looked_at(folder: Path, name: str) -> None:
    """The tokenizer's may name code as well."""
    (folder / name).write_text('{"auto_map": {"AutoTokenizer": ["x.X", null]}}')
    assert (refusal(folder).rule, refusal(folder).place) == ("custom-code", name)


def test_an_adapter_is_refused(folder: Path) -> None:
    """It would make the library load another model."""
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/other"}')
    assert refusal(folder).rule == "adapter"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (b'{"model_type": "a", "model_type": "b"}', "duplicate-field"),
        (b'{"model_type": "a", "eps": NaN}', "malformed"),
        (b'{"model_type": "a", "eps": -Infinity}', "malformed"),
        (b"[]", "malformed"),
        (b"", "malformed"),
        (b'{"model_type": "a\xff"}', "invalid-text"),
        (b"\xef\xbb\xbf{}", "malformed"),
        (b'{"a":' * 10_000, "nesting-limit"),
    ],
)
def test_configuration_is_strict_json(folder: Path, text: bytes, rule: str) -> None:
    """What two readers could read differently is not read."""
    (folder / "config.json").write_bytes(text)
    assert refusal(folder).rule == rule


@pytest.mark.parametrize(
    ("limits", "place"),
    [
        (FolderLimits(config_bytes=10), "config.json"),
        (FolderLimits(weight_bytes=10), "model.safetensors"),
        (FolderLimits(other_bytes=20), "tokenizer.json"),
    ],
)
def test_sizes_are_limited_before_anything_is_read(
    folder: Path, limits: FolderLimits, place: str
) -> None:
    """Each kind of file has a limit of its own."""
    (folder / "LICENSE").unlink()
    found = refusal(folder, limits)
    assert (found.rule, found.place) == ("size-limit", place)


def test_a_sparse_file_behind_a_small_header_is_not_hashed(folder: Path) -> None:
    """A terabyte of holes is refused by its header, at once."""
    (folder / "model.safetensors").write_bytes(safetensors_bytes({}))
    os.truncate(folder / "model.safetensors", 2**40)
    assert refusal(folder).rule == "tensor-gap"


def test_links_that_leave_the_folder_are_refused(folder: Path) -> None:
    """Also for a file that nobody would read."""
    (folder.parent / "secret").write_text("secret")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("../secret")
    assert (refusal(folder).rule, refusal(folder).place) == ("link-escape", "README.md")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"h.0.bias": "../outside.safetensors"}, "index-escape"),
        ({"h.0.bias": "/tmp/outside.safetensors"}, "index-escape"),
        ({"h.0.bias": ".hidden.safetensors"}, "index-escape"),
        ({"h.0.bias": "model-00003-of-00002.safetensors"}, "index-missing"),
        ({"h.0.bias": "tokenizer.json"}, "index-missing"),
        ({"h.0.bias": "model-00001-of-00002.safetensors"}, "weights-ambiguous"),
        ({"h.1.bias": "model-00001-of-00002.safetensors"}, "index-tensor"),
        ({"h.0.weight": 3}, "malformed"),
    ],
)
def test_an_index_that_does_not_fit_the_files_is_refused(
    tmp_path: Path, changes: dict[str, Any], rule: str
) -> None:
    """Every tensor has to be where the index says, and every file has to be named."""
    folder = write_sharded(tmp_path / "model")
    places: dict[str, Any] = {
        "h.0.weight": "model-00001-of-00002.safetensors",
        "h.0.bias": "model-00002-of-00002.safetensors",
    }
    write_index(folder, places | changes)
    found = refusal(folder)
    assert (found.rule, found.place) == (rule, "model.safetensors.index.json")


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    """Which one is loaded would be a matter of order."""
    folder = write_sharded(tmp_path / "model")
    content = safetensors.numpy.save(WEIGHTS)
    (folder / "model-00001-of-00002.safetensors").write_bytes(content)
    assert refusal(folder).rule == "duplicate-tensor"


def test_weights_that_nothing_names_are_refused(folder: Path) -> None:
    """Beside model.safetensors, and instead of it without an index."""
    shutil.copy(folder / "model.safetensors", folder / "model.fp16.safetensors")
    assert refusal(folder).rule == "weights-ambiguous"
    (folder / "model.safetensors").unlink()
    assert refusal(folder).rule == "weights-ambiguous"


def test_a_header_whose_length_looks_like_another_format_is_read(folder: Path) -> None:
    """35615 is 1f 8b, the beginning of gzip."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})
    content = safetensors_bytes(header.ljust(0x8B1F), b"\0")
    assert content.startswith(b"\x1f\x8b")
    (folder / "model.safetensors").write_bytes(content)
    assert read_folder(folder).parameter_count == 1


FILES = ("config.json", "model.safetensors", "tokenizer.json", "model.safetensors.index.json")


@given(
    name=st.sampled_from(FILES), at=st.floats(0, 1), cut=st.integers(0, 30),
    put=st.binary(max_size=8), shard=st.booleans(),
)  # fmt: skip
def test_a_damaged_folder_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    at: float,
    cut: int,
    put: bytes,
    shard: bool,
) -> None:
    """Whatever happens to the bytes of a file: a clear answer, and the digest has changed."""
    write = write_sharded if shard else write_folder
    folder = write(tmp_path_factory.mktemp("damaged") / "model")
    whole = read_folder(folder).digest
    path = folder / name
    content = path.read_bytes() if path.exists() else b""
    place = int(at * len(content))
    damaged = content[:place] + put + content[place + cut :]
    path.write_bytes(damaged)
    try:
        found = read_folder(folder)
    except RefusedModel:
        assert refusal(folder).place
    else:
        assert (found.digest == whole) == (damaged == content)


def many_files(folder: Path) -> Path:
    """A model whose parts are read at the same time."""
    write_sharded(folder)
    for number in range(12):
        (folder / f"part{number:02}.txt").write_text(f"text {number}" * 5_000)
    return folder


def test_files_that_are_read_at_once_have_the_digest_of_sha256sum(tmp_path: Path) -> None:
    """Names, hashes and weights stand in order, whichever was read first."""
    folder = many_files(tmp_path / "model")
    found = read_folder(folder)
    names = sorted(p.name for p in folder.iterdir()
                   if p.name not in ("README.md", "LICENSE", ".gitattributes"))  # fmt: skip
    made = subprocess.run(["sha256sum", *names], cwd=folder, capture_output=True, check=True)
    assert found.digest == f"sha256:{hashlib.sha256(made.stdout).hexdigest()}"
    assert list(found.hashes) == list(found.files) == names
    assert [file.name for file in found.weights] == sorted(file.name for file in found.weights)


def test_the_first_file_in_order_gives_the_error(tmp_path: Path) -> None:
    """Whichever was read first."""
    folder = many_files(tmp_path / "model")
    for name in ("part03.txt", "part07.txt", "model-00002-of-00002.safetensors"):
        (folder / name).write_bytes(pickle.dumps([1], protocol=4))
    for _ in range(5):
        assert refusal(folder).place == "model-00002-of-00002.safetensors"
    (folder / "config.json").write_text("{")
    assert refusal(folder).place == "config.json"


def test_an_error_ends_the_reading_of_the_others(tmp_path: Path) -> None:
    """Terabytes of zeros behind a sound header are not read to their end first."""
    folder = write_sharded(tmp_path / "model")
    size = 2**40
    for number in (1, 2):
        with (folder / f"model-0000{number}-of-00002.safetensors").open("wb") as file:
            file.write(safetensors_bytes({"w": {"dtype": "U8", "shape": [size],
                                                "data_offsets": [0, size]}}))  # fmt: skip
            file.truncate(file.tell() + size)
    (folder / "config.json").write_text("{")
    assert refusal(folder).place == "config.json"


def test_a_folder_need_not_be_hashed(tmp_path: Path) -> None:
    """Its weights are described all the same, and their bytes not read."""
    folder = write_sharded(tmp_path / "model")
    found, whole = read_folder(folder, hashed=False), read_folder(folder)
    assert found.digest == ""
    assert {found.hashes[file.name] for file in found.weights} == {""}
    assert (found.files, found.size, found.parameter_count, found.dtypes) == (
        whole.files, whole.size, whole.parameter_count, whole.dtypes,
    )  # fmt: skip


HOSTILE_TEMPLATE = "{{ ''.__class__ }}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("chat_template.jinja", HOSTILE_TEMPLATE),
        ("additional_chat_templates/tool_use.jinja", HOSTILE_TEMPLATE),
        ("chat_template.json", json.dumps({"chat_template": HOSTILE_TEMPLATE})),
        ("tokenizer_config.json", json.dumps({"chat_template": HOSTILE_TEMPLATE})),
        ("tokenizer_config.json", json.dumps({"chat_template": {"a": HOSTILE_TEMPLATE}})),
        ("processor_config.json", json.dumps({"a": {"chat_template": HOSTILE_TEMPLATE}})),
    ],
)
def test_a_chat_template_that_reaches_further_is_refused(
    folder: Path, name: str, text: str
) -> None:
    """Wherever transformers looks for one; an ordinary one is let through."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    found = refusal(folder)
    assert found.rule == "chat-template"
    assert found.place.startswith(name)
    (folder / name).write_text(text.replace(".__class__", ""))
    read_folder(folder)


@pytest.mark.parametrize(
    "config",
    [{"custom_op": "ops.so"}, {"a": [{"b": ["x/ops.dll"]}]}, {"library": "libops.so.1.2"},
     {"_name_or_path": "hf://org/name"}, {"attn_implementation": ["org/kernel"]}],
)  # fmt: skip
def test_a_configuration_that_names_a_library_or_a_host_is_refused(
    folder: Path, config: dict[str, Any]
) -> None:
    """In every configuration of the folder."""
    (folder / "genai_config.json").write_text(json.dumps(config))
    assert refusal(folder).rule == "config-reference"


@pytest.mark.parametrize("name", ["org/model", "/home/someone/model", "C:\\models\\m", ""])
def test_where_a_model_came_from_is_let_through(tmp_path: Path, name: str) -> None:
    """`save_pretrained` writes it into every model, and nothing is fetched for it."""
    folder = write_folder(tmp_path / "model", CONFIG | {"_name_or_path": name})
    assert "config.json" in read_folder(folder).files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("modules.json", '[{"type": "os.system", "path": ""}]'),
        ("modules.json", '{"type": "sentence_transformers.models.Pooling"}'),
        ("router_config.json", '{"types": {"a": "somebody.Layer"}}'),
        ("2_Dense/config.json", '{"activation_function": "somebody.run"}'),
    ],
)
def test_parts_that_are_imported_by_name_are_of_the_library(
    folder: Path, name: str, text: str
) -> None:
    """sentence-transformers imports what these files name."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    assert (refusal(folder).rule, refusal(folder).place) == ("custom-code", name)


def test_parts_of_sentence_transformers_are_let_through(folder: Path) -> None:
    """As its own models have them."""
    (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Pooling"}]')
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "config.json").write_text(
        '{"activation_function": "torch.nn.modules.activation.Tanh"}'
    )
    assert "modules.json" in read_folder(folder).files
