"""The search for a rule's literals, one after another.

A literal is worth the squared activation it explains: Σ s² / (m + λ) over its values (s: the
activation, m: the weight of the tokens that match), as a share of all squared activation: for a
feature that is on or off, its precision × its recall. Literals, values and contexts each cost a
fixed share, so a longer rule has to earn it.
"""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Self

import numpy as np

from autointerp.rules.literals import (
    CLASS_NAMES,
    START_BOUNDS,
    Array,
    Followers,
    Groups,
    Rows,
    Stream,
    Tables,
)
from autointerp.rules.rules import Predicate

MAX_TERMS = 4
MAX_VALUES = 8
MAX_TRIES = 12
# λ: silent matches that every value is charged for without their having been seen.
UNSEEN = 2.0
TERM_COST = 0.01
VALUE_COST = 0.004
CURRENT_COST = {"token": 0.0, "word": 0.004, "class": 0.0, "any": 0.0}
CONTEXT_COST = {
    "always": 0.0,
    "previous": 0.01,
    "previous_word": 0.012,
    "previous_class": 0.01,
    "pair": 0.015,
    "line": 0.015,
    "topic": 0.02,
    "start": 0.01,
}
SETS = ("token", "word")  # current kinds that take several values
CURRENT_COUNT = {"token": 20, "word": 12, "class": 12}
CONTEXT_COUNT = {
    "previous": 12,
    "previous_word": 6,
    "previous_class": 10,
    "pair": 8,
    "line": 12,
    "topic": 12,
}
# Windows in which a value, and a literal with a context, must have been seen firing.
VALUE_SUPPORT = 2
CONTEXT_SUPPORT = 3


@dataclass(frozen=True, slots=True)
class _Side:
    """Candidate predicates of one side of a literal, and where each holds."""

    kinds: Array
    codes: Array
    holds: Array  # float32 [candidates, tokens]

    @staticmethod
    def of(stream: Stream, chosen: dict[str, Array]) -> "_Side":
        return _Side(
            np.repeat(list(chosen), [len(codes) for codes in chosen.values()]),
            np.concatenate(list(chosen.values())),
            np.concatenate([stream.rows(k, c) for k, c in chosen.items()]).astype(np.float32),
        )

    @staticmethod
    def union(sides: Sequence["_Side"]) -> "_Side":
        """Every candidate of any of them, once."""
        places: dict[tuple[str, int], tuple[int, int]] = {}
        for number, side in enumerate(sides):
            keys = zip(side.kinds.tolist(), side.codes.tolist(), strict=True)
            for row, key in enumerate(keys):
                places.setdefault(key, (number, row))
        kinds, codes = zip(*places, strict=True)
        holds = [sides[number].holds[row] for number, row in places.values()]
        return _Side(np.array(kinds), np.array(codes), np.stack(holds))

    def only(self, kind: str) -> Array:
        """The row of a kind that has but one candidate: [1]."""
        return np.flatnonzero(self.kinds == kind)

    def predicate(self, rows: Array, tables: Tables) -> Predicate:
        kind = str(self.kinds[rows[0]])
        codes = tuple(int(c) for c in self.codes[rows])
        return Predicate(kind, codes, tuple(tables.text(kind, c) for c in codes))


@dataclass(frozen=True, slots=True)
class _Found:
    """A literal as row numbers of the candidates on either side, and its gain less its cost."""

    gain: float
    current: Array
    context: Array


@dataclass(frozen=True, slots=True)
class Literal:
    """What a token must be and what must come before it, and where both hold: bool [tokens]."""

    current: Predicate
    context: Predicate
    holds: Array


