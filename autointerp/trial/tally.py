"""From the outcomes of single requests to what a record says of each way of asking."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from autointerp.scoring import forms
from autointerp.scoring.scorer import Judgment
from autointerp.scoring.scorers import simulation
from autointerp.trial.tasks import Answers, LabelCounts, Tried
from autointerp.trial.trial_record import JudgeWay, LabelWay, SimulationWay


def label_ways(tried: Iterable[Tried]) -> list[LabelWay]:
    """By features a request, the fewest first."""
    groups: dict[int, list[LabelCounts]] = defaultdict(list)
    for one in tried:
        if isinstance(one.found, LabelCounts):
            groups[one.found.size].append(one.found)
    return [
        LabelWay(
            size=size,
            features=sum(found.features for found in group),
            readable=sum(found.readable for found in group),
            copied=sum(found.copied for found in group),
            declined=sum(found.declined for found in group),
            alike=sum(found.alike for found in group),
            right=sum(found.right for found in group),
            mended=sum(found.mended for found in group),
        )
        for size, group in sorted(groups.items())
    ]


_WAYS = (*forms.FORMS, *(str(task.mode) for task in simulation.SCORER.templates().values()))


def _by_way(tried: Iterable[Tried]) -> dict[tuple[str, str, int], list[Answers]]:
    """Task, way and items of each, in an order that does not depend on which reply came first."""
    groups: dict[tuple[str, str, int], list[Answers]] = defaultdict(list)
    for one in tried:
        if isinstance(one.found, Answers) and one.found.given:
            groups[one.found.task, one.found.way, one.found.items].append(one.found)
    return dict(sorted(groups.items(), key=lambda g: (g[0][0], _WAYS.index(g[0][1]), g[0][2])))


def judge_ways(tried: Iterable[Tried]) -> list[JudgeWay]:
    ways = []
    for (task, form, items), group in _by_way(tried).items():
        if task == simulation.NAME:
            continue
        every = [judgment for found in group for judgment in found.judgments]
        read = [j for j in every if j.prediction is not None]
        ways.append(
            JudgeWay(
                task=task,
                form=form,
                items=items,
                asked=len(every),
                answered=len(read),
                yes=sum(_is_yes(j) for j in read),
                right=sum(_is_yes(j) == _is_true(j) for j in read),
                ranked=_ranked([every] if items == 1 else [found.judgments for found in group]),
            )
        )
    return ways


def _is_yes(judgment: Judgment) -> bool:
    return judgment.prediction is not None and bool(judgment.prediction[0] > 0)


def _is_true(judgment: Judgment) -> bool:
    return bool(judgment.item.truth[0] > 0)


def _ranked(groups: Sequence[Sequence[Judgment]]) -> float | None:
    """How many would be right if in each group as many as are true, the likeliest, were yes.

    Of equally likely ones each is taken for yes in part. None where there are no probabilities.
    """
    if all(j.probability is None for group in groups for j in group):
        return None
    right = 0.0
    for group in groups:
        chances = np.array([0.5 if j.probability is None else j.probability for j in group])
        truths = np.array([_is_true(j) for j in group])
        wanted = int(truths.sum())
        if wanted in (0, len(group)):
            right += len(group) / 2  # nothing to tell apart
            continue
        bound = np.sort(chances)[-wanted]
        above, at = chances > bound, chances == bound
        share = (wanted - above.sum()) / at.sum()
        hits = float((above & truths).sum() + share * (at & truths).sum())
        right += 2 * hits + len(group) - 2 * wanted
    return right


def simulation_ways(tried: Iterable[Tried]) -> list[SimulationWay]:
    return [
        SimulationWay(
            mode=mode,
            windows=sum(len(found.judgments) for found in group),
            answered=sum(j.prediction is not None for found in group for j in found.judgments),
            correlation=_correlation(group),
        )
        for (task, mode, _), group in _by_way(tried).items()
        if task == simulation.NAME
    ]


def _correlation(answers: Sequence[Answers]) -> float | None:
    """Of predicted with true activations over all tokens that have both; None without any."""
    pairs = [
        (judgment.item.truth, judgment.prediction)
        for one in answers
        for judgment in one.judgments
        if judgment.prediction is not None
    ]
    if not pairs:
        return None
    truth, prediction = (np.concatenate(values) for values in zip(*pairs, strict=True))
    known = ~np.isnan(prediction)
    if not known.any():
        return None
    x, y = truth[known], prediction[known]
    if x.std() == 0 or y.std() == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1].clip(-1, 1))


def ways_not_given(tried: Iterable[Tried]) -> list[str]:
    """The ways of asking that the endpoint does not allow."""
    found = [one.found for one in tried]
    return list(dict.fromkeys(a.way for a in found if isinstance(a, Answers) and not a.given))
