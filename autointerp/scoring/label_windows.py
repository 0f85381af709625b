"""Windows of the corpus that are like a label: where a judge who reads it may raise an alarm.

The other strata follow the feature, this one its label: "months" deceives a judge on windows with
months in them, whatever the feature fires on.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from autointerp.evidence.corpus import Corpus

# A label → sets of window numbers, int64, the most telling set first.
LabelWindows = Callable[[str], Iterable[np.ndarray]]

_WORD = re.compile(r"[^\W_]{2,}")
_NEAREST = 0.05  # of the windows, by meaning


def by_words(corpus: Corpus) -> LabelWindows:
    """Windows with a word of the label, in any case: those with its rarest word first."""
    windows: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(corpus.texts()):
        for word in _words(text):
            windows[word].append(number)
    found = {word: np.array(numbers) for word, numbers in windows.items()}

    def sources(label: str) -> list[np.ndarray]:
        known = [found[word] for word in sorted(_words(label)) if word in found]
        return sorted(known, key=len)

    return sources


def by_meaning(
    corpus: Corpus, documents: np.ndarray, query: Callable[[str], np.ndarray]
) -> LabelWindows:
    """The windows nearest to the label; documents: unit vectors [windows, width] of their texts."""

    def sources(label: str) -> list[np.ndarray]:
        nearness = documents @ query(label)
        return [np.argsort(-nearness, kind="stable")[: int(_NEAREST * len(corpus))]]

    return sources


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))
