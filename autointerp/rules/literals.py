"""The predicates that rules are built from: a token's class, its word, and its context."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autointerp.evidence.window import Window
from autointerp.vocabulary import Vocabulary

Array = np.ndarray

_WORD_START = r"(?!\d)\w"
_UPPER = "A-ZÀ-ÖØ-ÞΑ-ΩА-Я"
_LOWER = "a-zß-öø-ÿα-ωа-я"
# Saved rules hold indices into this list: append only.
CLASSES: tuple[tuple[str, str], ...] = (
    ("digits", r" ?\d+"),
    ("a newline", r"(?s).*\n.*"),
    ("a newline without indentation", r"(?s).*\n"),
    ("a newline with indentation", r"(?s).*\n[ \t]+"),
    ("a newline with up to 4 spaces of indentation", r"(?s).*\n {1,4}"),
    ("a newline with 5 to 8 spaces of indentation", r"(?s).*\n {5,8}"),
    ("a newline with 9 or more spaces of indentation", r"(?s).*\n {9,}"),
    ("a blank line", r"(?s).*\n[ \t]*\n\s*"),
    ("a run of spaces", r"[ \t]+"),
    ("punctuation", r" ?[^\w\s\ufffd]+"),
    ("an opening bracket", r".*[(\[{]"),
    ("a closing bracket", r" ?[)\]}].*"),
    ("an operator", r" ?[-+*/%=<>!&|^~]+"),
    ("a quotation mark", r" ?[^\w\s]*['\"`‘’“”«»][^\w\s]*"),
    ("a comma, colon or full stop", r" ?[,.:;]+"),
    ("punctuation with a space before it", r" [^\w\s\ufffd]+"),
    ("a word in capitals", rf" ?[{_UPPER}]{{2,}}"),
    ("a capitalised word", rf" ?[{_UPPER}][{_LOWER}]+"),
    ("a single capital letter", rf" ?[{_UPPER}]"),
    ("a single lower-case letter", rf" ?[{_LOWER}]"),
    ("the start of a word", rf" {_WORD_START}.*"),
    ("a lower-case word start", rf" [{_LOWER}]+"),
    ("a capitalised word start", rf" [{_UPPER}].*"),
    ("a word piece without a space", rf"{_WORD_START}.*"),
    ("a lower-case word piece without a space", rf"[{_LOWER}]+"),
    ("a word or piece of one", rf" ?{_WORD_START}.*"),
    ("underscores", r" ?\w*_\w*"),
    ("a non-ASCII character", r"(?s).*[^\x00-\x7f].*"),
    ("a word ending in 'ing'", r" ?\w*ing"),
    ("a word ending in 'ed'", r" ?\w*ed"),
    ("a word ending in 's'", r" ?\w+s"),
    ("a word ending in 'er' or 'or'", r" ?\w+[eo]r"),
    ("a word ending in 'ion'", r" ?\w*ion"),
    ("a word ending in 'ly'", r" ?\w+ly"),
)
CLASS_NAMES = tuple(name for name, _ in CLASSES)
START_BOUNDS = (1, 2, 4, 8, 16)


class Tables:
    """Facts about every token of a vocabulary, by id.

    One more id follows the vocabulary's own: `unknown`, for ids beyond it. The last row, at -1,
    is what precedes a window's first token: of no class and no word.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.unknown = len(vocabulary)
        self.token_names = [vocabulary.token_name(i) for i in range(self.unknown)]
        self.token_names.append("⟨unknown⟩")
        self.is_class = np.zeros((self.unknown + 2, len(CLASSES)), dtype=bool)
        for column, (_, pattern) in enumerate(CLASSES):
            matches = re.compile(pattern).fullmatch
            self.is_class[: self.unknown, column] = [
                matches(text) is not None for text in vocabulary.token_texts
            ]
        self.has_newline = self.is_class[:, CLASS_NAMES.index("a newline")]
        # Saved rules hold these codes, so what makes a word of tokens stays as it was.
        names = [
            *map(_name, vocabulary.token_texts, vocabulary.token_bytes),
            self.token_names[self.unknown],
        ]
        codes: dict[str, int] = {}
        words = [codes.setdefault(_fold(name), len(codes)) for name in names]
        self.word = np.array([*words, -1])
        first = np.unique(words, return_index=True)[1]
        self.word_names = [_fold(self.token_names[i]) for i in first]

    @property
    def pair_base(self) -> int:
        return self.unknown + 1

    def text(self, kind: str, code: int) -> str:
        """How a predicate's value is shown."""
        match kind:
            case "token" | "previous":
                return self.token_names[code]
            case "pair":
                return "".join(self.token_names[i] for i in divmod(code, self.pair_base))
            case "class" | "previous_class":
                return CLASS_NAMES[code]
            case "word" | "previous_word" | "line" | "topic":
                return self.word_names[code]
            case _:
                return str(code)


def _name(text: str, data: bytes) -> str:
    """The token's text; its bytes where not all are characters by themselves."""
    return "".join(f"\\x{b:02x}" for b in data) if "\ufffd" in text else text


def _fold(text: str) -> str:
    return text.strip().casefold() or text


