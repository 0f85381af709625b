"""Activation records of files, read and checked one by one: what is wrong is told with its place.

Files are anybody's. A record comes out of here with finite activations of which none is negative,
as many as it has tokens, and with tokens that are texts of characters or ids of a vocabulary.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from autointerp.activations.record_files import entries_of
from autointerp.activations.record_format import (
    RECORD_FORMATS,
    BadRecord,
    FileEntry,
    RawRecord,
    RecordFormat,
    ToldDensity,
)
from autointerp.errors import InputError
from autointerp.plain_text import tidy
from autointerp.vocabulary import Vocabulary, token_bytes

TokenMarks = Literal["none", "byte-level", "sentencepiece"]
MAX_LENGTH = 1 << 16  # tokens of a record
_MAX_TOKEN = 1000  # characters
_MAX_DISTINCT = 1 << 22  # tokens: a tokenizer has a tenth of that
_MAX_FEATURE = 2**31 - 1
_MAX_NAME = 100
_SHOWN = 5
_SPLITS = ("label", "validate", "score")
_MARKS = {"byte-level": "Ġ", "sentencepiece": "▁"}
_MANY = 0.05  # of the distinct tokens


class ActivationRecord(NamedTuple):
    """token_ids: int32 [length]; activations: float32 [length], 0 where inactive.

    `text_key`: 63 bits of a hash of its tokens, `split_key` of what it is split by: its document,
    where that is told, or its tokens. `split` is the one that the file gives it, if any.
    """

    feature: int
    token_ids: np.ndarray
    activations: np.ndarray
    text_key: int
    split_key: int
    split: str | None


class _TokenTable(dict[str, int]):
    """Token → id, in the order in which they come; looking up a new one adds it."""

    def __missing__(self, token: str) -> int:
        if len(self) == _MAX_DISTINCT:
            raise InputError(
                f"the records have over {_MAX_DISTINCT:,} distinct tokens: are they texts, and not "
                "tokens?"
            )
        self[token] = number = len(self)
        return number


@dataclass
class RecordReader:
    """Reads files and counts what it comes upon.

    `known`: what token ids mean, where the files have ids. `skip_bad`: what holds no record is left
    out, however much there is. `allow_negative`: activations below zero stand for inactive, in any
    format. `densities`: feature → the share of the corpus's tokens on which it
    fires, as the files tell it.
    """

    format: RecordFormat | None = None
    known: Vocabulary | None = None
    skip_bad: bool = False
    allow_negative: bool = False
    read: int = 0
    bad: int = 0
    negative: int = 0  # activations that stand for inactive
    shown: list[str] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    sources: set[str] = field(default_factory=set)
    densities: dict[int, float] = field(default_factory=dict)
    _tokens: _TokenTable = field(default_factory=_TokenTable)

    def records(self, files: Iterable[Path]) -> Iterator[ActivationRecord]:
        """Raises InputError for a record that cannot be used, unless such are skipped, and where
        there are none or they are of several SAEs."""
        for path in files:
            chosen = self.format
            for entry in entries_of(path):
                if chosen is None:
                    chosen = _format_of(entry)
                if chosen is not None:
                    self.formats[chosen.name] += 1
                yield from self._of_entry(entry, chosen)
        if self.bad == self.read:
            raise InputError(f"no activation records: {self._listed() or 'the files are empty'}")

    def _of_entry(
        self, entry: FileEntry, chosen: RecordFormat | None
    ) -> Iterator[ActivationRecord]:
        try:
            if isinstance(entry.value, BadRecord):
                raise entry.value
            if chosen is None:
                known = ", ".join(RECORD_FORMATS)
                raise BadRecord(f"in no format of activation records that is known: {known}")
            for raw in chosen.read(entry):
                try:
                    if isinstance(raw, ToldDensity):
                        self._take_density(raw)
                    else:
                        yield self._checked(raw, chosen.signed or self.allow_negative)
                        self.read += 1
                except BadRecord as why:
                    self._skip(raw.where, why)
        except BadRecord as why:
            self._skip(entry.where, why)

    def _skip(self, where: str, why: BadRecord) -> None:
        self.read += 1
        self.bad += 1
        if len(self.shown) < _SHOWN:
            self.shown.append(f"{where}: {why}")
        if not self.skip_bad:
            raise InputError(f"{where}: {why}. Fix it, or skip such records with --skip-bad-rows")

    def _listed(self) -> str:
        more = self.bad - len(self.shown)
        return "; ".join(self.shown) + (f"; and {more:,} more" if more > 0 else "")

    def _take_density(self, told: ToldDensity) -> None:
        density = told.density
        if isinstance(density, bool) or not isinstance(density, int | float):
            raise BadRecord("the share of tokens on which it fires is not a number")
        if not 0 <= density <= 1:
            raise BadRecord(f"the share of tokens on which it fires is {density}, not 0 to 1")
        self.densities[_feature(told.feature)] = float(density)

    def _checked(self, raw: RawRecord, signed: bool) -> ActivationRecord:
        feature = _feature(raw.feature)
        tokens = raw.tokens
        if not isinstance(tokens, Sequence) or isinstance(tokens, str) or len(tokens) == 0:
            raise BadRecord("tokens are not a list, or an empty one")
        if len(tokens) > MAX_LENGTH:
            raise BadRecord(f"{len(tokens):,} tokens, over {MAX_LENGTH:,}")
        values = _activations(raw.activations)
        if len(values) != len(tokens):
            raise BadRecord(f"{len(tokens):,} tokens, but {len(values):,} activations")
        below = values < 0
        if below.any():
            if not signed:
                raise BadRecord(
                    f"activation {values[below][0]:g} is negative: pass --allow-negative if such "
                    "stand for inactive"
                )
            self.negative += int(below.sum())
            values[below] = 0
        split = raw.split
        if split is not None and split not in _SPLITS:
            raise BadRecord(f"split {split!r:.40} is not {', '.join(_SPLITS)}")
        kinds = set(map(type, tokens))
        if kinds == {str}:
            words = _words(tokens)
            ids = self._ids_of_words(tokens)
        elif kinds == {int}:
            ids = self._ids(tokens)
            words = ids.tobytes()
        else:
            raise BadRecord("tokens are neither all texts nor all token ids")
        document = None if raw.document is None else str(raw.document)
        text_key = _key(words)
        split_key = text_key if document is None else _key(_encoded("document " + document))
        self._take_source(raw)
        return ActivationRecord(feature, ids, values, text_key, split_key, split)

    def _take_source(self, raw: RawRecord) -> None:
        """Raises InputError where it is another one than before."""
        if raw.source:
            self.sources.add(tidy(raw.source)[:_MAX_NAME])
        if len(self.sources) > 1:
            raise InputError(
                f"{raw.where}: the records are of several SAEs or layers "
                f"({', '.join(sorted(self.sources))}): import each into a run of its own"
            )

    def _ids_of_words(self, tokens: Sequence[str]) -> np.ndarray:
        if self.known is not None:
            raise BadRecord("its tokens are texts, and --tokenizer is for token ids: drop it")
        return np.fromiter(map(self._tokens.__getitem__, tokens), np.int32, len(tokens))

    def _ids(self, tokens: Sequence[int]) -> np.ndarray:
        if self.known is None:
            raise BadRecord("its tokens are ids: say with --tokenizer which model's they are")
        low, high = min(tokens), max(tokens)
        if low < 0 or high >= len(self.known):
            wrong = low if low < 0 else high
            raise BadRecord(f"token id {wrong:,} is not one of the tokenizer's {len(self.known):,}")
        return np.array(tokens, dtype=np.int32)

    def vocabulary(self, marks: TokenMarks) -> Vocabulary:
        """What the ids of the records mean; marks: what stands for spaces and bytes."""
        if self.known is not None:
            return self.known
        return Vocabulary(tuple(token_bytes(t, marks) for t in self._tokens), frozenset())

    def remarks(self, marks: TokenMarks) -> list[str]:
        """What a person should know of what was read, a line each."""
        said = []
        if self.bad:
            said.append(f"skipped {self.bad:,} of {self.read:,} records: {self._listed()}")
        if self.negative:
            said.append(f"{self.negative:,} negative activations count as inactive")
        for name, mark in _MARKS.items() if marks == "none" else ():
            n = sum(token.startswith(mark) for token in self._tokens)
            if n > _MANY * len(self._tokens):
                said.append(
                    f"{n:,} of {len(self._tokens):,} distinct tokens begin with {mark}: if it "
                    f"stands for a space, import again with --token-marks {name}"
                )
        return said


def _format_of(entry: FileEntry) -> RecordFormat | None:
    if isinstance(entry.value, BadRecord):
        return None
    return next((f for f in RECORD_FORMATS.values() if f.matches(entry.value)), None)


def _feature(value: Any) -> int:
    """Numbers and digits are both in use."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 11:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRecord(f"feature {value!r:.40} is not a whole number")
    if not 0 <= value <= _MAX_FEATURE:
        raise BadRecord(f"feature {str(value)[:40]} is not from 0 to {_MAX_FEATURE:,}")
    return value


def _activations(values: Any) -> np.ndarray:
    """float32 [length], finite."""
    try:
        found = np.asarray(values)
    except ValueError:
        found = np.empty(0, dtype=object)
    if found.ndim != 1 or found.dtype.kind not in "iuf":
        raise BadRecord("activations are not a list of numbers")
    with np.errstate(over="ignore"):
        numbers: np.ndarray = found.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise BadRecord("an activation is not finite, or too large for 32 bits")
    return numbers


def _words(tokens: Sequence[str]) -> bytes:
    longest = max(map(len, tokens))
    if longest > _MAX_TOKEN:
        raise BadRecord(f"a token has {longest:,} characters, over {_MAX_TOKEN:,}")
    return _encoded("\0".join(tokens))


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadRecord("half a character, which is not valid UTF-8") from None


def _key(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") >> 1
