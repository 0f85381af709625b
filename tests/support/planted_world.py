"""A generated corpus with 500 features of all kinds, whose every firing is known; and judges of it.

Features fire by rules on token ids, of which no coder of single tokens could compute some: the
cache is a sparse one, with the firings themselves. Truths are looked up by a window's place, for
single windows and for all windows of the corpus alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from autointerp.activations.activation_batch import VALID, ActivationBatch, norm_sample
from autointerp.activations.manifest import SparseContent
from autointerp.activations.writer import CacheWriter
from autointerp.scoring.scorer import Item, Judgment
from autointerp.tensors.firings import Firings
from autointerp.vocabulary import Vocabulary
from tests.support.caches import about

KINDS = {
    "token": 150,
    "set": 90,
    "bigram": 80,
    "topic": 40,
    "positional": 40,
    "two_meanings": 80,
    "dead": 20,
}
LENGTH = 48
WINDOW = 16
_COMMON, _TOPICS, _TOPIC_WORDS = 300, 20, 6
_TOKENS = _COMMON + _TOPICS * _TOPIC_WORDS
_TOPIC_RATE = 0.15  # of the tokens of a document with a topic
_LEAKED = 0.02  # of the tokens of any document: topic words, whatever its topic
_MASK64 = (1 << 64) - 1


def uniform(*parts: int | np.ndarray) -> np.ndarray:
    """A number in [0, 1) from the integers: splitmix64 (Steele et al. 2014) of all, broadcast."""
    state = np.uint64(0)
    with np.errstate(over="ignore"):
        for part in parts:
            x = np.asarray(part).astype(np.uint64) ^ state
            x = x + np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = x ^ (x >> np.uint64(31))
    return np.asarray((state >> np.uint64(11)).astype(np.float64) / (1 << 53))


@dataclass(frozen=True)
class Rule:
    """Fires on `tokens`; for some after `previous`, in documents of `topic`, or at `positions`."""

    kind: str
    tokens: tuple[int, ...]
    previous: tuple[int, ...] = ()
    topic: int | None = None
    positions: tuple[int, int] | None = None
    also: tuple[int, ...] = ()  # tokens of a second meaning, on which it fires in any case

    def fires(self, world: "World") -> np.ndarray:
        """bool [contexts, length]"""
        on = world.having(self.tokens)
        if self.previous:
            on[:, 1:] &= world.having(self.previous)[:, :-1]
        if self.topic is not None:
            on &= (world.topics == self.topic)[:, None]
        if self.positions is not None:
            place = np.arange(LENGTH)
            on &= (place >= self.positions[0]) & (place < self.positions[1])
        on |= world.having(self.also)
        on[:, 0] = False  # the first position is masked
        return on


@dataclass(frozen=True, eq=False)
class World:
    """`token_ids`: [contexts, length]; `topics`: [contexts], -1 for none; a rule a feature."""

    token_ids: np.ndarray
    topics: np.ndarray
    rules: list[Rule]
    vocabulary: Vocabulary
    cache: Path

    @property
    def starts(self) -> int:
        return LENGTH - WINDOW + 1

    @cached_property
    def fires(self) -> np.ndarray:
        """bool [features, contexts, length]"""
        return np.stack([rule.fires(self) for rule in self.rules])

    @cached_property
    def firings_in(self) -> np.ndarray:
        """How often each feature fires in every window: uint8 [features, contexts, starts]."""
        return self._in_windows(self.fires)

    @cached_property
    def tempts(self) -> np.ndarray:
        """Windows with a token of the rule in which it does not fire, shaped as `firings_in`."""
        tokens = [self.having((*r.tokens, *r.also)) for r in self.rules]
        return (self._in_windows(np.stack(tokens)) > 0) & (self.firings_in == 0)

    def having(self, tokens: tuple[int, ...]) -> np.ndarray:
        """Where one of the tokens stands: bool [contexts, length]."""
        chosen = np.zeros(_TOKENS, bool)
        chosen[list(tokens)] = True
        return np.asarray(chosen[self.token_ids])

    @staticmethod
    def _in_windows(on: np.ndarray) -> np.ndarray:
        total = np.zeros((*on.shape[:2], LENGTH + 1), np.uint8)
        np.cumsum(on, axis=2, out=total[:, :, 1:])
        return total[:, :, WINDOW:] - total[:, :, :-WINDOW]

    def alive(self) -> list[int]:
        return [f for f, rule in enumerate(self.rules) if rule.kind != "dead"]


def make_world(folder: Path, *, contexts: int = 2400, seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    words = 1 / (np.arange(_COMMON) + 40)
    token_ids = rng.choice(_COMMON, (contexts, LENGTH), p=words / words.sum())
    topics = rng.integers(-_TOPICS // 2, _TOPICS, contexts).clip(-1)
    of_topic = topics[:, None] * _TOPIC_WORDS + rng.integers(0, _TOPIC_WORDS, token_ids.shape)
    on_topic = (rng.random(token_ids.shape) < _TOPIC_RATE) & (topics >= 0)[:, None]
    token_ids = np.where(on_topic, _COMMON + of_topic, token_ids)
    leaked = rng.random(token_ids.shape) < _LEAKED
    token_ids = np.where(leaked, rng.integers(_COMMON, _TOKENS, token_ids.shape), token_ids)
    vocabulary = Vocabulary(tuple(f" t{i}".encode() for i in range(_TOKENS)), frozenset())
    world = World(token_ids, topics, _rules(rng), vocabulary, folder / "cache")
    _write(world, rng)
    return world


def _rules(rng: np.random.Generator) -> list[Rule]:
    def some(n: int, most: int = _COMMON) -> tuple[int, ...]:
        return tuple(int(t) for t in rng.choice(most, n, replace=False))

    def bigram(kind: str, also: tuple[int, ...] = ()) -> Rule:
        return Rule(kind, some(4, 60), previous=some(3, 12), also=also)

    found = [Rule("token", (i,)) for i in range(KINDS["token"])]
    found += [Rule("set", some(int(rng.integers(2, 5)))) for _ in range(KINDS["set"])]
    found += [bigram("bigram") for _ in range(KINDS["bigram"])]
    for number in range(KINDS["topic"]):
        topic, half = number % _TOPICS, number // _TOPICS
        first = _COMMON + topic * _TOPIC_WORDS + half * _TOPIC_WORDS // 2
        found.append(Rule("topic", tuple(range(first, first + _TOPIC_WORDS // 2)), topic=topic))
    for number in range(KINDS["positional"]):
        begin = 1 + number % (LENGTH - 6)
        found.append(Rule("positional", some(12), positions=(begin, begin + 5)))
    found += [bigram("two_meanings", also=some(1)) for _ in range(KINDS["two_meanings"])]
    return found + [Rule("dead", ()) for _ in range(KINDS["dead"])]


def _write(world: World, rng: np.random.Generator) -> None:
    feature, context, position = np.nonzero(world.fires)
    token = context * LENGTH + position
    order = np.lexsort((feature, token))
    feature, token = torch.from_numpy(feature[order]), torch.from_numpy(token[order])
    value = torch.from_numpy(rng.uniform(1, 5, len(token)).astype(np.float32))
    ids = torch.from_numpy(world.token_ids.astype(np.int32))
    batch = ActivationBatch(
        0, ids, torch.full(ids.shape, VALID, dtype=torch.uint8), torch.ones((*ids.shape, 1))
    )
    writer = CacheWriter(world.cache, "planted world")
    writer.begin(norm_sample(torch.ones(ids.shape), torch.ones(ids.shape, dtype=torch.bool)))
    documents = np.repeat(np.arange(len(ids), dtype=np.int32)[:, None], LENGTH, axis=1)
    writer.add(batch, documents, Firings(token, feature, value))
    world.vocabulary.save(writer.partial / "vocabulary.parquet")
    sparse = SparseContent(
        coder="world", coder_identity="world", features=len(world.rules), firings=0
    )
    writer.finish(about(1, LENGTH, sparse=sparse))


@dataclass(frozen=True)
class Judge:
    """A judge of known error rates, one a feature: right labels are told from wrong ones.

    Of windows in which the feature fires it finds `hit`; with `by_count` each firing is found by
    itself, so that windows with many are found more often. It takes silent windows that tempt for
    firing ones at the rate `tempted`, others at `alarm`. Noise of `noise` falls on activations
    predicted. By wrong labels its answers say nothing: yes at the rate `blind`.
    """

    world: World
    hit: np.ndarray
    alarm: np.ndarray
    tempted: np.ndarray
    noise: np.ndarray
    seed: int = 0
    by_count: bool = False

    def hits(self, feature: int, firings: np.ndarray) -> np.ndarray:
        """The rate at which windows with so many firings are found."""
        if not self.by_count:
            return np.full(np.shape(firings), self.hit[feature])
        return np.asarray(1 - (1 - self.hit[feature]) ** firings)

    def everywhere(self, feature: int) -> np.ndarray:
        """What it says of every window of the corpus: bool [contexts, starts]."""
        firings = self.world.firings_in[feature]
        alarms = np.where(self.world.tempts[feature], self.tempted[feature], self.alarm[feature])
        rate = np.where(firings > 0, self.hits(feature, firings), alarms)
        context, start = np.indices(firings.shape)
        return uniform(self.seed, feature, context, start) < rate

    def judge(self, feature: int, items: Sequence[Item], blind: float | None) -> list[Judgment]:
        """By the right label, or, with `blind`, by a wrong one."""
        if not items:
            return []
        context = np.array([item.window.context for item in items])
        start = np.array([item.window.start for item in items])
        draw = uniform(self.seed, feature, context, start)
        firings = self.world.firings_in[feature, context, start]
        tempts = self.world.tempts[feature, context, start]
        hits = self.hits(feature, np.maximum(firings, 1))
        alarms = np.where(tempts, self.tempted[feature], self.alarm[feature])
        judged = []
        for i, item in enumerate(items):
            if len(item.truth) > 1:
                said = self._activations(feature, item, right=blind is None)
            else:
                rate = hits[i] if item.truth[0] > 0 else alarms[i]
                said = np.array([draw[i] < (rate if blind is None else blind)], np.float32)
            judged.append(Judgment(item, said))
        return judged

    def _activations(self, feature: int, item: Item, right: bool) -> np.ndarray:
        place = np.arange(len(item.truth)) + item.window.start
        draws = [uniform(self.seed, feature, item.window.context, place, n) for n in (1, 2)]
        noise = np.sqrt(-2 * np.log1p(-draws[0])) * np.cos(2 * np.pi * draws[1])
        level = item.truth if right else 0.0
        return np.clip(level + self.noise[feature] * noise, 0, 10).astype(np.float32)


def make_judge(world: World, *, seed: int = 0, by_count: bool = False) -> Judge:
    """Its rates differ from feature to feature."""
    rng = np.random.default_rng([seed, 7])
    n = len(world.rules)
    hit = rng.uniform(0.2, 0.6, n) if by_count else rng.uniform(0.6, 1, n)
    alarm, tempted = rng.uniform(0, 0.06, n), rng.uniform(0, 0.5, n)
    return Judge(world, hit, alarm, tempted, rng.uniform(0.5, 3, n), seed, by_count)