@dataclass(frozen=True, slots=True)
class Stream:
    """Windows laid end to end, with what literals ask of each token. All arrays are [tokens]."""

    tables: Tables
    lengths: Array
    ids: Array
    words: Array
    previous: Array  # -1 where the window has none, as in `pairs`
    pairs: Array  # the two ids before, as one number
    begin: Array  # index of the first token of the token's window
    line_begin: Array  # index of the first token after the last newline before it
    position: Array  # in the context

    def rows(self, kind: str, codes: Sequence[int] | Array) -> Array:
        """Where each value of a predicate holds: bool [values, tokens]."""
        values = np.asarray(codes, dtype=np.int64)[:, None]
        match kind:
            case "token":
                return np.asarray(self.ids == values)
            case "word":
                return np.asarray(self.words == values)
            case "class":
                return np.asarray(self.tables.is_class[self.ids[None, :], values])
            case "previous":
                return np.asarray(self.previous == values)
            case "previous_word":
                return np.asarray(self.tables.word[self.previous] == values)
            case "previous_class":
                return np.asarray(self.tables.is_class[self.previous[None, :], values])
            case "pair":
                return np.asarray(self.pairs == values)
            case "line":
                return np.asarray(self._last(values) >= self.line_begin)
            case "topic":
                return np.asarray(self._last(values) >= self.begin)
            case "start":
                return np.asarray(self.position < values)
            case _:
                return np.ones((len(values), len(self.ids)), dtype=bool)

    def holds(self, kind: str, codes: Sequence[int]) -> Array:
        """Where any value of a predicate holds: bool [tokens]."""
        if kind in ("any", "always"):
            return np.ones(len(self.ids), dtype=bool)
        return np.asarray(self.rows(kind, codes).any(axis=0))

    def _last(self, words: Array) -> Array:
        """Index of the last earlier token that is the word, -1 for none: [words, tokens]."""
        seen = np.where(self.words == words, np.arange(len(self.ids)), -1)
        last = np.full_like(seen, -1)
        last[:, 1:] = np.maximum.accumulate(seen, axis=1)[:, :-1]
        return last

    def split(self, values: Array) -> list[Array]:
        """An array [tokens] as one array per window."""
        return np.split(values, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []


def build_stream(tables: Tables, windows: Sequence[Window]) -> Stream:
    lengths = np.array([len(w.token_ids) for w in windows], dtype=np.int64)
    ids = np.concatenate([np.zeros(0, np.int64), *(w.token_ids for w in windows)])
    ids = ids.astype(np.int64)
    ids[(ids < 0) | (ids >= tables.unknown)] = tables.unknown
    index = np.arange(len(ids))
    begin = np.repeat(np.cumsum(lengths) - lengths, lengths)
    starts = np.repeat(np.array([w.start for w in windows], dtype=np.int64), lengths)
    previous, before = (_earlier(ids, by, index - begin) for by in (1, 2))
    newline = np.where(tables.has_newline[ids], index, -1)
    last_newline = np.full_like(newline, -1)
    last_newline[1:] = np.maximum.accumulate(newline)[:-1]
    return Stream(
        tables=tables,
        lengths=lengths,
        ids=ids,
        words=tables.word[ids],
        previous=previous,
        pairs=np.where(before < 0, -1, before * tables.pair_base + previous),
        begin=begin,
        line_begin=np.maximum(begin, last_newline + 1),
        position=starts + index - begin,
    )


def _earlier(ids: Array, by: int, offset: Array) -> Array:
    """The id `by` tokens earlier in the same window, else -1: [tokens]."""
    return np.where(offset >= by, np.roll(ids, by), -1)


@dataclass(frozen=True, slots=True)
class Groups:
    """Entries that share a code: `member` gives each entry's index in `codes`."""

    codes: Array
    member: Array

    @staticmethod
    def of(values: Array) -> "Groups":
        codes, member = np.unique(values, return_inverse=True)
        return Groups(codes, member)

    def sums(self, values: Array) -> Array:
        """Sum of the entries' values by code: [codes]."""
        return np.bincount(self.member, values, len(self.codes))


@dataclass(frozen=True, slots=True)
class Followers:
    """The tokens after each word in the same segment (a window or a line)."""

    first: Array  # index of each word's first token in each segment that has it
    words: Groups  # of those first tokens
    end: Array  # index after the last token of the token's segment: [tokens]

    @staticmethod
    def of(words: Groups, segment: Array) -> "Followers":
        keys = segment * len(words.codes) + words.member
        first = np.unique(keys, return_index=True)[1]
        ends = np.flatnonzero(np.diff(segment, append=-1)) + 1
        return Followers(
            first=first,
            words=Groups(words.codes, words.member[first]),
            end=ends[np.searchsorted(ends, np.arange(len(segment)), side="right")],
        )

    @property
    def codes(self) -> Array:
        return self.words.codes

    def sums(self, values: Array) -> Array:
        """Sum of the values of the tokens that follow each word: [codes]."""
        total = np.concatenate([[0.0], np.cumsum(values)])
        after = total[self.end] - total[1:]
        return self.words.sums(after[self.first])


@dataclass(frozen=True, slots=True)
class Rows:
    """Codes whose matches overlap, as rows of where each holds: float32 [codes, tokens]."""

    codes: Array
    holds: Array

    @staticmethod
    def of(codes: Array, holds: Array) -> "Rows":
        return Rows(codes, holds.astype(np.float32))

    def sums(self, values: Array) -> Array:
        """Sum of the values where each code holds: [codes]."""
        return np.asarray(self.holds @ values.astype(np.float32), dtype=np.float64)
