"""Warnings about a run's judge: unusable replies, and scores no better than chance."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from autointerp.metrics.estimates import Estimate, mean_interval
from autointerp.report.control_table import metric_name
from autointerp.rules.lexical import NAME as LEXICAL
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS, forms, replies
from autointerp.scoring.scorers.ranking import AUROC
from autointerp.tables.read import load_scores

_CHANCE = 0.5  # of balanced accuracy, and of AUROC
_MIN_FEATURES = 5  # features, before it is said that the judge may be guessing
_SLIPS = {
    replies.COPIED: "repeated the template's example",
    replies.UNREADABLE: "could not be read",
    replies.STRAYS: "answered for excerpts that do not exist",
    replies.LEFT_OUT: "left excerpts out",
    replies.DISPUTED: "gave contradictory answers for an excerpt",
}


def judge_lines(run: Run) -> Iterator[tuple[str, str]]:
    """Name and text of each line, by scorer."""
    scored = run.stages().score
    counted = scored.replies if scored else {}
    # Those of an earlier scoring may lie beside labels that are new.
    scores = load_scores(run.path) if scored and run.scores.is_file() else pd.DataFrame()
    for name, scorer in SCORERS.items():
        title = f"{name} judge"
        of_scorer = counted.get(name, {})
        slipped = any(kind in each for each in of_scorer.values() for kind in _SLIPS)
        if of_scorer and (scorer.forms or slipped):
            yield title, replies_line(of_scorer)
        if scorer.forms and len(scores):
            of_model = scores[(scores["scorer"] == name) & (scores["judge"] != LEXICAL)]
            fell_back = set(of_model["mode"].dropna()) == {forms.BOOLEANS}
            if fell_back and run.settings().text("judge_form") == forms.PROBABILITIES:
                yield (
                    title,
                    "the endpoint does not support log probabilities: used booleans instead",
                )
            if said := chance_line(of_model, scorer.metric):
                yield title, said


def replies_line(counted: Mapping[str, Mapping[str, int]]) -> str:
    """The share of requests that got one answer for everything, and what was not an answer at all.

    The shares are of requests about features' own labels: another's matches nothing, most likely.
    """
    own = counted.get(replies.OWN, {})
    both = {kind: sum(each.get(kind, 0) for each in counted.values()) for kind in _SLIPS}
    received = sum(each.get(replies.RECEIVED, 0) for each in counted.values())
    parts = [f"{received:,} replies"]
    parts += [f"{both[kind]:,} {words}" for kind, words in _SLIPS.items() if both[kind]]
    if telling := own.get(replies.TELLING, 0):
        yes, no = (own.get(kind, 0) / telling for kind in (replies.ALL_YES, replies.ALL_NO))
        parts.append(
            f"of {telling:,} requests about a feature's own label, {yes:.0%} got yes "
            f"for every excerpt and {no:.0%} got no for every excerpt"
        )
        if changed := own.get(replies.CHANGED, 0):
            parts.append(
                f"for {changed:,} of these the answers changed when fewer "
                "excerpts were sent per request"
            )
    return ", ".join(parts)


def chance_line(scores: pd.DataFrame, metric: str) -> str | None:
    """Said where the labels' scores do not differ from guesses; None where they do.

    scores: rows of `scores.parquet` of one scorer, judged by a model.
    """
    main = _over_features(scores, metric)
    if main.n < _MIN_FEATURES or not main.ci_low <= _CHANCE:
        return None
    line = (
        f"no better than chance: mean {metric_name(metric, '').strip()} "
        f"{_interval(main)} over {main.n:,} features, so these scores mean nothing"
    )
    ranked = _over_features(scores, AUROC)
    if ranked.n >= _MIN_FEATURES and ranked.ci_low > _CHANCE:
        line += f"; its probabilities do rank excerpts: mean AUROC {_interval(ranked)}"
    return line


def _over_features(scores: pd.DataFrame, metric: str) -> Estimate:
    values = scores.loc[scores["metric"] == metric, "value"].dropna()
    return mean_interval(values.to_numpy(np.float64))


def _interval(found: Estimate) -> str:
    if math.isnan(found.ci_low):
        return f"{found.value:.3f}"
    return f"{found.value:.3f} (95 % interval {found.ci_low:.3f} to {found.ci_high:.3f})"
