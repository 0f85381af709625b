"""What the page of one feature shows: plain data, the same for the server and for a report."""

from dataclasses import dataclass
from typing import Any

from autointerp.tables.edits import Edit


@dataclass(frozen=True, slots=True)
class ShownWindow:
    """A window as text: `tokens` on one line each, unseen characters visible, with activations."""

    kind: str
    split: str
    rank: int
    context: int
    start: int
    peak: int
    quantile: float | None
    tokens: list[str]
    activations: list[float]


@dataclass(frozen=True, slots=True)
class ShownJudgment:
    """What a judge said of one window, by the label of `label_of`.

    `window` is the key of the page's windows, None where the text is not kept. `right` is None
    where an answer could not be read, or is neither right nor wrong, as a rating is.
    """

    scorer: str
    mode: str | None
    label_of: int
    window: str | None
    stratum: str
    truth: float | None
    prediction: float | None
    probability: float | None
    right: bool | None
    token_prediction: list[float | None] | None
    marks: list[int] | None


@dataclass(frozen=True, slots=True)
class ShownScore:
    """A row of `scores.parquet`."""

    scorer: str
    metric: str
    mode: str | None
    value: float | None
    ci_low: float | None
    ci_high: float | None
    null_value: float | None
    by_chance: bool  # whether the null is what chance gets
    p_value: float | None
    q_value: float | None
    lift: float | None
    n: int | None
    parse_rate: float | None
    judge: str | None


@dataclass(frozen=True, slots=True)
class Decile:
    """Of one scorer's windows of a tenth of activation strengths: how many were found."""

    scorer: str
    decile: int  # 0 are the weakest firings
    n: int
    found: int


@dataclass(frozen=True, slots=True)
class Related:
    """Another feature: `share` is the cosine of decoders, or the Jaccard overlap of tokens."""

    feature: int
    share: float
    label: str | None


@dataclass(frozen=True, slots=True)
class ShownToken:
    token: str
    count: int
    mean_activation: float


@dataclass(frozen=True, slots=True)
class ShownLogit:
    token: str
    logit: float


@dataclass(frozen=True, slots=True)
class ShownStatistics:
    """From the pass over the corpus; `histogram` counts firings between `edges`, [bins + 1].

    `density` is the share of tokens, `window_density` that of windows of `window_length` tokens.
    """

    n_active: int
    density: float | None  # None where only records of some texts are known
    window_density: float | None
    window_length: int | None
    mean_activation: float
    max_activation: float
    edges: list[float]
    histogram: list[int]
    top_tokens: list[ShownToken]
    raised_tokens: list[ShownLogit]  # the next tokens that the feature's direction makes likelier
    lowered_tokens: list[ShownLogit]
    similar: list[Related]
    coactive: list[Related]


@dataclass(frozen=True, slots=True)
class FeaturePage:
    """One feature: `row` is its row of the label table, edits applied, empty before there is one.

    `edits` are what was said of it since, oldest first.
    """

    feature: int
    row: dict[str, Any]
    edits: list[Edit]
    statistics: ShownStatistics
    scores: list[ShownScore]
    deciles: list[Decile]
    windows: dict[str, ShownWindow]
    judged: list[ShownJudgment]
