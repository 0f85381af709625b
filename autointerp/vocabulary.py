"""Token ids to text through bytes, so that characters split over tokens survive."""

import codecs
import json
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from autointerp.errors import InputError, NotDoneError
from autointerp.storage.parquet_files import open_parquet, write_parquet

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Vocabulary:
    """The bytes of every token id. Ids beyond it are shown as `⟨id⟩`."""

    token_bytes: tuple[bytes, ...]
    special_ids: frozenset[int]

    def __len__(self) -> int:
        return len(self.token_bytes)

    def bytes_of(self, token_id: int) -> bytes:
        if 0 <= token_id < len(self.token_bytes):
            return self.token_bytes[token_id]
        return f"⟨{token_id}⟩".encode()

    @cached_property
    def token_texts(self) -> tuple[str, ...]:
        """Each token alone as text; bytes of an incomplete character show as `�`."""
        return tuple(b.decode("utf-8", errors="replace") for b in self.token_bytes)

    def token_text(self, token_id: int) -> str:
        return self.bytes_of(int(token_id)).decode("utf-8", errors="replace")

    def token_name(self, token_id: int) -> str:
        """The token alone, for tables: bytes of an incomplete character as `\\xe2\\x94`.

        Unlike with `token_text`, no two parts of characters look the same.
        """
        return self.bytes_of(int(token_id)).decode("utf-8", errors="backslashreplace")

    @cached_property
    def _whole(self) -> tuple[bool, ...]:
        """Which tokens are whole characters by themselves."""
        return tuple(_is_utf8(b) for b in self.token_bytes)

    def pieces(self, token_ids: Sequence[int]) -> list[str]:
        """The text of each token of a window; joined they are the window's text, exactly.

        A character spread over several tokens belongs to the token that completes it, the others
        have an empty piece. Bytes that never complete a character show as `�` where they end.
        """
        size, texts, whole = len(self), self.token_texts, self._whole
        if all(0 <= i < size and whole[i] for i in token_ids):
            return [texts[i] for i in token_ids]
        parts = [self.bytes_of(i) for i in token_ids]
        joined = b"".join(parts)
        ends = list(accumulate(len(p) for p in parts))
        pieces = [""] * len(parts)
        position = 0
        while position < len(joined):
            size = _character_size(joined, position)
            character = joined[position : position + size].decode("utf-8", errors="replace")
            position += size
            pieces[bisect_left(ends, position)] += character
        return pieces

    def text(self, token_ids: Sequence[int]) -> str:
        """What the pieces make up."""
        joined = b"".join([self.bytes_of(i) for i in token_ids])
        return joined.decode("utf-8", errors=_EACH_BYTE)

    @cached_property
    def _buffer(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All tokens' bytes [total], where each begins [tokens + 1], which are whole characters."""
        lengths = np.array([len(b) for b in self.token_bytes], dtype=np.int64)
        data = np.frombuffer(b"".join(self.token_bytes), dtype=np.uint8)
        starts = np.concatenate([[0], lengths.cumsum()])
        return data, starts, np.array(self._whole, dtype=bool)

    def texts(self, token_ids: np.ndarray, lengths: np.ndarray) -> pa.Array:
        """The texts of many windows: token_ids [total], one window's after another's; lengths
        [windows] → strings [windows], each what `text` gives."""
        data, starts, whole = self._buffer
        known = (token_ids >= 0) & (token_ids < len(self))
        ids = np.where(known, token_ids, 0)
        known &= whole[ids]
        ends = lengths.cumsum()
        # Windows with part of a character are few: they are put together one by one.
        unknown = np.concatenate([[0], (~known).cumsum()])
        broken = unknown[ends] > unknown[ends - lengths]
        sizes = np.where(np.repeat(broken, lengths), 0, starts[ids + 1] - starts[ids])
        written = np.concatenate([[0], sizes.cumsum()])
        place = np.repeat(starts[ids] - written[:-1], sizes) + np.arange(written[-1])
        offsets = np.concatenate([[0], written[ends]]).astype(np.int32)
        found = pa.StringArray.from_buffers(
            len(lengths), pa.py_buffer(offsets), pa.py_buffer(data[place])
        )
        if not broken.any():
            return found
        spans = zip(ends[broken] - lengths[broken], ends[broken], strict=True)
        apart = [self.text(token_ids[begin:end].tolist()) for begin, end in spans]
        return pc.replace_with_mask(found, pa.array(broken), pa.array(apart, pa.string()))

    def save(self, path: Path) -> None:
        table = pa.table(
            {
                "token_id": pa.array(range(len(self)), pa.int32()),
                "bytes": pa.array(self.token_bytes, pa.binary()),
                "special": pa.array([i in self.special_ids for i in range(len(self))]),
            }
        )
        write_parquet(table, path)

    @staticmethod
    def load(path: Path) -> "Vocabulary":
        if not path.is_file():
            raise NotDoneError(f"{path} is missing: run `autointerp collect` again")
        table = open_parquet(path).read(columns=["bytes", "special"])
        if table.column_names != ["bytes", "special"]:
            raise InputError(f"{path} is not a vocabulary: it needs the columns bytes and special")
        special = np.flatnonzero(table["special"].to_numpy())
        return Vocabulary(tuple(table["bytes"].to_pylist()), frozenset(int(i) for i in special))


def _replace_each_byte(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


_EACH_BYTE = "autointerp.replace_each_byte"
codecs.register_error(_EACH_BYTE, _replace_each_byte)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _character_size(data: bytes, position: int) -> int:
    """Bytes of the character at `position`; 1 where no valid character starts there."""
    first = data[position]
    size = 1 if first < 0x80 else 2 if first >> 5 == 6 else 3 if first >> 4 == 14 else 4
    try:
        data[position : position + size].decode("utf-8")
    except UnicodeDecodeError:
        return 1
    return size


def _byte_level_table() -> dict[str, int]:
    """The printable stand-ins of byte-level BPE (GPT-2's `bytes_to_unicode`), inverted."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(b): b for b in printable}
    others = (b for b in range(256) if b not in set(printable))
    table.update({chr(256 + i): b for i, b in enumerate(others)})
    return table


def _decoder_kinds(node: object) -> set[str]:
    """The `type` names found anywhere in a tokenizer's decoder description."""
    kinds: set[str] = set()
    if isinstance(node, dict):
        if isinstance(node.get("type"), str):
            kinds.add(node["type"])
        for child in node.values():
            kinds |= _decoder_kinds(child)
    elif isinstance(node, list):
        for child in node:
            kinds |= _decoder_kinds(child)
    return kinds


_BYTES = _byte_level_table()
# Some tools write spaces and line breaks of byte-level tokens as they are, and nothing else.
_BYTES_AND_SPACE = {" ": 0x20, "\n": 0x0A, "\t": 0x09} | _BYTES


def token_bytes(token: str, marks: str) -> bytes:
    """The bytes of a token as a tokenizer's vocabulary has it. marks: `none`, it is the text
    itself; `byte-level`, every character stands for a byte, as in GPT-2's; `sentencepiece`, `▁` is
    a space and `<0x0A>` a byte. A token that has not these marks is taken for the text."""
    if marks == "byte-level" and all(c in _BYTES_AND_SPACE for c in token):
        return bytes(_BYTES_AND_SPACE[c] for c in token)
    if marks == "sentencepiece":
        return _sentencepiece_bytes(token)
    return token.encode()


def _sentencepiece_bytes(token: str) -> bytes:
    if re.fullmatch("<0x[0-9A-Fa-f]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()


def vocabulary_of(tokenizer: "PreTrainedTokenizerBase") -> Vocabulary:
    """Read every token's bytes out of a tokenizer: byte-level BPE or SentencePiece conventions."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = json.loads(backend.to_str()) if backend is not None else {}
    byte_level = "ByteLevel" in _decoder_kinds(described.get("decoder"))
    added = tokenizer.added_tokens_decoder
    special = {i for i, token in added.items() if token.special}
    size = max([len(tokenizer), *(i + 1 for i in added)])
    contents: list[bytes] = []
    for token_id, token in enumerate(tokenizer.convert_ids_to_tokens(list(range(size)))):
        if token is None:
            contents.append(f"⟨{token_id}⟩".encode())
        elif token_id in added:
            contents.append(added[token_id].content.encode())
        elif byte_level and all(c in _BYTES for c in token):
            contents.append(bytes(_BYTES[c] for c in token))
        else:
            contents.append(_sentencepiece_bytes(token))
    return Vocabulary(tuple(contents), frozenset(special))
