"""Documents cut into contexts of equal length, as the subject model will see them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from autointerp.activations.chat import Turns, conversation_tokens
from autointerp.activations.documents import PIECE, Document, Text, documents, files_of
from autointerp.activations.rows import BadRow, Conversation, RowCount
from autointerp.activations.text_files import TextFiles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Packing = Literal["concatenated", "documents"]
Bos = Literal["auto", "none", "context", "document"]
_DOCUMENTS_A_CALL = 64  # fast tokenizers work on several at once


@dataclass(frozen=True)
class TextSettings:
    """What text to read and how to cut it.

    `packing`: documents one after the other, each followed by the end-of-text token; or one a row,
    cut or padded to its length. `bos`: the beginning-of-text token before nothing, every context or
    every document; `auto` puts it before every context where the tokenizer adds it by itself.
    `turns`: whose words of a conversation count. `skip_bad_rows`: however many rows hold no text,
    the others are read; it changes nothing of what they give.
    """

    text: str
    length: int
    packing: Packing = "concatenated"
    bos: Bos = "auto"
    turns: Turns = "all"
    field: str | None = None
    # Left out of the settings' text, which caches are known by.
    skip_bad_rows: bool = dataclass_field(default=False, repr=False)


@dataclass(frozen=True)
class Contexts:
    """Rows of tokens, all arrays [contexts, length]."""

    token_ids: np.ndarray  # int32
    valid: np.ndarray  # bool, False for padding
    counted: np.ndarray  # bool, False in turns that do not count
    document: np.ndarray  # int32, the number of the token's document in the text, -1 for padding

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True)
class _Row:
    """Tokens of one document, or of several one after the other."""

    ids: np.ndarray
    counted: np.ndarray
    document: np.ndarray
    ends: bool = True  # False where the document goes on


class ContextReader:
    """Reads text as contexts; the same settings give the same contexts in the same order."""

    def __init__(self, settings: TextSettings, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.settings = settings
        self.tokenizer = tokenizer
        self.bos = settings.bos if settings.bos != "auto" else _bos_of(tokenizer)
        pad = tokenizer.pad_token_id
        self.pad_id: int = pad if pad is not None else (tokenizer.eos_token_id or 0)
        self.contexts = 0  # how far the text was read
        self.truncated = 0  # documents that were longer than a row
        self.documents = 0  # of which contexts were given
        self.files: TextFiles | None = None  # where the text is in a folder
        self.rows = RowCount(settings.skip_bad_rows)
        if self.bos != "none" and tokenizer.bos_token_id is None:
            self.bos = "none"

    def batches(
        self,
        contexts: int,
        limit: int,
        skip: int = 0,
        passed: Callable[[np.ndarray], object] = lambda _: None,
    ) -> Iterator[Contexts]:
        """Batches of at most `contexts` rows, from row `skip` up to row `limit`.

        `passed` is told of the documents of rows before: int32 [rows, length], in batches as well.
        Raises AutointerpError where the text cannot be read, or too many of its rows hold none.
        """
        self.truncated = 0
        self.files = files_of(self.settings.text, self.settings.field)
        self.rows = RowCount(self.settings.skip_bad_rows)
        rows = islice(self._rows(), limit)
        before = islice(rows, skip)
        self.contexts = 0
        while batch := list(islice(before, contexts)):
            self.contexts += len(batch)
            passed(self._stacked(batch).document)
        while batch := list(islice(rows, contexts)):
            self.contexts += len(batch)
            found = self._stacked(batch)
            self.documents = int(found.document.max()) + 1
            yield found

    def remarks(self) -> list[str]:
        """What was taken of the text, and what was left out, as far as it was read."""
        found = self.files.remarks() if self.files is not None else []
        found += self.rows.remarks()
        if self.truncated:
            found.append(
                f"{self.truncated:,} documents were longer than a context and were truncated"
            )
        return found

    def unread(self) -> list[str]:
        """What to say of a folder whose first files were enough."""
        taken = self.files.taken if self.files is not None else []
        if self.documents >= len(taken) or any(f.kind != "text" for f in taken):
            return []
        return [
            f"the requested number of tokens was reached in file {self.documents:,} "
            f"of {len(taken):,}: the files after it were not read"
        ]

    def _stacked(self, rows: list[_Row]) -> Contexts:
        shape = (len(rows), self.settings.length)
        token_ids = np.full(shape, self.pad_id, dtype=np.int32)
        valid, counted = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
        document = np.full(shape, -1, dtype=np.int32)
        for i, row in enumerate(rows):
            n = len(row.ids)
            token_ids[i, :n], counted[i, :n] = row.ids, row.counted
            valid[i, :n], document[i, :n] = True, row.document
        return Contexts(token_ids, valid, counted, document)

    def alone(self, texts: Sequence[np.ndarray]) -> Contexts:
        """Texts that are not part of what is read: each a context, begun as contexts here begin.

        texts: int32 [tokens] each, cut where they are longer than a context → as many columns as
        the longest of them takes.
        """
        rows = []
        for ids in texts:
            whole = np.concatenate([self._lead, ids.astype(np.int32)])[: self.settings.length]
            n = len(whole)
            rows.append(_Row(whole, np.ones(n, dtype=bool), np.full(n, -1, dtype=np.int32)))
        longest = max((len(row.ids) for row in rows), default=0)
        full = self._stacked(rows)
        return Contexts(
            full.token_ids[:, :longest],
            full.valid[:, :longest],
            full.counted[:, :longest],
            full.document[:, :longest],
        )

    @property
    def _lead(self) -> np.ndarray:
        """The beginning-of-text token, where there is to be one: int32 [0 or 1]."""
        return np.array([self.tokenizer.bos_token_id] if self.bos != "none" else [], dtype=np.int32)

    def _rows(self) -> Iterator[_Row]:
        bos = self._lead
        packed = self.settings.packing == "concatenated"
        room = self.settings.length - (len(bos) if self.bos == "context" else 0)
        held = [_empty()]
        size = 0
        for row in self._tokenized(bos if self.bos == "document" or not packed else bos[:0]):
            held.append(row)
            if not packed:
                document = _joined(held)
                # Of a long document what does not fit is dropped, but for a token that tells.
                held = [_cut(document, 0, self.settings.length + 1)] if not row.ends else [_empty()]
                if row.ends and len(document.ids) > 0:
                    self.truncated += len(document.ids) > self.settings.length
                    yield _cut(document, 0, self.settings.length)
                continue
            size += len(row.ids)
            if size < room:
                continue
            joined = _joined(held)
            for begin in range(0, size - room + 1, room):
                context = _cut(joined, begin, begin + room)
                yield _led_by(bos, context) if self.bos == "context" else context
            held = [_cut(joined, size - size % room, size)]
            size %= room

    def _tokenized(self, before: np.ndarray) -> Iterator[_Row]:
        """Documents as rows of any length, `before` ahead of each."""
        end = self.tokenizer.eos_token_id
        after = [end] if end is not None and self.settings.packing == "concatenated" else []
        number = -1
        for document, ids, counted in self._encoded():
            begins, ends = not isinstance(document, Text) or document.begins, _ends(document)
            number += begins
            lead, tail = before if begins else before[:0], after if ends else []
            # What separates documents is nobody's words.
            edge = self.settings.turns == "all"
            yield _Row(
                np.concatenate([lead, np.array([*ids, *tail], dtype=np.int32)]),
                np.concatenate(
                    [np.full(len(lead), edge), counted, np.full(len(tail), edge)]
                ).astype(bool),
                np.full(len(lead) + len(ids) + len(tail), number, dtype=np.int32),
                ends,
            )

    def _encoded(self) -> Iterator[tuple[Document, list[int], np.ndarray]]:
        source = documents(self.settings.text, self.settings.field, rows=self.rows)
        for group in _groups(source):
            texts = [d.text for d in group if isinstance(d, Text)]
            encoded = iter(
                self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
            )
            for document in group:
                if isinstance(document, Text):
                    ids = next(encoded)
                    yield document, ids, np.ones(len(ids), dtype=bool)
                    continue
                try:
                    tokens = self._tokens_of(document)
                except BadRow as why:
                    self.rows.skip(document.where, why)
                else:
                    yield document, *tokens
        self.rows.check()

    def _tokens_of(self, conversation: Conversation) -> tuple[list[int], np.ndarray]:
        ids, counted = conversation_tokens(self.tokenizer, conversation.turns, self.settings.turns)
        # Some templates put the beginning-of-text token themselves; once is enough.
        twice = self.bos != "none" and ids[:1] == [self.tokenizer.bos_token_id]
        return ids[twice:], counted[int(twice) :]


def _bos_of(tokenizer: "PreTrainedTokenizerBase") -> Bos:
    """Models that are trained with it have tokenizers that add it."""
    bos = tokenizer.bos_token_id
    adds_it = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    return "context" if adds_it else "none"


def _groups(source: Iterator[Document]) -> Iterator[list[Document]]:
    """What is tokenized in one call: several documents, but not much more than a piece of text."""
    group: list[Document] = []
    characters = 0
    for document in source:
        group.append(document)
        characters += len(document.text) if isinstance(document, Text) else 0
        if len(group) == _DOCUMENTS_A_CALL or characters >= PIECE:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _ends(document: Document) -> bool:
    return not isinstance(document, Text) or document.ends


def _empty() -> _Row:
    return _Row(np.empty(0, np.int32), np.empty(0, bool), np.empty(0, np.int32))


def _joined(rows: list[_Row]) -> _Row:
    return _Row(
        np.concatenate([r.ids for r in rows]),
        np.concatenate([r.counted for r in rows]),
        np.concatenate([r.document for r in rows]),
    )


def _cut(row: _Row, begin: int, end: int) -> _Row:
    return _Row(row.ids[begin:end], row.counted[begin:end], row.document[begin:end])


def _led_by(bos: np.ndarray, row: _Row) -> _Row:
    first = row.counted[:1]
    return _joined([_Row(bos, first, row.document[:1]), row])
