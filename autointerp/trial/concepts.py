"""Planted features: concepts whose every active token is known, as the evidence of a run."""

import hashlib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from autointerp.evidence.window import FeatureEvidence, Kind, Window
from autointerp.scoring.scorer import FIRES, Item, Plan, answer
from autointerp.scoring.scorers.fuzzing import ELSEWHERE, WITHIN
from autointerp.scoring.scorers.simulation import HIGHEST
from autointerp.vocabulary import Vocabulary

SILENT = "silent"
_FILE = resources.files("autointerp.trial").joinpath("concepts.toml")
_TOKEN = re.compile(r"\s*(?:[^\W\d]+|\d+|[^\w\s]|_)")
_TOP = 6  # of a concept's texts, those shown as its largest activations; the rest are a sample
_DENSITY = 0.01  # of a planted feature: no corpus says


@dataclass(frozen=True)
class Concept:
    """What a planted feature stands for. `near` are texts that are like its own and lack it."""

    label: str
    accepted: str
    pattern: str
    texts: tuple[str, ...]
    near: tuple[str, ...]

    def is_named_by(self, label: str) -> bool:
        return re.search(self.accepted, label.casefold()) is not None


@cache
def concepts() -> tuple[Concept, ...]:
    entries = tomllib.loads(_FILE.read_text(encoding="utf-8"))["concept"]
    return tuple(
        Concept(**(entry | {name: tuple(entry[name]) for name in ("texts", "near")}))
        for entry in entries
    )


@cache
def identity() -> str:
    """Changes when the texts do."""
    return hashlib.sha256(_FILE.read_bytes()).hexdigest()


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


@cache
def _ids() -> dict[str, int]:
    texts = (text for concept in concepts() for text in (*concept.texts, *concept.near))
    return {token: i for i, token in enumerate(dict.fromkeys(t for x in texts for t in _tokens(x)))}


@cache
def vocabulary() -> Vocabulary:
    return Vocabulary(tuple(token.encode() for token in _ids()), frozenset())


def _active(text: str, pattern: str) -> np.ndarray:
    """Which of the text's tokens overlap what the pattern finds: bool [tokens]."""
    ends = np.cumsum([len(token) for token in _tokens(text)])
    starts = ends - [len(token.lstrip()) for token in _tokens(text)]
    active = np.zeros(len(ends), dtype=bool)
    for found in re.finditer(pattern, text):
        active |= (starts < found.end()) & (ends > found.start())
    return active


def _window(
    text: str, number: int, pattern: str, kind: Kind, strength: float, quantile: float | None = None
) -> Window:
    """The first active token is the strongest; the others have three quarters of its activation."""
    active = _active(text, pattern)
    activations = np.where(active, 0.75 * strength, 0.0).astype(np.float32)
    peak = int(active.argmax())
    if active.any():
        activations[peak] = strength
    return Window(
        kind=kind,
        split="label",
        rank=number,
        context=number,
        start=0,
        peak=peak,
        token_ids=np.array([_ids()[token] for token in _tokens(text)], dtype=np.int32),
        activations=activations,
        text=text,
        quantile=quantile,
    )


@cache
def evidence(feature: int) -> FeatureEvidence:
    """The concept of this number as a feature: windows to label, the strongest first."""
    concept = concepts()[feature]
    windows = []
    sampled = len(concept.texts) - _TOP
    for i, text in enumerate(concept.texts):
        strength = HIGHEST - 0.5 * i
        quantile = None if i < _TOP else 1 - (i - _TOP + 0.5) / sampled
        kind: Kind = "top" if i < _TOP else "sample"
        windows.append(_window(text, i, concept.pattern, kind, strength, quantile))
    for i, text in enumerate(concept.near, len(windows)):
        windows.append(_window(text, i, concept.pattern, "near_miss", 0.0))
    return FeatureEvidence(
        feature=feature,
        n_active=1000,
        density=_DENSITY,
        mean_activation=HIGHEST / 2,
        max_activation=HIGHEST,
        windows=windows,
    )


def _with(feature: int) -> list[Window]:
    return [window for window in evidence(feature).windows if window.fires]


def _without(feature: int, n: int, seed: int) -> list[Window]:
    """Texts without the concept: half of them like its own, the rest of other concepts."""
    concept = concepts()[feature]
    near = [window for window in evidence(feature).windows if not window.fires]
    others = [t for i, other in enumerate(concepts()) if i != feature for t in other.texts]
    rng = np.random.default_rng([seed, feature, 0])
    drawn = [
        _window(others[i], 100 + int(i), concept.pattern, "corpus", 0.0)
        for i in rng.permutation(len(others))
    ]
    return [*rng.permutation(np.array(near, dtype=object))[: n // 2], *drawn][:n]


def _plan(feature: int, items: Sequence[Item], seed: int) -> Plan:
    """In an order that says nothing of them."""
    order = np.random.default_rng([seed, feature, 1]).permutation(len(items))
    return Plan(feature, [items[i] for i in order], _DENSITY, {SILENT: 1.0})


@cache
def detection_plan(feature: int, n: int, fires: int, seed: int) -> Plan:
    """`n` texts; `fires` of them have the concept."""
    rng = np.random.default_rng([seed, feature, 2])
    chosen = rng.permutation(np.array(_with(feature), dtype=object))[:fires]
    items = [Item(window, FIRES, answer(True)) for window in chosen]
    silent = _without(feature, n - fires, seed)
    items += [Item(window, SILENT, answer(False)) for window in silent]
    return _plan(feature, items, seed)


@cache
def fuzzing_plan(feature: int, n: int, seed: int) -> Plan:
    """`n` texts; in half of them the marked tokens are those that are active."""
    rng = np.random.default_rng([seed, feature, 3])
    windows = list(rng.permutation(np.array(_with(feature), dtype=object)))
    items = [_marked(w, w.activations > 0, FIRES) for w in windows[: n // 2]]
    within = windows[n // 2 : n // 2 + n // 4]
    silent = _without(feature, n - len(items) - len(within), seed)
    for window, stratum in [*((w, WITHIN) for w in within), *((w, ELSEWHERE) for w in silent)]:
        free = np.flatnonzero(window.activations <= 0)
        marks = np.zeros(len(window.token_ids), dtype=bool)
        marks[rng.choice(free)] = True
        items.append(_marked(window, marks, stratum))
    return _plan(feature, items, seed)


def _marked(window: Window, marks: np.ndarray, stratum: str) -> Item:
    whole = slice(0, len(window.token_ids))
    return Item(window, stratum, answer(stratum == FIRES), marks=marks, part=whole)


@cache
def simulation_plan(feature: int, n: int, seed: int) -> Plan:
    """`n` texts to simulate; half of them have the concept."""
    half = n // 2
    windows = [*_with(feature)[:half], *_without(feature, n - half, seed)]
    items = [Item(w, FIRES if w.fires else SILENT, w.activations) for w in windows]
    return _plan(feature, items, seed)
