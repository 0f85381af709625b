"""Units: what lies on one side when windows are split into those to label and those to score.

Where documents are known, a unit is a document, or several short ones in a row that together fill a
context. A document is cut only where it is longer than 64 contexts and than half of the text before
it: one that makes up most of a corpus would leave a side without text. Where documents are unknown,
and within one that is cut, units are blocks of 64 consecutive contexts, or a tenth of a corpus that
has fewer than 640. Where a unit begins depends on the text before it alone, so that it is the same
for any batches, and for any part of the text that a process reads.
"""

import numpy as np

BLOCK = 64  # contexts
_UNITS = 10  # that a corpus has at least, as far as it has as many contexts
MANY = BLOCK * _UNITS  # contexts from which on it does not matter how many there are


def block_of(contexts: int) -> int:
    """The contexts of a block in a corpus of so many: `BLOCK` of any number from `MANY` on."""
    return max(1, min(BLOCK, contexts // _UNITS))


class Units:
    """Where units begin in a text that is read from its beginning."""

    def __init__(self, length: int, contexts: int) -> None:
        """`length`: tokens of a context. `contexts`: in the corpus, counted as far as `MANY`."""
        self.block = block_of(contexts)
        self.cut = 0  # documents that do not lie in one unit
        self._length = length
        self._limit = self._block_tokens = self.block * length
        self._number = 0  # of the present unit
        self._begin = 0  # its first position; tokens are counted through all contexts
        self._read = 0  # positions
        self._document = self._last_cut = -1

    def of(self, document: np.ndarray) -> np.ndarray:
        """The unit of every token of the next contexts.

        document: int32 [contexts, length], ascending, -1 where there is none → int64, same shape.
        """
        number, first = self._number, self._read
        starts = np.array(self.starts(document), dtype=np.int64)
        place = np.arange(first, first + document.size).reshape(document.shape)
        return number + np.searchsorted(starts, place, side="right")

    def starts(self, document: np.ndarray) -> list[int]:
        """The positions at which units begin in the next contexts, but for the text's first."""
        flat = document.ravel()
        end = self._read + len(flat)
        begins = self._begins(flat)
        found: list[int] = []
        while True:
            # Documents that begin before, but for the last, are too short to be units.
            after = int(np.searchsorted(begins, self._begin + self._length))
            if after > 0 and (last := int(begins[after - 1])) >= self._begin:
                self._limit = max(self._limit, last - self._begin + self._longest(last))
            document_begin = int(begins[after]) if after < len(begins) else end
            block_end = self._begin + self._limit
            if min(document_begin, block_end) >= end:
                break
            self._begin = min(document_begin, block_end)
            self._number += 1
            found.append(self._begin)
            self._limit = self._block_tokens
            of = int(flat[self._begin - self._read])
            if block_end < document_begin and of >= 0:
                self.cut += of != self._last_cut
                self._last_cut = of
        self._read = end
        return found

    def _longest(self, begin: int) -> int:
        """Tokens of the longest document from there on that is one unit."""
        return max(self._block_tokens, begin // 2)

    def _begins(self, flat: np.ndarray) -> np.ndarray:
        """The positions at which documents begin: int64, ascending."""
        place = np.flatnonzero(flat >= 0)
        if len(place) == 0:
            return place
        document = flat[place]
        before = np.concatenate([[self._document], document[:-1]])
        self._document = int(document[-1])
        found: np.ndarray = self._read + place[document != before]
        return found

    def remarks(self) -> list[str]:
        """What to say of a corpus in which a document is cut."""
        if self.cut == 0:
            return []
        said = "1 document is" if self.cut == 1 else f"{self.cut:,} documents are"
        return [
            f"{said} longer than half of the text before: split in blocks of "
            f"{contexts_in_a_row(self.block)}"
        ]


def contexts_in_a_row(block: int) -> str:
    """The size of a block, in words."""
    few = f", since the corpus has fewer than {MANY}" if block < BLOCK else ""
    return ("1 context" if block == 1 else f"{block} consecutive contexts") + few
