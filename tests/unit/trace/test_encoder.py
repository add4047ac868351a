"""Tokens are those of the tokenizer, with the bytes that each covers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from auditor.errors import ConfigurationError, FileMissing, RefusedInput
from auditor.trace import encoder as encoder_module
from auditor.trace.encoder import PIECE_BYTES, UNKNOWN, TextEncoder, read_encoder
from tests.unit.trace.tokenizers_for_tests import byte_tokenizer, word_tokenizer


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer's file."""
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


@settings(deadline=None, max_examples=200)
@given(text=st.text(st.characters(codec="utf-8"), max_size=60))
@example(text="é 😀😀 the cat\x00\n")
@example(text="")
def test_ids_are_the_tokenizers_and_places_are_bytes(path: Path, text: str) -> None:
    """Whoever counts characters over from their start finds the same places."""
    expected = Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False)
    found = read_encoder(path).encode(text.encode())
    assert found.ids.tolist() == expected.ids
    starts = [len(text[:start].encode()) for start, _ in expected.offsets]
    stops = [len(text[:stop].encode()) for _, stop in expected.offsets]
    assert (found.begins.tolist(), found.ends.tolist()) == (starts, stops)


@settings(deadline=None, max_examples=100)
@given(content=st.binary(max_size=60))
@example(content=b"\xff\xfe the \xe9\xe9 cat \xf0\x9f")
def test_tokens_cover_every_byte_and_what_is_no_utf8_is_unknown(path: Path, content: bytes) -> None:
    found = read_encoder(path).encode(content)
    covered = {
        at
        for begin, end in zip(found.begins.tolist(), found.ends.tolist(), strict=True)
        for at in range(begin, end)
    }
    assert covered == set(range(len(content)))
    invalid = {
        at
        for number, begin, end in zip(found.ids.tolist(), found.begins.tolist(),
                                      found.ends.tolist(), strict=True)
        if number == UNKNOWN
        for at in range(begin, end)
    }  # fmt: skip
    kept = bytes(byte for at, byte in enumerate(content) if at not in invalid)
    assert kept == content.decode(errors="ignore").encode()


def test_what_the_tokenizer_does_not_know_is_unknown(tmp_path: Path) -> None:
    encoder = read_encoder(word_tokenizer(tmp_path / "t.json"))
    found = encoder.encode(b"w3 zebra  w5")
    assert found.ids.tolist() == [3, UNKNOWN, 5]
    assert found.begins.tolist() == [0, 3, 10]
    assert found.ends.tolist() == [2, 8, 12]


def test_long_text_is_cut_where_lines_end_and_keeps_its_tokens(path: Path) -> None:
    text = "".join(f"line {number} of the cat 😀\n" for number in range(9_000))
    assert len(text.encode()) > 3 * PIECE_BYTES
    encoder = read_encoder(path)
    pieces = list(encoder.pieces(text.encode()))
    assert len(pieces) > 3
    for piece in pieces[1:]:
        assert text.encode()[: piece.begins[0]].endswith(b"\n")
    whole = Tokenizer.from_file(str(path)).encode(text, add_special_tokens=False)
    assert encoder.encode(text.encode()).ids.tolist() == whole.ids


@pytest.mark.parametrize("unit", ["é", "😀", "a", "a 😀"])
def test_long_text_without_lines_is_never_cut_within_a_character(path: Path, unit: str) -> None:
    text = ("x" + unit * (3 * PIECE_BYTES // len(unit.encode()))).encode()
    found = read_encoder(path).encode(text)
    assert UNKNOWN not in found.ids
    assert (found.begins[0], found.ends[-1]) == (0, len(text))


def test_settings_for_training_do_not_count(path: Path, tmp_path: Path) -> None:
    """Truncation to two tokens, padding, and a token put before each text."""
    plain = Tokenizer.from_file(str(path))
    before = read_encoder(path).encode(b"the cat sat").ids.tolist()
    plain.enable_truncation(2)
    plain.enable_padding(length=50)
    plain.save(str(tmp_path / "t.json"))
    assert read_encoder(tmp_path / "t.json").encode(b"the cat sat").ids.tolist() == before


def test_a_tokenizer_that_is_none_is_named(tmp_path: Path, path: Path) -> None:
    (tmp_path / "t.json").write_bytes(b"{}")
    with pytest.raises(ConfigurationError, match=r"t\.json is no tokenizer: .*tokenizer\.json"):
        read_encoder(tmp_path / "t.json")
    with pytest.raises(FileMissing, match="tokenizer not found: nowhere"):
        read_encoder(Path("nowhere"))


def test_a_tokenizer_that_draws_lots_is_refused(path: Path) -> None:
    plain = json.loads(path.read_bytes())
    plain["model"]["dropout"] = 0.1
    with pytest.raises(ConfigurationError, match=r"at random \(dropout 0\.1\); set it to null"):
        TextEncoder(json.dumps(plain).encode(), "t.json")


def test_ids_without_measure_are_refused(tmp_path: Path) -> None:
    """Room for counting is taken by the largest id."""
    plain = json.loads(word_tokenizer(tmp_path / "t.json").read_bytes())
    plain["model"]["vocab"]["w1"] = 2**31
    with pytest.raises(ConfigurationError, match="a token with the id 2147483648"):
        TextEncoder(json.dumps(plain).encode(), "t.json")


def test_a_huge_file_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "MAX_TOKENIZER_BYTES", 100)
    with pytest.raises(RefusedInput, match="has more than 100 bytes"):
        read_encoder(path)


def test_text_at_which_the_tokenizer_fails_is_named(tmp_path: Path) -> None:
    """A model that has no token for what it does not know."""
    plain = json.loads(word_tokenizer(tmp_path / "t.json").read_bytes())
    del plain["model"]["vocab"]["[UNK]"]
    encoder = TextEncoder(json.dumps(plain).encode(), "t.json")
    with pytest.raises(ConfigurationError, match=r"t\.json cannot tokenise 'zebra': .*; use ano"):
        encoder.encode(b"zebra")
