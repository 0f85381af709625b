"""Excerpts of no corpus with activations that no label is about, to be told from a feature's own.

They are the same for all features; tokens are words rather than the subject model's.
"""

from dataclasses import dataclass

import numpy as np

from autointerp.evidence.window import Window


@dataclass(frozen=True, slots=True)
class Decoy:
    """`activations`: one a token, 10 the largest."""

    tokens: tuple[str, ...]
    activations: tuple[int, ...]


def _decoy(text: str, **active: int) -> Decoy:
    """The words of a text, each with the space before it; `active`: word → activation."""
    words = text.split(" ")
    tokens = (words[0], *(f" {word}" for word in words[1:]))
    return Decoy(tokens, tuple(active.get(word, 0) for word in words))


DECOYS = (
    _decoy("The ferry to Oban leaves twice a day in winter", Oban=10),
    _decoy("Stir the lentils until the onions turn golden and soft", lentils=10, onions=7),
    _decoy("Each receptor binds zinc at its third loop", receptor=10),
    _decoy("The orchestra rehearsed the slow movement again on Tuesday", movement=10),
    _decoy("Tenants must give notice two months before the lease ends", lease=10),
)


def decoy_window(number: int) -> Window:
    """What stands for a decoy among windows: it has a text and no tokens of the subject model."""
    return Window(
        kind="generated",
        split="score",
        rank=number,
        context=-1 - number,
        start=0,
        peak=0,
        token_ids=np.zeros(0, dtype=np.int32),
        activations=np.zeros(0, dtype=np.float32),
        text="".join(DECOYS[number].tokens),
    )
