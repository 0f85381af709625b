"""What a trial says: which settings to use, and whether the model is better than chance.

Thirty requests are few, so two questions are kept apart. Settings are chosen by the point
estimates: something has to be used. That a judge is of use is only believed where the interval of
its accuracy lies above one half. Since the best of several ways is looked at, the interval is wider
by Bonferroni's correction: of N ways that could have been the best, each is given at the level
1 - 0.05 / N, so that a judge that tosses coins passes in at most one trial of twenty, whatever the
ways have to do with each other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from autointerp.config.settings import RunConfig
from autointerp.metrics.estimates import wilson
from autointerp.scoring import forms
from autointerp.scoring.scorers import detection
from autointerp.trial.concepts import concepts
from autointerp.trial.trial_record import JudgeWay, LabelWay, TrialRecord

_FURTHER = 2  # sizes of requests that only the best form is asked about: many excerpts, and one
_AS_GOOD = 0.05  # of accuracy given up for more excerpts a request: what it saves is certain
_AS_RIGHT = 0.1  # and of right labels, for more features a request
_AS_LIKELY = 0.15  # of accuracy by which the better of two forms may still be the worse one


def score(way: JudgeWay) -> float:
    """The share of right answers; one that is missing counts half, as a coin would have it."""
    if way.asked == 0:
        return 0.5
    return max(correct(way), way.ranked or 0.0) / way.asked


def correct(way: JudgeWay) -> float:
    return way.right + (way.asked - way.answered) / 2


def comparisons(ways: Sequence[JudgeWay]) -> int:
    """How many could have been picked as the best.

    Probabilities are looked at twice, as answers and by rank.
    """
    tried = {way.form for way in ways}
    by_rank = 1 + _FURTHER if forms.PROBABILITIES in tried else 0
    return len(tried) + _FURTHER + by_rank


def interval(way: JudgeWay, of: int) -> tuple[float, float]:
    """95 % of the accuracy (Wilson), where this is the best of so many ways."""
    return wilson(score(way) * way.asked, way.asked, comparisons=of)


def is_told_from_chance(way: JudgeWay, of: int) -> bool:
    return interval(way, of)[0] > 0.5


def only_ranks(way: JudgeWay, record: TrialRecord) -> bool:
    """Whether its probabilities are told from chance, and its answers are not."""
    of = comparisons(detections(record))
    answers = way.model_copy(update={"ranked": None})
    return is_told_from_chance(way, of) and not is_told_from_chance(answers, of)


def is_any_good(ways: Sequence[JudgeWay]) -> bool:
    tried = [way for way in ways if way.task == detection.NAME]
    return any(is_told_from_chance(way, comparisons(tried)) for way in tried)


def detections(record: TrialRecord) -> list[JudgeWay]:
    return [way for way in record.judging if way.task == detection.NAME]


def best_form(ways: Sequence[JudgeWay]) -> str:
    """The form of the best score; of equals the first."""
    return max(ways, key=score).form


def second_form(ways: Sequence[JudgeWay]) -> str | None:
    """The next best, where it might as well be the best; none where that is told from chance.

    Booleans and probabilities are the same answers.
    """
    first = max(ways, key=score)
    if is_told_from_chance(first, comparisons(ways)):
        return None
    same = (forms.BOOLEANS, forms.PROBABILITIES)
    others = [w for w in ways if w.form != first.form and not {w.form, first.form} <= {*same}]
    near = [way for way in others if score(way) >= score(first) - _AS_LIKELY]
    return best_form(near) if near else None


def best_judge(record: TrialRecord) -> JudgeWay | None:
    """The way of judging to use: of the best form, as many excerpts a request as do no harm."""
    every = detections(record)
    if not every:
        return None
    of = comparisons(every)
    good = [way for way in every if is_told_from_chance(way, of)]
    found = good or every
    form = best_form(found)
    same = [way for way in found if way.form == form]
    if not good:
        return max(same, key=score)
    enough = max(map(score, same)) - _AS_GOOD
    return max((way for way in same if score(way) >= enough), key=lambda way: way.items)


def judge_in_use(record: TrialRecord, config: RunConfig) -> JudgeWay | None:
    """What was tried that is most like the way in which a run asks."""
    form = forms.BOOLEANS if config.judge_form in record.not_given else config.judge_form
    same = [way for way in detections(record) if way.form == form]
    fewer = [way for way in same if way.items <= config.judge_items]
    if fewer:
        return max(fewer, key=lambda way: way.items)
    return min(same, key=lambda way: way.items, default=None)


def best_labels(record: TrialRecord) -> LabelWay | None:
    """As many features a request as do no harm to the labels.

    What comes of the first reply counts: asking again costs as much as asking about each alone. But
    for a model that names none at once, all it says comes of asking again.
    """
    if not record.labels:
        return None
    shares = {way.size: way.right / max(1, way.features) for way in record.labels}
    if not any(shares.values()):
        shares = {way.size: named(way) / max(1, way.features) for way in record.labels}
    if not any(shares.values()):
        return min(record.labels, key=lambda way: way.size)
    good = [w for w in record.labels if shares[w.size] >= max(shares.values()) - _AS_RIGHT]
    return max(good, key=lambda way: way.size)


def labels_in_use(record: TrialRecord, config: RunConfig) -> LabelWay | None:
    fewer = [way for way in record.labels if way.size <= config.features_per_request]
    return max(fewer, key=lambda way: way.size, default=None)


def named(way: LabelWay) -> int:
    """How many labels named their concept in the end."""
    return way.right + way.mended


def names_features(way: LabelWay, of: int) -> bool:
    """Whether it was right more often than one label for all concepts would be."""
    return wilson(named(way), way.features, comparisons=of)[0] > 1 / len(concepts())


def settings(record: TrialRecord) -> dict[str, Any]:
    """The settings to use, by name; those that were given stay as they were."""
    found: dict[str, Any] = {}
    if labels := best_labels(record):
        found["features_per_request"] = labels.size
    if judge := best_judge(record):
        found |= {"judge_form": judge.form, "judge_items": judge.items}
    found["response_format"] = record.response_format
    known = {w.mode: w.correlation for w in record.simulation if w.correlation is not None}
    if known:
        enough = max(known.values()) - _AS_GOOD
        # The paper's way comes first, the one in which nothing but the reply is read last.
        found["simulation_mode"] = next(mode for mode, r in known.items() if r >= enough)
    return found | dict(record.given)


def failings(
    record: TrialRecord, config: RunConfig, *, labels: bool = True, judge: bool = True
) -> list[str]:
    """Why a run in these settings is not worth its money, a clause each; empty where it is.

    `labels` and `judge` say what the model is to be used for.
    """
    found = []
    if judge and (way := judge_in_use(record, config)) is not None:
        of = comparisons(detections(record))
        if not is_told_from_chance(way, of):
            found.append(f"as a judge it was {_not_told(way, of)}")
    labeled = labels_in_use(record, config) if labels else None
    if labeled is not None and not names_features(labeled, len(record.labels)):
        found.append(
            f"as a labeler it named {named(labeled)} of {labeled.features} planted "
            "concepts, no better than giving all of them one label"
        )
    return found


def _not_told(way: JudgeWay, of: int) -> str:
    low, high = interval(way, of)
    how = f"{way.form}, {way.items} excerpts per request"
    return (
        f"not distinguishable from chance in {way.asked} answers ({how}: "
        f"{score(way):.0%} right, {low:.0%} to {high:.0%} as the best of {of} ways)"
    )


def advice(
    record: TrialRecord, config: RunConfig, *, labels: bool = True, judge: bool = True
) -> str | None:
    """How a run would do better, where these settings fail and those to use do not."""
    best: Mapping[str, Any] = settings(record)
    better = config.model_copy(update=dict(best))
    now, then = (failings(record, c, labels=labels, judge=judge) for c in (config, better))
    if now and not then:
        return f"--auto would do better: {as_flags(best)}"
    return None


def as_flags(chosen: Mapping[str, Any]) -> str:
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in chosen.items())
