"""Tokens marked as Delphi and its fork at Neuronpedia mark them for fuzzing.

Right marks are on tokens of at least three tenths of their window's largest activation, as
everywhere here. Wrong ones are on windows in which the feature is silent, as many as right windows
have active tokens on average, drawn with one seed for every window: in windows of one length they
stand at the same places.
"""

import math
import random
from collections.abc import Sequence

import numpy as np

from autointerp.evidence.window import Window
from autointerp.evidence.window_text import is_marked
from autointerp.scoring.scorer import FIRES, Item, answer

SILENT = "silent"
_SEED = 22  # of both tools


# What a template is tried on that shows marked windows.
MARKED_SAMPLE = {
    "label": "a label",
    "windows": [{"number": 1, "text": "<<a>>"}],
    "open_mark": "<<",
    "close_mark": ">>",
}


def marked_items(
    activating: Sequence[Window], silent: Sequence[Window], *, at_three_quarters: bool
) -> list[Item]:
    """Activating windows marked rightly, and silent ones wrongly; as `wrong_marks`."""
    n = mean_active(activating)
    items = [rightly(window) for window in activating]
    for window in silent if n else ():
        marks = wrong_marks(len(window.token_ids), n, at_three_quarters=at_three_quarters)
        items.append(wrongly(window, marks))
    return items


def rightly(window: Window) -> Item:
    return _marked(window, FIRES, is_marked(window.activations))


def wrongly(window: Window, marks: np.ndarray) -> Item:
    return _marked(window, SILENT, marks)


def mean_active(windows: Sequence[Window]) -> int:
    """Tokens on which the feature is active, at any strength, on average over windows, rounded up.

    0 without windows.
    """
    counts = [int(np.count_nonzero(w.activations)) for w in windows]
    return math.ceil(sum(counts) / len(counts)) if counts else 0


def wrong_marks(length: int, n: int, *, at_three_quarters: bool) -> np.ndarray:
    """bool [length] with `n` tokens marked, or all there are.

    at_three_quarters: the token there is always one of them, as in Delphi, and not in its fork.
    """
    rng, places = random.Random(_SEED), list(range(length))
    n = min(n, length)
    marks = np.zeros(length, dtype=bool)
    fixed = length - length // 4
    if at_three_quarters and fixed < length:
        marks[fixed] = True
        places.remove(fixed)
        n -= 1
    marks[rng.sample(places, max(n, 0))] = True
    return marks


def _marked(window: Window, stratum: str, marks: np.ndarray) -> Item:
    whole = slice(0, len(window.token_ids))
    return Item(window, stratum, answer(stratum == FIRES), marks=marks, part=whole)
