"""Cross-validation of a rule by documents: what it is worth on text it was not learned from."""

from collections.abc import Iterator, Sequence

import numpy as np

from autointerp.evidence.window import Window
from autointerp.rules.literals import Array, Stream
from autointerp.rules.rules import FOLDS, LeftOut
from autointerp.rules.search import Search

# Consecutive contexts that are taken for one document where none is known; fewer of them where that
# would leave too few documents.
_NEIGHBORS = (64, 8)


def left_out(windows: Sequence[Window], stream: Stream, search: Search, firing: Array) -> LeftOut:
    """How rules learned without each fold of the documents do on that fold.

    windows: those of the stream. search: by all windows, finished. firing: bool [tokens].
    """
    fires = np.array([bool(part.any()) for part in stream.split(firing)])
    found, document = np.unique(documents_of(windows, fires), return_inverse=True)
    if len(found) < 2:
        return LeftOut(0, 0, int(firing.sum()), 0)
    parts = [np.repeat(part, stream.lengths) for part in _folds(document, fires)]
    hits = matched = 0
    for part, without in zip(parts, search.without(parts), strict=True):
        matches = np.zeros(len(firing), dtype=bool)
        for literal in without.literals():
            matches |= literal.holds
        hits += int((matches & firing & part).sum())
        matched += int((matches & part).sum())
    return LeftOut(hits, matched, int(firing.sum()), len(np.unique(document[fires])))


def documents_of(windows: Sequence[Window], fires: Array) -> Array:
    """Which text each is from, [windows]: windows of one are alike, those of others are new.

    fires: bool [windows].
    """
    contexts = np.array([window.context for window in windows], dtype=np.int64)
    documents = [window.document for window in windows]
    if None not in documents:
        return _in_blocks(np.array(documents, dtype=np.int64), contexts)
    for neighbors in _NEIGHBORS:
        found = contexts // neighbors
        if len(np.unique(found[fires])) >= FOLDS:
            break
    return found


def _in_blocks(documents: Array, contexts: Array) -> Array:
    """Documents, one that is more than a third of the text in blocks of contexts.

    Such a document is longer than half of the text before it, wherever it stands, so that the split
    has cut it (see `activations.units`): much of the text on the other side is of it as well.
    """
    _, document = np.unique(documents, return_inverse=True)
    first, last = (np.zeros(document.max() + 1, dtype=np.int64) for _ in range(2))
    first[:] = contexts.max()
    np.minimum.at(first, document, contexts)
    np.maximum.at(last, document, contexts)
    length = last - first + 1
    text = contexts.max() - contexts.min() + 1
    long = ((length > _NEIGHBORS[0]) & (3 * length > text))[document]
    block = np.where(long, contexts // _NEIGHBORS[0], 0)
    return np.unique(np.stack([document, block]), axis=1, return_inverse=True)[1].ravel()


def _folds(document: Array, fires: Array) -> Iterator[Array]:
    """Where windows are of each fold's documents: bool [windows].

    Documents are dealt out by the number of windows in which the feature fires, the largest first,
    in turns, so that folds are about equal and the same on every run.
    """
    size = np.bincount(document, fires)
    order = np.argsort(-size, kind="stable")
    fold = np.empty(len(size), dtype=np.int64)
    fold[order] = np.arange(len(size)) % FOLDS
    for number in range(min(FOLDS, len(size))):
        yield fold[document] == number
