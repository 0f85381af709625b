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
_QUOTED = re.compile(r"(?<!\w)'([^']+)'|\"([^\"]+)\"")
# Words of labels that say how a text is described, not what is in it.
_EMPTY = frozenset(
    _WORD.findall(
        "a about active after all an and any are as at before beginning by case character "
        "characters class code common concept contains context contexts digit digits each end "
        "ending especially every excerpt excerpts feature features first followed following for "
        "from function functions general has have in including into is it its kind last letter "
        "letters like line lines list many mention mentions name names newline no not number of "
        "often on one or other out part particularly pattern patterns phrase phrases piece plural "
        "punctuation reference references related right same sentence sentences sequence singular "
        "some space specific start starting such symbol symbols syntax term terms text texts than "
        "that the their these this those to token tokens topic type types use used using various "
        "when where which with within word words "
    )
)
_NEAREST = 0.05  # of the windows, by meaning


def by_words(corpus: Corpus) -> LabelWindows:
    """Windows with a telling word of the label, in any case: those with its rarest one first."""
    windows: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(corpus.texts()):
        for word in _words(text):
            windows[word].append(number)
    found = {word: np.array(numbers) for word, numbers in windows.items()}

    def sources(label: str) -> list[np.ndarray]:
        known = [found[word] for word in sorted(_telling_words(label)) if word in found]
        return sorted(known, key=len)

    return sources


def by_meaning(
    corpus: Corpus, documents: Callable[[], np.ndarray], query: Callable[[str], np.ndarray]
) -> LabelWindows:
    """The windows nearest to the label; documents: unit vectors [windows, width] of their texts."""

    def sources(label: str) -> list[np.ndarray]:
        if not len(corpus):
            return []
        nearness = documents() @ query(label)
        return [np.argsort(-nearness, kind="stable")[: int(_NEAREST * len(corpus))]]

    return sources


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))


def _telling_words(label: str) -> set[str]:
    """What the label is about: its quoted words where it quotes any, else all but empty ones."""
    quoted = " ".join(match[1] or match[2] for match in _QUOTED.finditer(label))
    return (_words(quoted) or _words(label)) - _EMPTY
