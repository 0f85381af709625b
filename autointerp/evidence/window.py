"""Windows and evidence: what a feature fired on, as the labelers and scorers see it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Kind = Literal["top", "sample", "negative", "near_miss", "corpus", "generated"]
Split = Literal["label", "validate", "score"]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Consecutive tokens of one context with one feature's activation on each of them.

    `kind` says how it was selected: `top` by activation, `sample` uniformly among firings,
    `negative` uniformly among windows in which the feature is silent, `corpus` among all windows,
    for all features together; `generated` ones the subject model wrote. `start` is the position of
    its first token in the context, `peak` the index in the window of its largest activation,
    `quantile` the share of the feature's firings that are weaker; None where it is silent.
    `document` is the number of its document in the corpus, None where that is unknown.
    """

    kind: Kind
    split: Split
    rank: int
    context: int
    start: int
    peak: int
    token_ids: np.ndarray  # int32 [length]
    activations: np.ndarray  # float32 [length], 0 where silent
    text: str
    quantile: float | None = None
    document: int | None = None

    @property
    def fires(self) -> bool:
        return bool(self.activations.max(initial=0.0) > 0)

    @property
    def firings(self) -> int:
        """On how many of its tokens the feature fires."""
        return int((self.activations > 0).sum())


@dataclass(frozen=True, slots=True)
class TokenCount:
    """How often a feature fires on one token, among a uniform sample of its firings."""

    token: str
    count: int
    mean_activation: float


@dataclass(frozen=True, slots=True)
class FeatureEvidence:
    """Everything collected for one feature: statistics over the corpus, and windows.

    `density` is the share of tokens on which it fires, `window_density` the share of windows of
    this length in which it fires at all; NaN where it is not known, as of imported records, of
    which the other statistics are. `label_only`: all of its windows are to label it from.
    """

    feature: int
    n_active: int
    density: float
    mean_activation: float
    max_activation: float
    window_density: float = 0.0
    top_tokens: list[TokenCount] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    similar: list[tuple[int, float]] = field(default_factory=list)  # by cosine of the decoder
    coactive: list[tuple[int, float]] = field(default_factory=list)  # by Jaccard overlap of tokens
    raised_tokens: list[str] = field(default_factory=list)  # by the logit lens
    lowered_tokens: list[str] = field(default_factory=list)
    label_only: bool = False

    def of(self, split: Split, *kinds: Kind) -> list[Window]:
        """The windows of one split, of the given kinds (all kinds when none is given)."""
        return [w for w in self.windows if w.split == split and (not kinds or w.kind in kinds)]


def spread(windows: Sequence[Window], n: int) -> list[Window]:
    """`n` windows evenly over the ranks of their largest activations, or all there are."""
    ranked = sorted(windows, key=lambda w: (-float(w.activations.max()), w.context))
    if len(ranked) <= n:
        return ranked
    places = np.floor((np.arange(n) + 0.5) * len(ranked) / n).astype(int)
    return [ranked[i] for i in places]
