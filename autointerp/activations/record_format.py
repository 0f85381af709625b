"""What a format of activation records is: a file of its own, here or in another package.

A record is a piece of text as its tokens, with one feature's activation on each of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from autointerp.registry import AFTER_OURS, Registry


class BadRecord(Exception):
    """An entry of a file that holds no record, and why."""


class FileEntry(NamedTuple):
    """A value of a file: a line of JSON, a row of a table, an element of a list.

    `number` counts those of the file, from 0; `of_file` is what stands around them there. `value`
    is a BadRecord where it cannot even be parsed.
    """

    value: Any
    file: Path
    where: str
    number: int = 0
    of_file: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as a file has it, nothing of it checked.

    tokens: texts, or token ids. `document`: which text it is a part of, where that is told; `split`
    what it is for; `source` which SAE or layer the feature is of. `where` is for a person.
    """

    feature: Any
    tokens: Any
    activations: Any
    where: str
    document: Any = None
    split: Any = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class ToldDensity:
    """The share of the corpus's tokens on which a feature fires, as a file tells it."""

    feature: Any
    density: Any
    where: str


@dataclass(frozen=True)
class RecordFormat:
    """How another tool keeps activation records.

    `matches`: whether a file's first value is one of this format, and the file; the format that
    comes first in order and matches is taken. `read`: the records of one value; raises BadRecord.
    `signed`: activations below zero are the neuron's own, and stand for inactive; in other formats
    they are wrong.
    """

    name: str
    about: str
    matches: Callable[[Any], bool]
    read: Callable[[FileEntry], Iterator[RawRecord | ToldDensity]]
    signed: bool = False
    order: int = AFTER_OURS


RECORD_FORMATS: Registry[RecordFormat] = Registry("autointerp.records")


def activations_of(entry: FileEntry, feature: Any, source: str) -> Iterator[RawRecord]:
    """A record for each of a feature's `activations`: tokens and values. Raises BadRecord."""
    for number, one in enumerate(objects_in(entry.value, "activations"), 1):
        where = f"{entry.where}, activation {number}"
        yield RawRecord(feature, one.get("tokens"), one.get("values"), where, source=source)


def objects_in(value: Any, name: str) -> list[dict[str, Any]]:
    """The list of objects under a name; none where it is null. Raises BadRecord."""
    found = value.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BadRecord(f"{name!r} is not a list of objects")
    return found
