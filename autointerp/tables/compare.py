"""Two runs of one coder, paired by feature: scores, outcomes, labels, cost, settings."""

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autointerp.config.settings import all_settings, preferred
from autointerp.errors import InputError, NotDoneError
from autointerp.metrics.clustered import ClusteredMean, clustered_mean, holm
from autointerp.runs.directory import Run, find_run
from autointerp.tables.clusters import related
from autointerp.tables.collisions import Collisions, collisions, folded
from autointerp.tables.outcomes import outcomes
from autointerp.tables.read import load_labels, load_scores
from autointerp.tables.window_length import unlike_windows
from autointerp.tables.window_pairs import paired_tests

_KEY = ["feature", "scorer", "metric"]
_VALUES = ["value", "ci_low", "ci_high"]
_OWN_SETTINGS = ("out",)  # which every run has for itself
_OF_WINDOWS = ("activations", "evidence")  # sections of settings that decide what windows there are


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric over the features that both runs have scored; differences are second − first.

    `difference` has the mean's interval and p value, features whose labels came in one reply or are
    the same going together; `p_adjusted` is Holm's, for all metrics compared at once. The second
    run wins, loses or ties on each feature by `outcomes`, on `paired` of them by a paired test.
    """

    scorer: str
    metric: str
    means: tuple[float, float]
    difference: ClusteredMean
    p_adjusted: float | None
    wins: int
    ties: int
    losses: int
    paired: int
    only_first: int  # features that the other run has no such score of
    only_second: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run's labels and scores took; `cost_usd` is None where a price is not known."""

    labeled: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class LabelComparison:
    """`changed` and `alike` count the features labeled in both, by their labels' `folded` form.

    `statuses` has how many features went from one status to another; "none" where a run does not
    have the feature.
    """

    changed: int
    alike: int
    statuses: dict[tuple[str, str], int]
    collisions: tuple[Collisions | None, Collisions | None]
    spent: tuple[Spent, Spent]


def compare_runs(a: str | Path, b: str | Path) -> pd.DataFrame:
    """Every score that both runs have of a feature: one row a feature, scorer and metric.

    Columns: feature, scorer, metric; value, ci_low and ci_high of either run (`_a`, `_b`);
    difference = value_b − value_a; p, that of a paired test on the windows that both runs judged,
    and p_adjusted for the features of the metric (Benjamini and Hochberg), null where there is no
    such test; outcome: win, tie or loss of b (see `outcomes`); label_a, label_b.
    Warns where the runs' windows or judges differ. Raises InputError where a run is not scored, or
    the coders are not the same.
    """
    runs = find_run(str(a)), find_run(str(b))
    for line in warnings_about(*runs):
        warnings.warn(line, stacklevel=2)
    return paired_scores(*runs)


def check_scored(*runs: Run) -> None:
    """Raises AutointerpError where one is not."""
    for run in runs:
        if not run.stages().score or not run.scores.is_file():
            raise NotDoneError(f"{run.path} is not scored: run `autointerp score` on it first")


def _check(a: Run, b: Run) -> None:
    check_scored(a, b)
    check_saes(a, b)


def check_saes(a: Run, b: Run) -> None:
    """Raises AutointerpError where the runs are not of the same SAE."""
    hashes = [made.hashes.coder if (made := run.stages().collect) else None for run in (a, b)]
    names = ["".join(map(str, load_labels(run.path)["sae"].head(1))) for run in (a, b)]
    same = hashes[0] == hashes[1] if None not in hashes else names[0] == names[1]
    if not same:
        raise InputError(
            "the runs are of different SAEs, whose features have nothing in common: "
            f"{names[0]} in {a.path}, {names[1]} in {b.path}"
        )


def warnings_about(a: Run, b: Run) -> list[str]:
    """What makes the runs' scores hard to compare. Raises AutointerpError where they cannot be."""
    _check(a, b)
    found = []
    collected = [made.inputs if (made := run.stages().collect) else None for run in (a, b)]
    if collected[0] != collected[1]:
        apart = ", ".join(_evidence_apart(a, b))
        found.append(
            f"the runs have different windows{f' ({apart} differ)' if apart else ''}: features are "
            "paired, but the windows they are judged on are not"
        )
    found += unlike_windows({str(run.path): run for run in (a, b)})
    return found + judging_warnings(a, b)


def _evidence_apart(a: Run, b: Run) -> list[str]:
    """Settings that decide what windows there are and are not the same, as users call them."""
    known = all_settings()
    return [
        preferred(name)
        for name in settings_apart(a, b)
        if name == "seed" or (name in known and known[name].section in _OF_WINDOWS)
    ]


def judging_warnings(a: Run, b: Run) -> list[str]:
    """Where the runs' judges, their prompts or what scores are weighed by are not the same."""
    found = []
    scores = [load_scores(run.path) for run in (a, b)]
    judged = [
        {
            str(scorer): [set(rows[column].dropna()) for column in ("judge", "prompt_hash", "mode")]
            for scorer, rows in of_run.groupby("scorer", observed=True)
        }
        for of_run in scores
    ]
    for scorer in sorted(judged[0].keys() & judged[1].keys()):
        for part, what in enumerate(("judge", "prompt", "mode")):
            if judged[0][scorer][part] != judged[1][scorer][part]:
                found.append(
                    f"the {what} of {scorer} differs: differences may come from the "
                    f"{what}, not from the labels"
                )
    return found


