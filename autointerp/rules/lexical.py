"""Labels without a language model: the simplest rule for the tokens a feature fires on."""

from collections.abc import Sequence

import numpy as np
from threadpoolctl import ThreadpoolController

from autointerp.evidence.window import FeatureEvidence, Window
from autointerp.rules.left_out import left_out
from autointerp.rules.literals import Array, Stream, Tables, build_stream
from autointerp.rules.rules import Rule, Term
from autointerp.rules.search import UNSEEN, Search
from autointerp.vocabulary import Vocabulary

NAME = "lexical"
VERSION = 1  # of the learner: another one makes other rules from the same windows
# A silent token stands for many more of the corpus than one near a firing; beyond this factor
# a single chance match would decide the rule.
MAX_SILENT_WEIGHT = 8.0


class LexicalLabeler:
    """Learns rules from features' labeling windows, and judges windows by a rule alone."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.tables = Tables(vocabulary)
        # Many small products: BLAS's own threads make none of them faster, and on a busy machine
        # they wait for one another most of the time.
        self._threads = ThreadpoolController()

    def learn(self, evidence: FeatureEvidence) -> Rule | None:
        """The best rule for the labeling windows; None when the feature never fires in them."""
        with self._threads.limit(limits=1, user_api="blas"):
            return self._learn(evidence)

    def _learn(self, evidence: FeatureEvidence) -> Rule | None:
        windows = evidence.of("label", "top", "sample", "negative")
        stream = build_stream(self.tables, windows)
        target = _target(windows, evidence.max_activation)
        fires = np.array([bool(part.any()) for part in stream.split(target)], dtype=bool)
        if not fires.any():
            return None
        weights = _weights(stream, fires, evidence.window_density)
        covered = np.zeros(len(target), dtype=bool)
        terms: list[Term] = []
        # Square roots, so that weak firings, most of what a label has to find, count as well.
        search = Search(stream, np.sqrt(target), weights)
        for literal in search.literals():
            current, context = literal.current, literal.context
            matched = stream.rows(current.kind, current.codes) & ~covered
            matched &= literal.holds
            weighted = matched * weights
            mass = weighted.sum(axis=1) + UNSEEN
            levels = 10 * (weighted @ target) / mass
            shares = (weighted @ (target > 0)) / mass
            terms.append(Term(current, context, _floats(levels), _floats(shares)))
            covered |= matched.any(axis=0)
        hits = int((covered & (target > 0)).sum())
        scores = _chances(stream, terms)
        threshold = _threshold(scores, fires)
        return Rule(
            terms=tuple(terms),
            precision=hits / max(1, int(covered.sum())),
            recall=hits / int((target > 0).sum()),
            threshold=threshold,
            active_windows=int(fires.sum()),
            silent_windows=int((~fires).sum()),
            silent_matched=int((scores[~fires] >= threshold).sum()),
            left_out=left_out(windows, stream, search, target > 0),
        )

    def predict(self, rule: Rule, windows: Sequence[Window]) -> list[Array]:
        """The rule's activation of each token, 10 being the feature's maximum: float32 [length]."""
        stream = build_stream(self.tables, windows)
        levels = _first_match(stream, rule.terms, [term.levels for term in rule.terms])
        return stream.split(levels.astype(np.float32))

    def matches(self, rule: Rule, windows: Sequence[Window]) -> list[float]:
        """How likely each window has a firing, from the shares of its matches, 0 to 1."""
        scores = _chances(build_stream(self.tables, windows), rule.terms)
        return [float(score) for score in scores]

    def fires(self, rule: Rule, windows: Sequence[Window]) -> list[bool]:
        """Whether each window's `matches` reaches the rule's own threshold."""
        return [score >= rule.threshold for score in self.matches(rule, windows)]


def _target(windows: Sequence[Window], maximum: float) -> Array:
    """Activations as shares of the feature's maximum, end to end: [tokens]."""
    values = np.concatenate([np.zeros(0), *(w.activations for w in windows)])
    values = np.maximum(np.nan_to_num(values, posinf=0.0), 0.0)
    largest = max(float(values.max(initial=0.0)), maximum if np.isfinite(maximum) else 0.0)
    return np.asarray(values / largest) if largest > 0 else values


def _weights(stream: Stream, fires: Array, share: float) -> Array:
    """1 for tokens of firing windows, more for silent ones, which stand for more text: [tokens].

    `share` is that of all windows in which the feature fires.
    """
    active, silent = int(fires.sum()), int((~fires).sum())
    if not silent:
        return np.ones(len(stream.ids))
    share = float(np.clip(np.nan_to_num(share), 1e-9, 1.0))
    ratio = (1 - share) / silent / (share / active)
    weight = min(max(ratio, 1.0), MAX_SILENT_WEIGHT)
    return np.repeat(np.where(fires, 1.0, weight), stream.lengths)


def _first_match(
    stream: Stream, terms: Sequence[Term], values: Sequence[tuple[float, ...]]
) -> Array:
    """For each token the value of the first literal that matches it, 0 for none: [tokens]."""
    result = np.zeros(len(stream.ids))
    free = np.ones(len(stream.ids), dtype=bool)
    for term, per_value in zip(terms, values, strict=True):
        matched = stream.rows(term.current.kind, term.current.codes) & free
        matched &= stream.holds(term.context.kind, term.context.codes)
        result += np.asarray(per_value) @ matched
        free &= ~matched.any(axis=0)
    return result


def _chances(stream: Stream, terms: Sequence[Term]) -> Array:
    """The chance that any match fires, were they independent, for each window: [windows]."""
    shares = _first_match(stream, terms, [term.shares for term in terms])
    return np.array([1 - np.prod(1 - part) for part in stream.split(shares)])


def _threshold(scores: Array, fires: Array) -> float:
    """The score from which windows count as firing, best by balanced accuracy; 0 excluded."""
    levels = np.unique(scores[scores > 0])
    if not len(levels) or fires.all():
        return float(levels[0]) if len(levels) else 1.0
    reached = scores >= levels[:, None]
    accuracy = reached[:, fires].mean(axis=1) + (~reached[:, ~fires]).mean(axis=1)
    pick = int(np.argmax(accuracy))
    below = float(levels[pick - 1]) if pick else 0.0
    return (below + float(levels[pick])) / 2


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(round(float(v), 4) for v in values)
