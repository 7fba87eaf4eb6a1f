"""A SentencePiece file of byte pairs is read without its library, and cuts text as its scores say."""

import struct

import pytest

from robosteer_core.errors import UserError
from robosteer_core.vla.sentencepiece import read_sentencepiece

SPACE = "\u2581"


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def piece(text, score=0.0, kind=1):
    return field(1, field(1, text.encode()) + field(2, score) + (field(3, kind) if kind != 1 else b""))


SPECIAL = [("<pad>", 3), ("<eos>", 3), ("<bos>", 3), ("<unk>", 2), ("\n", 4), ("<loc0000>", 4)]
MERGED = ["re", "ed", "red", f"{SPACE}c", "cu", "be", f"{SPACE}red", "cub", f"{SPACE}cube"]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz", SPACE]


def model(kind=2, prefix=False):
    pieces = [piece(text, kind=of) for text, of in SPECIAL]
    pieces += [piece(f"<0x{value:02X}>", kind=6) for value in range(256)]
    pieces += [piece(text, -float(rank)) for rank, text in enumerate(MERGED)]
    pieces += [piece(text, -1000.0 - rank) for rank, text in enumerate(LETTERS)]
    return b"".join(pieces) + field(2, field(3, kind)) + field(3, field(1, b"identity") + field(3, int(prefix)))


def cut(text):
    """The best-scored pair of neighbours is joined until none is known."""
    parts = list(text.replace(" ", SPACE))
    while True:
        pairs = [(MERGED.index(a + b), i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in MERGED]
        if not pairs:
            return parts
        i = min(pairs)[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


@pytest.fixture
def tokenizer(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(model())
    return read_sentencepiece(tmp_path / "tokenizer.model")


@pytest.mark.parametrize("text", ["red", "a red cube", "cube red", "bed  cubed", "recube"])
def test_text_is_cut_by_the_scores(tokenizer, text):
    assert tokenizer.encode(text, add_special_tokens=False).tokens == cut(text)


def test_ids_are_places_in_the_file_and_signs_of_their_own_stay_whole(tokenizer):
    assert [tokenizer.token_to_id(text) for text, _ in SPECIAL] == list(range(len(SPECIAL)))
    assert tokenizer.encode("red\n", add_special_tokens=False).ids == [len(SPECIAL) + 256 + MERGED.index("red"), 4]
    assert tokenizer.encode("<loc0000>", add_special_tokens=False).ids == [5]


def test_what_no_piece_covers_is_read_byte_by_byte(tokenizer):
    found = tokenizer.encode("\u00e9", add_special_tokens=False)
    assert found.tokens == ["<0xC3>", "<0xA9>"] and tokenizer.decode(found.ids) == "\u00e9"


@pytest.mark.parametrize("content, words", [
    (b"", "0 pieces"), (model(kind=1), "of kind 1"), (model()[:-3], "no SentencePiece"), (b"{json}", "no SentencePiece"),
    (model(prefix=True), "a space before every text"),
])  # fmt: skip
def test_another_file_is_refused(tmp_path, content, words):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_sentencepiece(tmp_path / "tokenizer.model")
