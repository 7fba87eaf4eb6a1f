"""SentencePiece files (`tokenizer.model`) of the byte-pair kind, as PaliGemma's is, read without their library.

The file is a protobuf: field 1 repeats a piece (1: text, 2: score, 3: type), field 2.3 is the kind of model (2: byte
pairs), field 3.3 whether a space is put before every text (sentencepiece_model.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from robosteer_core.errors import UserError

_SPACE = "\u2581"
_UNKNOWN, _CONTROL, _USER, _BYTE = 2, 3, 4, 6  # types of pieces; 1 is an ordinary one
_BYTE_PAIRS = 2  # TrainerSpec.ModelType


def read_sentencepiece(path: Path) -> Tokenizer:
    """Raises UserError where the file is no SentencePiece model of byte pairs."""
    pieces, kind, dummy_prefix = [], 1, True
    try:
        for field, value in _fields(path.read_bytes()):
            if field == 1:
                parts = dict(_fields(value))
                score = struct.unpack("<f", parts[2])[0] if 2 in parts else 0.0
                pieces.append((parts[1].decode(), score, parts.get(3, 1)))
            elif field == 2:
                kind = dict(_fields(value)).get(3, 1)
            elif field == 3:
                dummy_prefix = bool(dict(_fields(value)).get(3, 1))
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise UserError(f"{path} is no SentencePiece model ({error!r}); copy it again") from error
    if not pieces or kind != _BYTE_PAIRS:
        raise UserError(f"{path}: expected a SentencePiece model of byte pairs, as PaliGemma's; found {len(pieces)} pieces of kind {kind}")
    if dummy_prefix:
        raise UserError(f"{path} puts a space before every text, as Llama's does and PaliGemma's does not; give its tokenizer.json instead")
    ids = {text: number for number, (text, _, _) in enumerate(pieces)}
    # A piece is made of the pair of pieces that join into it; the better its score, the earlier.
    ordinary = sorted(((score, text) for text, score, kind in pieces if kind == 1 and len(text) > 1), key=lambda pair: -pair[0])
    merges = []
    for _, text in ordinary:
        pairs = ((text[:i], text[i:]) for i in range(1, len(text)))
        known = ((ids[a], ids[b], a, b) for a, b in pairs if a in ids and b in ids)
        merges += [(a, b) for _, _, a, b in sorted(known)]
    unknown = next((text for text, _, kind in pieces if kind == _UNKNOWN), None)
    bytes_too = any(kind == _BYTE for _, _, kind in pieces)
    tokenizer = Tokenizer(models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=bytes_too))
    tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    special = [text for text, _, kind in pieces if kind in (_UNKNOWN, _CONTROL)]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text, _, kind in pieces if kind == _USER])
    return tokenizer


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Numbers and values of a protobuf message's fields, one after another."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(data, place)
        else:
            if kind == 2:
                size, place = _varint(data, place)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise ValueError(f"wire type {kind}")
            value, place = data[place : place + size], place + size
            if place > len(data):
                raise ValueError("the file ends in the middle of a field")
        yield key >> 3, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place
