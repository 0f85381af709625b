"""Scorers whose judge is a model on this machine: which are asked for, their models, their loop."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

from autointerp.config.settings import RunConfig
from autointerp.errors import MissingPackageError
from autointerp.prompting.prompts import Prompt
from autointerp.runs.session import Job
from autointerp.scoring import SCORERS
from autointerp.scoring.scorer import Judged, Judgment, LocalJudge, Plan, Scorer
from autointerp.scoring.scorers.on_device import identity

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
    name: str = getattr(config, f"{scorer}_model")
    return name


def open_judges(job: Job, prompts: Mapping[str, Prompt]) -> dict[str, LocalJudge]:
    """Scorer → its judge. Raises AutointerpError where one cannot be loaded."""
    check(job.config)
    return {
        name: local.open(_model(job.config, name), job.device(), prompts.get(name))
        for name in names(job.config)
        if (local := SCORERS[name].local) is not None
    }


def judge(
    judges: Mapping[str, LocalJudge],
    plans: Iterable[tuple[Scorer, Plan]],
    labels: Callable[[Scorer, int], list[tuple[int, str]]],
) -> Iterator[Judged]:
    """Judge all plans, some features at a time.

    labels: scorer, feature → the features whose labels are judged on its windows, and these labels.
    """
    plans = iter(plans)
    while batch := list(islice(plans, _PLANS_AT_ONCE * max(1, len(judges)))):
        for name, open_judge in judges.items():
            asked = [
                (plan, label_of, label)
                for scorer, plan in batch
                if scorer.name == name
                for label_of, label in labels(scorer, plan.feature)
            ]
            judgments = open_judge([(label, plan) for plan, _, label in asked])
            for (plan, label_of, _), found in zip(asked, judgments, strict=True):
                yield Judged(plan, name, label_of, found, error=_error(found))


def _error(judgments: list[Judgment]) -> str | None:
    missing = sum(j.prediction is None for j in judgments)
    if not missing:
        return None
    return f"{missing} of {len(judgments)} windows without a readable judgment"
