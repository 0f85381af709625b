"""What every scorer shares: what there is to judge, what was said of it, and scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from autointerp.config.scorer_settings import PeerProtocol, ScorerSettings
from autointerp.evidence.window import FeatureEvidence, Window, spread
from autointerp.llm.wire.logprobs import Logprobs, Position
from autointerp.llm.wire.request import ReplySchema
from autointerp.metrics.estimates import Counts, Estimate
from autointerp.prompting.prompts import Prompt
from autointerp.registry import AFTER_OURS, Registry
from autointerp.rules.lexical import LexicalLabeler
from autointerp.rules.rules import Rule
from autointerp.scoring.replies import KEPT, Replies
from autointerp.scoring.scorers.choices import Choices, KnownLabels
from autointerp.scoring.strata import Stratum
from autointerp.vocabulary import Vocabulary

if TYPE_CHECKING:
    import torch

    from autointerp.evidence.corpus import Corpus

FIRES = "fires"  # the stratum of windows in which the feature fires
# Strata of windows that were drawn to be strong, or whether the feature fires in them or not.
TOP, RANDOM = "top_window", "random_window"


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One thing to judge, nearly always a window; `stratum` says what kind of one it is.

    `truth` is what a perfect judge would say: float32 [1] (1: yes), or [length], one a token; or
    what ratings are compared by, such as the activation.
    """

    window: Window
    stratum: str
    truth: np.ndarray
    marks: np.ndarray | None = None  # bool [length]: the tokens that are shown marked
    part: slice | None = None  # the tokens that are shown, where not all are
    beside: tuple[Window, ...] = ()  # windows that are shown together with it
    choices: Choices | None = None  # other labels that the judge may choose instead


