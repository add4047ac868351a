"""Files that somebody exchanges while they are being opened."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.models.hostile_files.case import given
from tests.models.hostile_files.onnx_data_files import model_of
from tests.models.hostile_files.payload import touching
from tests.models.model_folders import entry, safetensors_bytes, write_sharded
from tests.models.onnx_networks import dense_network, write_model

_SHARD: Final = "model-00001-of-00002.safetensors"
_LARGE: Final = 4 * 2**20
SECRET: Final = b"not to be read" * 8
_PICKLE: Final = pickle.dumps(["text"], 0)
Exchange = Callable[[Path, Path], object]
"""What is done to a file; the second path is the file outside."""


@dataclass(frozen=True)
class Race:
    """One exchange.

    Attributes:
        id: Its name.
        build: Writes what is opened, and what lies outside; returns the path to open.
        victim: The file that is exchanged, relative to the folder of `build`.
        at: At which of its openings; a stream that is made of a descriptor counts too. Or, if
            negative, at which of the calls that read it.
        exchange: What is done.
        opener: `scan`, `onnx` or `folder`: what opens the path.
        expected: One of these has to be the rule, the decision or the error that comes of it.
        unseen: Bytes that are judged nowhere, so that no digest of them may be told.
    """

    id: str
    build: Callable[[Path, Path], Path]
    victim: str
    at: int
    exchange: Exchange
    opener: str
    expected: frozenset[str]
    unseen: bytes = SECRET


def _replace_by_link(victim: Path, secret: Path) -> None:
    victim.unlink()
    victim.symlink_to(secret)


def _replace_by_hard_link(victim: Path, secret: Path) -> None:
    victim.unlink()
    os.link(secret, victim)


def _replace_by_pipe(victim: Path, secret: Path) -> None:
    victim.unlink()
    os.mkfifo(victim)


def _replace_by_pickle(victim: Path, secret: Path) -> None:
    beside = victim.with_name("beside")
    beside.write_bytes(touching(victim.parent.parent / "marker"))
    beside.replace(victim)


def _replace_by_model(victim: Path, secret: Path) -> None:
    victim.write_bytes(dense_network([3, 2], seed=7).SerializeToString())


def _truncate(victim: Path, secret: Path) -> None:
    os.truncate(victim, victim.stat().st_size // 2)


def _grow(victim: Path, secret: Path) -> None:
    with victim.open("ab") as stream:
        stream.write(bytes(1000))


def _link_folder(victim: Path, secret: Path) -> None:
    victim.rename(victim.with_name("moved"))
    victim.symlink_to(secret.parent, target_is_directory=True)


def _network(folder: Path, marker: Path) -> Path:
    return write_model(given(folder), dense_network([3, 4, 2]))


def _network_with_data(folder: Path, marker: Path) -> Path:
    (given(folder) / "w.bin").write_bytes(bytes(64))
    return write_model(given(folder), model_of({"location": "w.bin"}))


def _weights(folder: Path, marker: Path) -> Path:
    path = given(folder) / "model.safetensors"
    header = {"w": entry("U8", [_LARGE], 0, _LARGE)}
    path.write_bytes(safetensors_bytes(header, bytes(_LARGE)))
    return path


def _shards(folder: Path, marker: Path) -> Path:
    return write_sharded(given(folder) / "model")


def _text_in_a_model(folder: Path, marker: Path) -> Path:
    root = write_sharded(given(folder) / "model")
    (root / "notes.txt").write_bytes(_PICKLE)
    return root


def _replace_by_words(victim: Path, secret: Path) -> None:
    beside = victim.with_name("beside")
    beside.write_bytes(b"# " + b"x" * (len(_PICKLE) - 2))
    beside.replace(victim)


def _sub_folder(folder: Path, marker: Path) -> Path:
    root = given(folder) / "model"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "secret.bin").write_bytes(b"may be looked at"[: len(SECRET) // 8] * 8)
    return root


def _race(
    race_id: str, build: Callable[[Path, Path], Path], victim: str, at: int, exchange: Exchange,
    opener: str, expected: str, unseen: bytes = SECRET,
) -> Race:  # fmt: skip
    return Race(race_id, build, f"given/{victim}", at, exchange, opener,
                frozenset(expected.split()), unseen)  # fmt: skip


_LOST = "changed unreadable link-escape not-a-file inconclusive"
RACES: tuple[Race, ...] = (
    _race("shard-swapped-by-a-link-after-listing", _shards, f"model/{_SHARD}", 1,
          _replace_by_link, "scan", _LOST),
    _race("shard-swapped-by-a-link-while-a-folder-is-read", _shards, f"model/{_SHARD}", 1,
          _replace_by_link, "folder", "unreadable changed"),
    _race("shard-swapped-by-a-pipe-after-listing", _shards, f"model/{_SHARD}", 1,
          _replace_by_pipe, "scan", _LOST),
    _race("shard-swapped-by-a-pickle-after-listing", _shards, f"model/{_SHARD}", 1,
          _replace_by_pickle, "scan", f"{_LOST} pickle-content pickle-import refused"),
    _race("folder-swapped-by-a-link-after-listing", _sub_folder, "model/sub", 1, _link_folder,
          "scan", _LOST),
    _race("folder-swapped-by-a-link-while-it-is-open", _sub_folder, "model/sub/secret.bin", 1,
          lambda victim, secret: _link_folder(victim.parent, secret), "scan",
          f"{_LOST} accepted"),
    _race("text-swapped-between-two-readings", _text_in_a_model, "model/notes.txt", 2,
          _replace_by_words, "scan", f"{_LOST} accepted pickle-content", _PICKLE),
    _race("weights-cut-after-opening", _weights, "model.safetensors", 2, _truncate, "scan",
          "truncated changed tensor-gap"),
    _race("weights-cut-while-they-are-read", _weights, "model.safetensors", -4, _truncate, "scan",
          "truncated changed tensor-gap"),
    _race("weights-grown-after-opening", _weights, "model.safetensors", 2, _grow, "scan",
          "changed tensor-gap"),
    _race("network-replaced-between-digest-and-load", _network, "model.onnx", 1,
          _replace_by_model, "onnx", "FileChanged"),
    _race("data-file-swapped-by-a-link-before-it-is-read", _network_with_data, "w.bin", 2,
          _replace_by_link, "onnx", "external-data-symlink"),
    _race("data-file-swapped-by-a-hard-link-before-it-is-read", _network_with_data, "w.bin", 2,
          _replace_by_hard_link, "onnx", "external-data-hardlink"),
    _race("data-file-swapped-by-a-pipe-before-it-is-read", _network_with_data, "w.bin", 2,
          _replace_by_pipe, "onnx", "external-data-not-a-file"),
    _race("data-file-cut-before-it-is-read", _network_with_data, "w.bin", 2,
          lambda victim, secret: os.truncate(victim, 4), "onnx", "external-data-range FileChanged"),
)  # fmt: skip
