"""Experiments: what a scorer measures with the subject model, beside what judges say of windows."""

import importlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from autointerp.coders import SparseCoder
from autointerp.evidence.corpus import Corpus
from autointerp.llm.pool import PoolJob
from autointerp.llm.totals import PoolTotals
from autointerp.llm.wire.request import ChatRequest
from autointerp.metrics.estimates import Estimate
from autointerp.progress import Tracker
from autointerp.prompting.prompts import Prompt
from autointerp.scoring.judge import JudgeSettings
from autointerp.scoring.scorer import Judged, Scorer
from autointerp.scoring.steered_subject import LiveSubject
from autointerp.vocabulary import Vocabulary

R = TypeVar("R")


class Lab(Protocol):
    """What an experiment may use in a run. What is costly to have is opened when it is used."""

    @property
    def scorer(self) -> Scorer:
        """Whose experiment it is."""

    @property
    def settings(self) -> Any:
        """Those of the scorer."""

    @property
    def seed(self) -> int: ...

    @property
    def judge(self) -> JudgeSettings | None:
        """The language model that is asked; None where there is none."""

    @property
    def prompts(self) -> Mapping[str, Prompt]:
        """By task."""

    @property
    def corpus(self) -> Corpus: ...

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def coder(self) -> SparseCoder | None: ...

    @property
    def hook(self) -> str | None:
        """Where the subject model is read; None where there is a cache in its place."""

    @property
    def made_from(self) -> Sequence[str] | None:
        """Changes when what the subject model does on a text would; None where there is none."""

    @property
    def subject(self) -> LiveSubject:
        """The subject model, loaded. Raises AutointerpError."""

    @property
    def folder(self) -> Path:
        """Where it may keep files with the run; not there before it is made."""

    def ask(
        self,
        make_jobs: Callable[[], Iterable[PoolJob[R]]],
        take: Callable[[R], None],
        progress: Tracker,
    ) -> tuple[PoolTotals, BaseException | None]:
        """Ask the language model: what it took, and what ended it early."""


@dataclass(frozen=True)
class ExperimentLabels:
    """The labels, by feature, and for nulls the feature whose label takes a feature's place.

    `maxima`: each labeled feature's largest activation in the corpus.
    """

    texts: Mapping[int, str]
    nulls: Mapping[int, int]
    maxima: Mapping[int, float]


@dataclass
class Measured:
    """Metric → feature → estimate and parse rate by its own label, and by another's."""

    own: dict[str, dict[int, tuple[Estimate, float]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    nulls: dict[str, dict[int, tuple[Estimate, float]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    spent: list[Judged] = field(default_factory=list)  # without their judgments
    asked: dict[str, PoolTotals] = field(default_factory=dict)  # by what was asked for
    stopped: BaseException | None = None


@dataclass(frozen=True)
class Experiment:
    """What a scorer measures with the subject model at hand, beside what judges say of windows.

    `metrics` come of it. `missing`: metric → why it cannot be measured in this run, whatever the
    replies. `identity`: what the result depends on, beside what all scores do. `measure` asks, runs
    the subject model, and gives `predict` what judges said of texts; it ends early where asking
    does. `tasks`: template → the keys of replies to it, beside the scorer's own. `requests`: all
    that would be sent, each with the tokens of its reply; `messages`: those of a task.
    """

    metrics: tuple[str, ...]
    missing: Callable[[Lab], dict[str, str]]
    identity: Callable[[Lab], dict[str, Any]]
    measure: Callable[[Lab, ExperimentLabels, Callable[[Judged], None]], Measured]
    tasks: Mapping[str, tuple[str, ...]]
    requests: Callable[[Lab, ExperimentLabels], Iterator[tuple[ChatRequest, int]]]
    messages: Callable[[Lab, Mapping[int, str], str], Iterator[list[dict[str, str]]]]


def experiment_of(scorer: Scorer) -> Experiment | None:
    """The scorer's experiment, loaded; None where it has none."""
    if scorer.experiment is None:
        return None
    module, _, name = scorer.experiment.partition(":")
    found = getattr(importlib.import_module(module), name)
    assert isinstance(found, Experiment), f"{scorer.experiment} is not an Experiment"
    return found