class Search:
    """Finds literals one after another, each in what the ones before it left unexplained."""

    def __init__(self, stream: Stream, target: Array, weights: Array) -> None:
        self.stream = stream
        self._set(target, weights)
        self._looked_at: list[tuple[_Side, _Side]] = []
        self._given: tuple[_Side, _Side] | None = None
        classes = np.arange(len(CLASS_NAMES))
        words = Groups.of(stream.words)
        self.current: dict[str, Groups | Rows] = {
            "token": Groups.of(stream.ids),
            "word": words,
            "class": Rows.of(classes, stream.rows("class", classes)),
        }
        self.context: dict[str, Groups | Followers | Rows] = {
            "previous": Groups.of(stream.previous),
            "previous_word": Groups.of(stream.tables.word[stream.previous]),
            "previous_class": Rows.of(classes, stream.rows("previous_class", classes)),
            "pair": Groups.of(stream.pairs),
            "line": Followers.of(words, stream.line_begin),
            "topic": Followers.of(words, stream.begin),
        }

    def _set(self, target: Array, weights: Array) -> None:
        self.target = target
        self.weights = weights
        self.total = float((weights * target * target).sum())
        firing_windows = len(np.unique(self.stream.begin[(weights > 0) & (target > 0)]))
        self.value_support = min(VALUE_SUPPORT, firing_windows)
        self.context_support = min(CONTEXT_SUPPORT, firing_windows)

    def literals(self) -> Iterator[Literal]:
        """Literals in the order found."""
        weights = self.weights
        for found in range(MAX_TERMS):
            gains = weights * self.target
            if not gains.any():
                break
            current, context = self._candidates(gains, weights)
            best = self._best(current, context, gains, weights)
            if found and best.gain <= 0:
                break
            holds = current.holds[best.current].any(0) & context.holds[best.context].any(0)
            yield Literal(
                current.predicate(best.current, self.stream.tables),
                context.predicate(best.context, self.stream.tables),
                holds,
            )
            weights = np.where(holds, 0.0, weights)

    def without(self, parts: Iterable[Array]) -> Iterator[Self]:
        """The search once more for each part of the tokens, in which those count for nothing.

        parts: bool [tokens]. Candidates are those that this search has looked at so far, which
        leaves little to do; of them those are worth something that fire outside of the part.
        """
        sides = zip(*self._looked_at, strict=True)
        current, context = (_Side.union(of_steps) for of_steps in sides)
        for part in parts:
            other = copy(self)
            other._given = current, context
            other._set(self.target, np.where(part, 0.0, self.weights))
            yield other

    def _candidates(self, gains: Array, weights: Array) -> tuple[_Side, _Side]:
        """The values worth most by themselves, of each kind."""
        if self._given is not None:
            return self._given
        found = self._leading(gains, weights)
        self._looked_at.append(found)
        return found

    def _leading(self, gains: Array, weights: Array) -> tuple[_Side, _Side]:
        only = np.zeros(1, dtype=np.int64)
        current = {
            kind: _leaders(values, gains, weights, CURRENT_COUNT[kind])
            for kind, values in self.current.items()
        }
        context = {
            kind: _leaders(values, gains, weights, CONTEXT_COUNT[kind])
            for kind, values in self.context.items()
        }
        return (
            _Side.of(self.stream, {**current, "any": only}),
            _Side.of(self.stream, {"always": only, **context, "start": np.array(START_BOUNDS)}),
        )

    def _best(self, current: _Side, context: _Side, gains: Array, weights: Array) -> _Found:
        """The literal worth most, looking at the most promising (values, context) first."""
        worth = self._worth(current.holds, context.holds, gains, weights) - VALUE_COST
        families = [np.flatnonzero(current.kinds == kind) for kind in SETS]
        families += [np.array([row]) for row in np.flatnonzero(~np.isin(current.kinds, SETS))]
        costs = TERM_COST + np.array([CONTEXT_COST[kind] for kind in context.kinds])
        costs = costs + np.array([[CURRENT_COST[current.kinds[rows[0]]]] for rows in families])
        bounds = np.stack([_total(worth[rows]) for rows in families]) - costs
        best = _Found(-1.0, current.only("any"), context.only("always"))
        for flat in np.argsort(-bounds, axis=None, kind="stable")[:MAX_TRIES]:
            family, column = np.unravel_index(flat, bounds.shape)
            if bounds[family, column] <= best.gain:
                break
            rows = families[family][np.argsort(-worth[families[family], column], kind="stable")]
            rows = rows[worth[rows, column] > 0][:MAX_VALUES]
            rows = self._supported(current.holds[rows], context.holds[column], gains, rows)
            if len(rows):
                gain = float(_total(worth[rows, column]) - costs[family, column])
                found = _Found(gain, rows, np.array([column]))
                found = self._widen(found, current, context, gains, weights)
                best = max(best, found, key=lambda f: f.gain)
        return best

    def _worth(self, current: Array, context: Array, gains: Array, weights: Array) -> Array:
        """Share of squared activation that each conjunction explains: [current, context]."""
        firing = np.flatnonzero(gains)
        mass = (current * weights.astype(np.float32)) @ context.T
        sums = (current[:, firing] * gains[firing].astype(np.float32)) @ context[:, firing].T
        return np.asarray(sums * sums / (mass + UNSEEN) / self.total)

    def _supported(self, current: Array, context: Array, gains: Array, rows: Array) -> Array:
        """The rows seen firing in enough windows, none when all together are in too few."""
        if not len(rows):
            return rows
        firing = np.flatnonzero(gains)
        edges = np.flatnonzero(np.diff(self.stream.begin[firing], prepend=-1))
        matched = current[:, firing] * context[firing]
        windows = np.maximum.reduceat(matched, edges, axis=1)
        kept = windows.sum(axis=1) >= self.value_support
        needed = self.value_support if context.all() else self.context_support
        return np.asarray(rows[kept & (windows[kept].any(axis=0).sum() >= needed)])

    def _widen(
        self, found: _Found, current: _Side, context: _Side, gains: Array, weights: Array
    ) -> _Found:
        """Add alternatives to the context while they are worth their cost."""
        kind = context.kinds[found.context[0]]
        if kind in ("always", "start"):
            return found
        others = np.flatnonzero(context.kinds == kind)
        holds = context.holds[found.context[0]]
        values = current.holds[found.current]
        before = float(_total(self._worth(values, holds[None], gains, weights))[0])
        while len(found.context) < MAX_VALUES:
            wider = np.maximum(context.holds[others], holds)
            after = _total(self._worth(values, wider, gains, weights))
            pick = int(np.argmax(after))
            rise = float(after[pick]) - before - VALUE_COST
            if rise <= 0:
                break
            added = np.append(found.context, others[pick])
            found = _Found(found.gain + rise, found.current, added)
            holds, before = wider[pick], float(after[pick])
        return found


def _leaders(values: Groups | Followers | Rows, gains: Array, weights: Array, count: int) -> Array:
    """The `count` codes worth most by themselves: [at most count]."""
    s = values.sums(gains)
    worth = np.where(values.codes >= 0, s * s / (values.sums(weights) + UNSEEN), 0.0)
    order = np.argsort(-worth, kind="stable")[:count]
    return np.asarray(values.codes[order[worth[order] > 0]])


def _total(worth: Array) -> Array:
    """What a set is worth, of values [values, …] that are each worth so much: its best ones."""
    return np.asarray(np.sort(np.maximum(worth, 0), axis=0)[-MAX_VALUES:].sum(axis=0))
