"""A feature's windows as other tools show them: the strongest, then intervals of strength."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autointerp.evidence.window import Window
from autointerp.tables.exports.exported import ExportedFeature, Source, number, numbers
from autointerp.vocabulary import Vocabulary

_INTERVALS = 5
TOP = -1.0  # stands for an interval's bounds where the windows are the strongest of all


@dataclass(frozen=True, slots=True)
class Example:
    """A window and the interval of activations it stands for.

    `contains` is the share of all tokens on which the feature's activation lies in the interval;
    None where there is no corpus to count in.
    """

    window: Window
    low: float
    high: float
    contains: float | None

    @property
    def is_top(self) -> bool:
        return self.contains == TOP


def examples(source: Source, record: ExportedFeature) -> list[Example]:
    """The windows kept for labeling: the strongest, then a uniform sample by interval.

    Intervals go down from the strongest activation by an octave each, the last one to 0. They
    begin at edges of the histogram, so that what they contain is counted, not estimated. What
    scores the labels is left out: who reads it here could learn from it.
    """
    kept = [w for w in record.windows if w.split == "label"]
    strongest = number(record.statistics["max_activation"])
    top = [Example(w, TOP, strongest or TOP, TOP) for w in kept if w.kind == "top"]
    if not strongest:
        return top
    found = []
    for low, high, contains in _intervals(source, record, strongest):
        within = [w for w in kept if w.kind == "sample" and low < _peak(w) <= high]
        within.sort(key=lambda w: (-_peak(w), w.context))
        found += [Example(w, low, high, contains) for w in within]
    return top + found


def _peak(window: Window) -> float:
    return float(window.activations.max())


def _intervals(
    source: Source, record: ExportedFeature, strongest: float
) -> list[tuple[float, float, float | None]]:
    """(low, high, share of tokens) from the strongest down."""
    edges, counts = source.histogram_edges, record.statistics["histogram"]
    end = len(counts)
    while end > 1 and counts[end - 1] == 0:
        end -= 1
    intervals: list[tuple[float, float, float | None]] = []
    high = strongest
    for number_ in range(_INTERVALS):
        # Two bins an octave.
        begin = 0 if number_ == _INTERVALS - 1 else max(0, end - 2)
        low = 0.0 if begin == 0 else edges[begin]
        share = sum(counts[begin:end]) / source.tokens if source.tokens else None
        intervals.append((low, high, share))
        if begin == 0:
            break
        end, high = begin, low
    return intervals


def tokens_of(window: Window, vocabulary: Vocabulary) -> list[str]:
    """One string a token; joined they are the window's text. Some may be empty."""
    return vocabulary.pieces(window.token_ids.tolist())


def histogram(source: Source, record: ExportedFeature) -> tuple[list[float], list[int]]:
    """The centers of the bins in which the feature fires at all, and how often it does."""
    edges, counts = source.histogram_edges, record.statistics["histogram"]
    filled = [i for i, count in enumerate(counts) if count > 0]
    places = range(filled[0], filled[-1] + 1) if filled else range(0)
    centers = numbers([(edges[i] * edges[i + 1]) ** 0.5 for i in places])
    return centers, [counts[i] for i in places]


def logits(record: ExportedFeature, name: str) -> tuple[list[str], list[float]]:
    """`raised_tokens` or `lowered_tokens` and their logits; empty where not known."""
    listed = [t for t in record.statistics[name] or [] if number(t["logit"]) is not None]
    return [t["token"] for t in listed], numbers([t["logit"] for t in listed])


def related(record: ExportedFeature, name: str, score: str) -> tuple[list[int], list[float]]:
    """`similar` or `coactive` features and how much they are."""
    listed = [r for r in record.statistics[name] or [] if number(r[score]) is not None]
    return [r["feature"] for r in listed], numbers([r[score] for r in listed])


def dumps(value: Any) -> str:
    """JSON in ASCII, on one line; a number that JSON cannot hold is an error."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def without_nul(texts: Sequence[str]) -> list[str]:
    """What a Postgres text can hold."""
    return [text.replace("\0", "\ufffd") for text in texts]
