"""Records as pairs of a token and its activation: {"latent": 3, "pairs": [["the", 0.0], …]}."""

from collections.abc import Iterator
from typing import Any

from autointerp.activations.record_format import BadRecord, FileEntry, RawRecord, RecordFormat


def matches(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("pairs"), list)


def read(entry: FileEntry) -> Iterator[RawRecord]:
    if not matches(entry.value):
        raise BadRecord("it has no pairs")
    pairs = entry.value["pairs"]
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise BadRecord("a pair is not a token and its activation")
    tokens, activations = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    yield RawRecord(entry.value.get("latent"), tokens, activations, entry.where)


RECORD_FORMAT = RecordFormat(
    name="pairs", about="lines of latent and pairs", matches=matches, read=read
)