@dataclass(frozen=True, slots=True)
class Judgment:
    """What a judge said of one item; `prediction` is None where it could not be read.

    `probability` is that of the item being a match, for a judge that gives one. A local judge's
    prediction is its graded score: the higher, the likelier a match.
    """

    item: Item
    prediction: np.ndarray | None  # float32, shape of the truth; NaN for tokens that have none
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one scorer asks of one feature, in the order in which it is asked.

    `density` is the share of the corpus's windows in which the feature fires, `shares` that of each
    stratum among those in which it is silent.
    """

    feature: int
    items: Sequence[Item]
    density: float
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judged:
    """All judgments of one scorer on one feature's items, by the label of `label_of`.

    `unanswered` says that the judge could not be had, `unread` that of some requests nothing in any
    reply could be read: another time may mend both. `mode` says by which of a scorer's ways it was
    asked, `replies` what kinds of replies came.
    """

    plan: Plan
    scorer: str
    label_of: int
    judgments: Sequence[Judgment]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    error: str | None = None
    unanswered: bool = False
    unread: bool = False
    mode: str | None = None
    replies: Replies = field(default_factory=Replies)

    @property
    def feature(self) -> int:
        return self.plan.feature

    def readable(self) -> list[Judgment]:
        return [j for j in self.judgments if j.prediction is not None]

    def is_uniform(self) -> bool:
        """Whether to all items of a request one answer was given, and no other could be had."""
        return self.replies.counts.get(KEPT, 0) > 0

    def parse_rate(self) -> float:
        """The share of judgments, or of tokens, that could be read; NaN where nothing was asked."""
        asked = sum(j.item.truth.size for j in self.judgments)
        read = [j.prediction for j in self.judgments if j.prediction is not None]
        known = int((~np.isnan(np.concatenate(read))).sum()) if read else 0
        return known / asked if asked else float("nan")


@dataclass(frozen=True, slots=True)
class Score:
    """One row of `scores.parquet`.

    `null_value` is that of another feature's label on the same windows. `p_value`: the share of
    such labels that do at least as well, of features of like density; `lift`: how much of the way
    from their median to 1 the value goes; `q_value`: see `beside_nulls.with_q_values`. `uniform`:
    to all items of a request the judge gave one answer, also when it was asked about fewer of them.
    """

    feature: int
    scorer: str
    metric: str
    estimate: Estimate
    null_value: float | None
    parse_rate: float
    p_value: float | None = None
    lift: float | None = None
    q_value: float | None = None
    mode: str | None = None
    uniform: bool = False


@dataclass(frozen=True, slots=True)
class Material:
    """What a scorer may draw on for one feature: its windows, and silent ones by stratum."""

    evidence: FeatureEvidence
    corpus: "Corpus"
    strata: Sequence[Stratum]
    seed: int
    special_ids: frozenset[int] = frozenset()  # tokens on which no feature counts as firing
    labels: KnownLabels = field(default_factory=KnownLabels)  # of all features that have one
    by_label: bool = False  # whether windows like the label are judged, and more of rare features

    def plan(self, items: Sequence[Item]) -> Plan:
        """The items, shuffled so that their order says nothing of them, the same on every run."""
        feature = self.evidence.feature
        order = np.random.default_rng([self.seed, feature]).permutation(len(items))
        shares = {s.name: s.share for s in self.strata}
        return Plan(feature, [items[i] for i in order], self.evidence.window_density, shares)


@dataclass(frozen=True)
class Task:
    """How a language model is asked, and read: the template's name is the scorer's.

    `schema`: the items, and whether their numbers are scattered → what a reply must look like,
    None where it is not a JSON object.
    `render`: number and item → what the template shows of it. `read`: a reply, the items it is
    about and whether their numbers are scattered → predictions by their index, those that can be
    read; raises Miscounted. `variables`: what the template shows
    of a request as a whole, from its items; `render` is given these as well, by name. `mode` names
    it among a scorer's ways of asking, where there are several.

    Of a question with two answers: `form` is what the template is told to ask for (see `forms.py`).
    `said`: a reply → number and answer of everything it says, before any of it is believed.
    `logprobs` are what the reply is of no use without; `chances`: the reply's tokens, how many
    items, and whether their numbers are scattered → the probability of yes by index, as `read`.
    """

    schema: Callable[[Sequence[Item], bool], ReplySchema | None]
    render: Callable[..., dict[str, Any]]
    read: Callable[[str, Sequence[Item], bool], dict[int, np.ndarray]]
    reply_tokens: Callable[[Item], int]
    variables: Callable[[Sequence[Item], Vocabulary], dict[str, Any]] = lambda *_: {}
    mode: str | None = None
    form: str | None = None
    said: Callable[[str], Sequence[tuple[int | None, bool]]] | None = None
    logprobs: Logprobs | None = None
    chances: Callable[[Sequence[Position], int, bool], dict[int, float]] | None = None

    def keys(self) -> tuple[str, ...]:
        """The keys of the JSON object that a reply is; none where it is not one."""
        schema = self.schema((), False)
        return () if schema is None else tuple(schema.schema["properties"])


@dataclass(frozen=True)
class TokenTask:
    """As `Task`, read from the probabilities of tokens: `mode` says of which.

    `read`: positions, the last message that was sent, the items, and whether their numbers are
    scattered; raises Miscounted. The template's name is the
    scorer's and the mode's, with a `_` between.
    """

    mode: Logprobs
    render: Callable[[int, Item, Vocabulary], dict[str, Any]]
    read: Callable[[Sequence[Position], str, Sequence[Item], bool], dict[int, np.ndarray]]
    reply_tokens: Callable[[Item], int]
    variables: Callable[[Sequence[Item], Vocabulary], dict[str, Any]] = lambda *_: {}


class LocalJudge(Protocol):
    """A model on this machine, opened once a run. Missing is None in a judgment, as always."""

    def __call__(self, asked: Sequence[tuple[str, Plan]]) -> list[list[Judgment]]:
        """Labels, each with a plan → the judgments of each plan's items, in their order."""