def paired_scores(a: Run, b: Run) -> pd.DataFrame:
    """The table that `compare_runs` gives."""
    _check(a, b)
    first, second = (scored(run) for run in (a, b))
    pairs = first.merge(second, on=_KEY, suffixes=("_a", "_b")).sort_values(_KEY)
    if pairs.empty:
        raise InputError(f"{a.path} and {b.path} have no feature scored by the same metric")
    pairs["difference"] = pairs["value_b"] - pairs["value_a"]
    pairs = outcomes(pairs.merge(paired_tests(a, b), on=_KEY, how="left"))
    for run, suffix in ((a, "_a"), (b, "_b")):
        labels = load_labels(run.path).set_index("feature")["label"]
        pairs["label" + suffix] = pairs["feature"].map(labels)
    return pairs.reset_index(drop=True)


def scored(run: Run) -> pd.DataFrame:
    """Feature, scorer, metric, value and interval of every score that a run has."""
    scores = load_scores(run.path).astype(dict.fromkeys(_VALUES, np.float64))
    found: pd.DataFrame = scores.loc[scores["value"].notna(), [*_KEY, *_VALUES]]
    return found.astype({"scorer": str, "metric": str})


def metric_comparisons(a: Run, b: Run, pairs: pd.DataFrame) -> list[MetricComparison]:
    """One for every scorer and metric in `pairs`, which `paired_scores` made."""
    having = [Counter(_names(scored(run))) for run in (a, b)]
    features = np.unique(pairs["feature"].to_numpy())
    relations = related(a, b, features)
    found = []
    for (scorer, metric), n in sorted(Counter(_names(pairs)).items()):
        rows = pairs[(pairs["scorer"] == scorer) & (pairs["metric"] == metric)]
        place = np.searchsorted(features, rows["feature"].to_numpy())
        groups = [relation[place] for relation in relations]
        counts = rows["outcome"].value_counts()
        found.append(
            MetricComparison(
                scorer=scorer,
                metric=metric,
                means=(float(rows["value_a"].mean()), float(rows["value_b"].mean())),
                difference=clustered_mean(rows["difference"].to_numpy(), groups),
                p_adjusted=None,
                wins=int(counts["win"]),
                ties=int(counts["tie"]),
                losses=int(counts["loss"]),
                paired=int(rows["p"].notna().sum()),
                only_first=having[0][scorer, metric] - n,
                only_second=having[1][scorer, metric] - n,
            )
        )
    adjusted = holm([one.difference.p for one in found])
    return [replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True)]


def _names(scores: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return zip(scores["scorer"], scores["metric"], strict=True)


def spent(labels: pd.DataFrame) -> Spent:
    asked = labels["prompt_tokens"].fillna(0) > 0
    known = labels.loc[asked, "cost_usd"].notna().all()
    return Spent(
        labeled=int((labels["status"] == "labeled").sum()),
        prompt_tokens=int(labels["prompt_tokens"].sum()),
        completion_tokens=int(labels["completion_tokens"].sum()),
        cost_usd=float(labels["cost_usd"].sum()) if known else None,
    )


def compare_labels(a: Run, b: Run) -> LabelComparison:
    first, second = (load_labels(run.path).astype({"status": str}) for run in (a, b))
    joined = first.merge(second, on="feature", how="outer", suffixes=("_a", "_b"))
    both = joined[joined["label_a"].notna() & joined["label_b"].notna()]
    alike = sum(
        folded(x) == folded(y) for x, y in zip(both["label_a"], both["label_b"], strict=True)
    )
    statuses = joined[["status_a", "status_b"]].fillna("none")
    moved = Counter(zip(statuses["status_a"], statuses["status_b"], strict=True))
    return LabelComparison(
        changed=len(both) - alike,
        alike=alike,
        statuses={pair: n for pair, n in moved.most_common() if pair[0] != pair[1]},
        collisions=(collisions(first["label"].tolist()), collisions(second["label"].tolist())),
        spent=(spent(first), spent(second)),
    )


def settings_apart(a: Run, b: Run) -> dict[str, tuple[Any, Any]]:
    """Settings and prompts that are not the same, by name: those of the first and the second."""
    first, second = (_settings(run) for run in (a, b))
    names = list(dict.fromkeys([*first, *second]))
    apart = {name: (first.get(name), second.get(name)) for name in names}
    return {name: values for name, values in apart.items() if values[0] != values[1]}


def _settings(run: Run) -> dict[str, Any]:
    stages = run.stages()
    config = {k: v for k, v in run.settings().shown().items() if k not in _OWN_SETTINGS}
    prompts = stages.score.prompt_hashes if stages.score else {}
    if stages.label and stages.label.prompt_hash:
        prompts = {"label": stages.label.prompt_hash} | prompts
    return config | {f"prompt of {task}": str(hash)[:12] for task, hash in prompts.items()}
