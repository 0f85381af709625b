"""Chooses the evidence among the windows that a pass kept: the best, without near-duplicates.

Near-duplication is not an equivalence relation: the best of several that resemble each other in
turn depends on all of them. So a pass keeps more than requested, and they are compared once it is
over. A window that repeats a better one is dropped, and the next best takes its place.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from autointerp.evidence.repeats import Repeats, shingles, similar_windows
from autointerp.evidence.selection import NONE, Selection

_PAIRS_AT_ONCE = 1 << 22


class DroppedWindows(NamedTuple):
    """Dropped windows: near-duplicates, and those that recur in an earlier split."""

    repeats: int
    shared: int


def choose(selections: Sequence[Selection], repeats: Repeats) -> DroppedWindows:
    """Reduce each selection to the requested windows; sorted selections stay sorted.

    A window is left out where a better one of its selection resembles it, or one that a selection
    of an earlier split was left: a text that recurs is not both shown to the labeler and scored.
    """
    features = len(selections[0].priority)
    windows = sum(selection.places for selection in selections)
    rows_at_once = max(1, _PAIRS_AT_ONCE // windows**2)
    found = DroppedWindows(0, 0)
    for begin in range(0, features, rows_at_once):
        rows = slice(begin, begin + rows_at_once)
        some = _choose_of_rows(selections, repeats, rows)
        found = DroppedWindows(found.repeats + some.repeats, found.shared + some.shared)
    return found


def _choose_of_rows(
    selections: Sequence[Selection], repeats: Repeats, rows: slice
) -> DroppedWindows:
    kept = torch.cat([s.priority[rows] for s in selections], 1) != NONE
    row, better, worse = _pairs(selections, repeats, rows, kept)
    repeated = shared = end = 0
    earlier: list[tuple[str, range]] = []
    for selection in selections:
        own = range(end, end + selection.places)
        end = own.stop
        before = int(kept.sum())
        for split, others in earlier:
            if split != selection.spec.split:
                of_other = _within(better, others) & _within(worse, own) & kept[row, better]
                kept[row[of_other], worse[of_other]] = False
        after = int(kept.sum())
        shared += before - after
        inside = _within(better, own) & _within(worse, own)
        _drop_repeats(kept, row[inside], better[inside], worse[inside])
        repeated += after - int(kept.sum())
        mine = kept[:, own.start : own.stop]
        mine &= mine.cumsum(1) <= selection.spec.k
        selection.priority[rows][~mine] = NONE
        earlier.append((selection.spec.split, own))
    return DroppedWindows(repeated, shared)


def _pairs(
    selections: Sequence[Selection], repeats: Repeats, rows: slice, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    if repeats == "near":
        token_ids = torch.cat([s.token_ids[rows] for s in selections], 1)
        marks, present = shingles(token_ids.flatten(0, 1))
        marks, present = (t.view(*kept.shape, -1) for t in (marks, present))
    else:
        marks = torch.cat([s.text_key[rows] for s in selections], 1).unsqueeze(2)
        present = torch.ones_like(marks, dtype=torch.bool)
    return similar_windows(marks, present & kept.unsqueeze(2))


def _within(index: Tensor, part: range) -> Tensor:
    return (index >= part.start) & (index < part.stop)


def _drop_repeats(kept: Tensor, row: Tensor, better: Tensor, worse: Tensor) -> None:
    """From the best on, drop what repeats one that stays."""
    while True:
        undecided = kept[row, better] & kept[row, worse]
        row, better, worse = row[undecided], better[undecided], worse[undecided]
        if len(row) == 0:
            return
        is_repeat = torch.zeros_like(kept)
        is_repeat[row, worse] = True
        stays = ~is_repeat[row, better]
        kept[row[stays], worse[stays]] = False
