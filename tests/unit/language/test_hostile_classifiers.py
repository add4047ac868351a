"""Classifier folders of strangers: what a configuration counts is no reason to count that far."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auditor.errors import ConfigurationError, RefusedModel, UnsupportedModel
from auditor.language.sequence_classifier import (
    MAX_TOKENS,
    most_tokens,
    open_sequence_classifier,
    read_configuration,
    read_labels,
)
from auditor.models.folder_config import MAX_COUNT

CONFIG: dict[str, Any] = {
    "architectures": ["BertForSequenceClassification"], "model_type": "bert", "vocab_size": 8,
    "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4,
    "max_position_embeddings": 16, "id2label": {"0": "safe", "1": "unsafe"},
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Those of a classifier with this configuration."""
    transformers: Any = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("whole")
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**{
        **CONFIG, "id2label": {0: "safe", 1: "unsafe"},
    }))  # fmt: skip
    model.save_pretrained(folder)
    return (folder / "model.safetensors").read_bytes()


def folder_of(path: Path, weights: bytes, **changed: object) -> Path:
    """A folder with these weights and a configuration that was changed."""
    path.mkdir(exist_ok=True)
    (path / "model.safetensors").write_bytes(weights)
    (path / "config.json").write_text(json.dumps({**CONFIG, **changed}))
    (path / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": [],
        "model": {"type": "WordLevel", "vocab": {"a": 0, "[UNK]": 1}, "unk_token": "[UNK]"},
    }))  # fmt: skip
    return path


def test_the_whole_classifier_opens(tmp_path: Path, weights: bytes) -> None:
    """Otherwise what is refused below would say nothing."""
    opened = open_sequence_classifier(folder_of(tmp_path / "m", weights))
    assert opened.labels == ("safe", "unsafe")


@pytest.mark.parametrize(
    "changed",
    [
        {"num_labels": 10**9}, {"num_labels": MAX_COUNT + 1}, {"num_hidden_layers": 10**9},
        {"text_config": {"model_type": "bert", "num_labels": 10**9}}, {"n_layer": 10**400},
        {"parts": [[{"encoder_layers": 10**12}]]},
    ],
    ids=str,
)  # fmt: skip
def test_counts_that_no_model_has_are_refused(
    tmp_path: Path, weights: bytes, changed: dict[str, object]
) -> None:
    """transformers would make a name for each before it looks at any weight."""
    folder = folder_of(tmp_path / "m", weights, **changed)
    with pytest.raises(RefusedModel, match="config-count") as caught:
        open_sequence_classifier(folder)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "changed",
    [
        {"num_attention_heads": 0}, {"hidden_size": -4}, {"vocab_size": 10**30},
        {"max_position_embeddings": 10**18}, {"pad_token_id": 10**30}, {"hidden_size": 2**62},
        {"layer_norm_eps": [1]}, {"hidden_act": "no-such"}, {"num_labels": "2"},
        {"id2label": {"0": "a", "1": "b", "2": "c"}}, {"intermediate_size": 10**9},
    ],
    ids=str,
)  # fmt: skip
def test_sizes_that_do_not_fit_are_one_line(
    tmp_path: Path, weights: bytes, changed: dict[str, object]
) -> None:
    """Whatever transformers makes of them: a division by zero, an assertion, an overflow."""
    with pytest.raises((RefusedModel, UnsupportedModel)) as caught:
        open_sequence_classifier(folder_of(tmp_path / "m", weights, **changed))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("content", ["[" * 100_000, '{"model":' * 500, "{}", "", "\0"])
def test_a_tokenizer_that_is_none_is_one_line(tmp_path: Path, weights: bytes, content: str) -> None:
    """Deep, empty, of nothing."""
    folder = folder_of(tmp_path / "m", weights)
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises((RefusedModel, UnsupportedModel)) as caught:
        open_sequence_classifier(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "config",
    [
        '{"id2label":' + "[" * 100_000, '{"model_type":"bert","num_labels":NaN}', "[]", "",
        '{"id2label":{"0":"a","0":"b"}}', '{"num_labels":' + "1" * 5_000 + "}",
    ],
    ids=lambda config: config[:24],
)  # fmt: skip
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, config: str) -> None:
    """Deep, no object, a key twice, endless digits."""
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(RefusedModel) as caught:
        read_configuration(tmp_path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "table", [None, [], {}, {"0": "a"}, {"0": "a", "2": "b"}, {"a": "0", "b": "1"}, "ab", 10**9]
)
def test_labels_that_are_not_numbered_are_refused(tmp_path: Path, table: object) -> None:
    """Fewer than two, with a gap, no table."""
    with pytest.raises(ConfigurationError, match="numbered from 0"):
        read_labels(tmp_path, {"id2label": table})


@pytest.mark.parametrize("positions", [10**18, 10**400, True, -5, 0, "9", None, 2.5, [9]])
def test_no_configuration_makes_a_model_read_more(positions: object) -> None:
    """Nor less than one token."""
    assert most_tokens({"max_position_embeddings": positions}) == MAX_TOKENS
