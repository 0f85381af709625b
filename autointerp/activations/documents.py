"""Where text comes from: files and folders of text or rows, data sets of the hub, the demo's own.

A document is a text, or a conversation: a list of turns with a role and a content. A long text
comes in pieces, so that none is held or tokenized whole.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from autointerp.activations.given_text import GivenText
from autointerp.activations.row_files import rows_of
from autointerp.activations.rows import BadRow, Conversation, RowCount, content_of
from autointerp.activations.text_files import TextFiles, text_files, text_identity
from autointerp.activations.text_kinds import TextFile, opened
from autointerp.demo.demo_text import standard_library_documents
from autointerp.errors import AutointerpError, InputError, MissingPackageError
from autointerp.held import held, is_held

DEMO_TEXT = "demo"
HUB = "hf:"
PIECE = 1 << 20  # characters of a text at once
# Where byte-level tokenizers end a token in any case: after a line, or before a word.
_ENDS_OF_TOKENS = (re.compile(r"(?<=\S)\n(?=\S)"), re.compile(r"(?<=\S)(?= \S)"))
_NOT_DECODED = re.compile("[\udc80-\udcff]")


class Text(NamedTuple):
    """A text, or a piece of one."""

    text: str
    begins: bool = True
    ends: bool = True


Document = Text | Conversation


def documents(
    source: str,
    field: str | None = None,
    left_out: list[Path] | None = None,
    rows: RowCount | None = None,
) -> Iterator[Document]:
    """The documents of `source`, in a fixed order, long texts in pieces; empty ones are left out.

    `source` is a file, a folder (see `text_files`), `hf:owner/dataset[/configuration][:split]`, a
    text in memory, or `demo`: the standard library of the running Python. `field` is where rows
    have their text or conversation. Files of a folder that are not read are added to `left_out`,
    rows that hold no text are counted in `rows`. Raises AutointerpError, for too many of those too.
    """
    rows = RowCount() if rows is None else rows
    if source == DEMO_TEXT:
        for _, text in standard_library_documents():
            yield from _in_pieces([text])
    elif is_held(source):
        for row, where in held(source, GivenText).as_rows():
            yield from _documents_of_row(row, field, where, rows)
    elif source.startswith(HUB):
        yield from _documents_of_dataset(source.removeprefix(HUB), field, rows)
    else:
        found = text_files(_existing(source), field)
        if left_out is not None:
            left_out += [path for path, _ in found.left_out]
        for file in found.taken:
            yield from _documents_of_file(file, field, rows)
    rows.check()


def files_of(source: str, field: str | None = None) -> TextFiles | None:
    """The files that a text is read from; None where it is not in files."""
    if source == DEMO_TEXT or source.startswith(HUB) or is_held(source):
        return None
    return text_files(_existing(source), field)


def _in_pieces(parts: Iterable[str]) -> Iterator[Text]:
    """The text that the parts make up; none where it is empty."""
    held, begins = "", True
    for part in parts:
        held += part
        while len(held) > PIECE:
            cut = _end_of_token(held)
            yield Text(held[:cut], begins, ends=False)
            held, begins = held[cut:], False
    if held:
        yield Text(held, begins)


def _end_of_token(text: str) -> int:
    """A place in the first piece of a text where a tokenizer would cut it too, if there is one."""
    for pattern in _ENDS_OF_TOKENS:
        ends = [m.end() for m in pattern.finditer(text, PIECE - PIECE // 8, PIECE)]
        if ends:
            return ends[-1]
    return PIECE


def _existing(source: str) -> Path:
    path = Path(source)
    try:
        found = path.exists()
    except OSError:  # a text in place of its file's name is too long for one
        found = False
    if not found:
        raise InputError(f"text {source[:80]}: no such file or folder")
    return path


def _documents_of_file(file: TextFile, field: str | None, rows: RowCount) -> Iterator[Document]:
    if file.kind == "text":
        with opened(file) as text:
            parts = iter(partial(text.read, PIECE), "")
            yield from _in_pieces(_readable(part, rows) for part in parts)
        return
    for value, where in rows_of(file, field):
        yield from _documents_of_row(value, field, where, rows)


def _readable(text: str, rows: RowCount) -> str:
    """With a replacement character for every byte that is not in the file's encoding."""
    if text.isascii():
        return text
    readable, replaced = _NOT_DECODED.subn("\ufffd", text)
    rows.replaced += replaced
    return readable


def _documents_of_dataset(spec: str, field: str | None, rows: RowCount) -> Iterator[Document]:
    try:
        import datasets
    except ImportError:
        raise MissingPackageError(
            f"text {HUB}{spec} is a data set on the Hugging Face Hub: pip install "
            "'autointerp[data]'"
        ) from None
    name, _, split = spec.partition(":")
    parts = name.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise InputError(
            f"text {HUB}{spec}: the form is {HUB}owner/dataset[/configuration][:split]"
        )
    configuration = parts[2] if len(parts) == 3 else None
    try:
        found = datasets.load_dataset(
            "/".join(parts[:2]), configuration, split=split or "train", streaming=True
        )
        for number, row in enumerate(found, 1):
            yield from _documents_of_row(row, field, f"{HUB}{spec}, row {number:,}", rows)
    except AutointerpError:
        raise
    except Exception as error:  # the library raises errors of many kinds, its own and others'
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"text {HUB}{spec} cannot be read: {lines[0]}") from None


def _documents_of_row(
    value: Any, field: str | None, where: str, rows: RowCount
) -> Iterator[Document]:
    """The document of a row, in pieces where it is long; none where it is empty or bad."""
    rows.read += 1
    try:
        if isinstance(value, BadRow):
            raise value
        content = content_of(value, field)
    except BadRow as why:
        rows.skip(where, why)
        return
    if isinstance(content, str):
        yield from _in_pieces(content[i : i + PIECE] for i in range(0, len(content), PIECE))
    elif content:
        yield Conversation(content, where)


def source_identity(source: str, field: str | None = None) -> str:
    """Changes when the text does: names, sizes and times of files, the name of a data set."""
    if source == DEMO_TEXT:
        return f"demo: standard library of Python {sys.version.split()[0]}"
    if source.startswith(HUB) or is_held(source):
        return source
    return text_identity(_existing(source), field)