@dataclass(frozen=True)
class Local:
    """A model on this machine that judges in place of a chat endpoint.

    `model`: the scorer's settings → which model it is. `open`: its name, the device and the
    scorer's template (None unless `template`) → the judge; raises AutointerpError. `package`: what
    must be installed for it, with the `extra` that brings it.
    """

    model: Callable[[Any], str]
    open: Callable[[str, "torch.device", Prompt | None], LocalJudge]
    package: str
    extra: str | None = None
    template: bool = False


@dataclass(frozen=True)
class FurtherColumn:
    """A metric beside the main one that the label table has, with its interval or without."""

    metric: str
    about: str
    interval: bool = True


RuleJudge = Callable[[LexicalLabeler, Rule, Sequence[Item]], list[Judgment]]
Samples = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Scorer:
    """A way to put labels to the test.

    `metric` is its main one, with a place of its own in the label table; `about` says there what
    it is. `columns`: others that the table has; `usual`: it has columns whether the scorer is asked
    for or not. `settings`: its own, which `plan` is given. `task`: how an endpoint is
    asked; `local`: a model on this machine in its stead. `reduce`: metric → estimate. `counts`:
    yes-or-no answers by stratum, from which the metric follows and asking may stop early.
    `by_rule`: for a rule in place of a language model, None where a rule cannot.
    `per_token`: truths and predictions are of tokens. `chance`: what a judge that knows nothing
    gets, the null of scorers to which another feature's label says nothing. `flat`: metrics without
    a value where all predictions are the same, and what that amounts to. `preferred_modes`: ways
    to ask that not every endpoint allows, the best first, each a measurement of its own: the
    settings choose. `forms`: ways to ask for yes or no, all by the one template; `task` is one.
    `experiment`: what it measures with the subject model (see `experiment.py`), as `module:name`;
    it is loaded when it is used. `protocol`: the other tool's that it follows, and so whatever is
    asked for otherwise: how many items a request has, and in what form they are asked about.

    `samples`: template → variables to try it on, one entry in each list. Where settings decide what
    a template is given, with all of it and with none of it. `template_folder`: where the templates
    are; None: they come with this package.
    """

    name: str
    metric: str
    about: str
    settings: type[ScorerSettings]
    plan: Callable[[Material, Any], Plan]
    reduce: Callable[[Judged, int], dict[str, Estimate]]
    order: int = AFTER_OURS
    samples: Samples = field(default_factory=dict)
    template_folder: Path | None = None
    columns: tuple[FurtherColumn, ...] = ()
    usual: bool = False
    task: Task | None = None
    local: Local | None = None
    counts: Callable[[Judged], Counts] | None = None
    by_rule: RuleJudge | None = None
    per_token: bool = False
    needs_label: bool = True
    chance: float | None = None
    flat: Mapping[str, float] = field(default_factory=dict)
    preferred_modes: tuple[TokenTask, ...] = ()
    forms: Mapping[str, Task] = field(default_factory=dict)
    experiment: str | None = None
    protocol: PeerProtocol | None = None

    def templates(self) -> dict[str, Task | TokenTask]:
        """Template → the way of asking an endpoint that it is for, the best first."""
        ways: dict[str, Task | TokenTask] = {
            self.template(task.mode): task for task in self.preferred_modes
        }
        return ways if self.task is None else ways | {self.name: self.task}

    def template(self, mode: str | None) -> str:
        usual = None if self.task is None else self.task.mode
        return self.name if mode in (None, usual, *self.forms) else f"{self.name}_{mode}"


SCORERS: Registry[Scorer] = Registry("autointerp.scorers")


def activating(evidence: FeatureEvidence, n: int) -> list[Window]:
    """Scoring windows in which the feature fires, over the range of its activations.

    A sample of firings is uniform over the corpus; only where it has too few do top windows of
    other contexts fill up.
    """
    sample = evidence.of("score", "sample")
    if len(sample) < n:
        contexts = {w.context for w in sample}
        sample = sample + [w for w in evidence.of("score", "top") if w.context not in contexts]
    return spread(sample, n)


def answer(yes: bool) -> np.ndarray:
    """Truth or prediction of a question with two answers."""
    return np.array([yes], dtype=np.float32)
