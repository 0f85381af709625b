"""Scorers whose judge is a model on this machine: which are asked for, their models, their loop."""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from autointerp.config.settings import RunConfig
from autointerp.errors import MissingPackageError
from autointerp.progress import Tracker
from autointerp.prompting.prompts import Prompt
from autointerp.runs.record import ScoreRecord
from autointerp.scoring import SCORERS
from autointerp.scoring.planner import Planner
from autointerp.scoring.scorer import Judged, Judgment, LocalJudge, Plan, Scorer
from autointerp.scoring.scorers.on_device import identity
from autointerp.stages.score.judged_labels import JudgedLabels
from autointerp.stages.score.judging import Take

_PLANS_AT_ONCE = 16  # so that the windows of several features fill a batch


def names(config: RunConfig) -> list[str]:
    """The scorers that are judged on this machine."""
    return [name for name in config.scorer_names() if SCORERS[name].local]


def check(config: RunConfig) -> None:
    """Raises AutointerpError where what a judge needs is not installed."""
    for name in names(config):
        local = SCORERS[name].local
        if local is not None and importlib.util.find_spec(local.package) is None:
            package = "autointerp" if local.extra is None else f"autointerp[{local.extra}]"
            raise MissingPackageError(f"{name} needs {local.package}: pip install '{package}'")


def identities(config: RunConfig) -> dict[str, str]:
    """Scorer → the model that judges for it, as the tables name it."""
    return {name: identity(_model(config, name)) for name in names(config)}


def _model(config: RunConfig, scorer: str) -> str:
    local = SCORERS[scorer].local
    assert local is not None
    return local.model(config.settings_of(scorer, SCORERS[scorer].settings))


@dataclass(frozen=True)
class LocalModelsJudge:
    """The models on this machine, by scorer. They judge labels in words, whoever wrote them."""

    judges: Mapping[str, LocalJudge]
    identities: Mapping[str, str]

    def judge(
        self, planner: Planner, labels: JudgedLabels, take: Take, _progress: Tracker
    ) -> BaseException | None:
        """Some features at a time, so that their windows fill a batch."""
        plans = planner.plans(labels.features, self.judges, labels.judged)
        try:
            while batch := list(islice(plans, _PLANS_AT_ONCE * max(1, len(self.judges)))):
                for judged in self._judged(batch, labels):
                    take(judged)
        except KeyboardInterrupt as error:
            return error
        return None

    def _judged(
        self, plans: Sequence[tuple[Scorer, int, Plan]], labels: JudgedLabels
    ) -> Iterator[Judged]:
        for name, judge in self.judges.items():
            asked = [
                (plan, label_of, labels.drafts[label_of].label or "")
                for scorer, label_of, plan in plans
                if scorer.name == name
            ]
            judgments = judge([(label, plan) for plan, _, label in asked])
            for (plan, label_of, _), found in zip(asked, judgments, strict=True):
                yield Judged(plan, name, label_of, found, error=_error(found))

    def note(self, details: ScoreRecord) -> None:
        details.local_judges = dict(self.identities)


def open_judges(
    config: RunConfig, device: torch.device, prompts: Mapping[str, Prompt]
) -> LocalModelsJudge:
    """Raises AutointerpError where a model cannot be loaded."""
    check(config)
    opened = {
        name: local.open(_model(config, name), device, prompts.get(name))
        for name in names(config)
        if (local := SCORERS[name].local) is not None
    }
    return LocalModelsJudge(opened, identities(config))


def _error(judgments: list[Judgment]) -> str | None:
    missing = sum(j.prediction is None for j in judgments)
    if not missing:
        return None
    return f"{missing} of {len(judgments)} windows without a readable judgment"
