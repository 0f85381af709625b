"""The search for a rule's literals, one after another.

A literal is worth the squared activation it explains: Σ s² / (m + λ) over its values (s: the
activation, m: the weight of the tokens that match), as a share of all squared activation: for a
feature that is on or off, its precision × its recall. Literals, values and contexts each cost a
fixed share, so a longer rule has to earn it.
"""

from dataclasses import dataclass

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


class Search:
    """Finds literals one after another, each in what the ones before it left unexplained."""

    def __init__(self, stream: Stream, target: Array, weights: Array) -> None:
        self.stream = stream
        self.target = target
        self.weights = weights
        self.total = float((weights * target * target).sum())
        firing_windows = len(np.unique(stream.begin[target > 0]))
        self.value_support = min(VALUE_SUPPORT, firing_windows)
        self.context_support = min(CONTEXT_SUPPORT, firing_windows)
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

    def literals(self) -> list[tuple[Predicate, Predicate]]:
        """(current, context) predicates in the order found."""
        literals: list[tuple[Predicate, Predicate]] = []
        while len(literals) < MAX_TERMS:
            gains = self.weights * self.target
            if not gains.any():
                break
            current, context = self._candidates(gains)
            found = self._best(current, context, gains)
            if literals and found.gain <= 0:
                break
            literal = (
                current.predicate(found.current, self.stream.tables),
                context.predicate(found.context, self.stream.tables),
            )
            literals.append(literal)
            covered = [self.stream.holds(side.kind, side.codes) for side in literal]
            self.weights = np.where(covered[0] & covered[1], 0.0, self.weights)
        return literals

    def _candidates(self, gains: Array) -> tuple[_Side, _Side]:
        """The values worth most by themselves, of each kind."""
        only = np.zeros(1, dtype=np.int64)
        current = {
            kind: _leaders(values, gains, self.weights, CURRENT_COUNT[kind])
            for kind, values in self.current.items()
        }
        context = {
            kind: _leaders(values, gains, self.weights, CONTEXT_COUNT[kind])
            for kind, values in self.context.items()
        }
        return (
            _Side.of(self.stream, {**current, "any": only}),
            _Side.of(self.stream, {"always": only, **context, "start": np.array(START_BOUNDS)}),
        )

    def _best(self, current: _Side, context: _Side, gains: Array) -> _Found:
        """The literal worth most, looking at the most promising (values, context) first."""
        worth = self._worth(current.holds, context.holds, gains) - VALUE_COST
        families = [np.flatnonzero(current.kinds == kind) for kind in SETS]
        families += [np.array([row]) for row in np.flatnonzero(~np.isin(current.kinds, SETS))]
        costs = TERM_COST + np.array([CONTEXT_COST[kind] for kind in context.kinds])
        costs = costs + np.array([[CURRENT_COST[current.kinds[rows[0]]]] for rows in families])
        bounds = np.stack([_total(worth[rows]) for rows in families]) - costs
        anything = np.array([len(current.codes) - 1])
        best = _Found(-1.0, anything, np.array([0]))
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
                found = self._widen(found, current, context, gains)
                best = max(best, found, key=lambda f: f.gain)
        return best

    def _worth(self, current: Array, context: Array, gains: Array) -> Array:
        """Share of squared activation that each conjunction explains: [current, context]."""
        firing = np.flatnonzero(gains)
        mass = (current * self.weights.astype(np.float32)) @ context.T
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

    def _widen(self, found: _Found, current: _Side, context: _Side, gains: Array) -> _Found:
        """Add alternatives to the context while they are worth their cost."""
        kind = context.kinds[found.context[0]]
        if kind in ("always", "start"):
            return found
        others = np.flatnonzero(context.kinds == kind)
        holds = context.holds[found.context[0]]
        values = current.holds[found.current]
        before = float(_total(self._worth(values, holds[None], gains))[0])
        while len(found.context) < MAX_VALUES:
            wider = np.maximum(context.holds[others], holds)
            after = _total(self._worth(values, wider, gains))
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
