"""The label table's expected F1: from what is known of every label, and the scored ones."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autointerp.labeling.labeler import Candidate, Draft
from autointerp.metrics.estimates import Estimate
from autointerp.metrics.expectation import MIN_MEASURED
from autointerp.scoring.scorer import Score
from autointerp.tables.expected_f1 import expected_columns
from autointerp.tables.write import write_labels

NAMES = ["expected_f1", "expected_f1_ci_low", "expected_f1_ci_high"]


def made(n=200, scored=80, dead=5, seed=0):
    """Drafts, statistics and scores of which F1 goes with confidence; the first `dead` are dead."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(n).round(1)
    drafts = [
        Draft(f, "dead", "m")
        if f < dead
        else Draft(f, "labeled", "m", label=f"label {f % 150}", confidence=float(confidence[f]))
        for f in range(n)
    ]
    statistics = {
        f: {
            "density": d / 9,
            "window_density": d,
            "n_active": round(1e6 * d),
            "max_activation": 1.0,
            "top_tokens": [],
        }
        for f, d in enumerate(10 ** rng.uniform(-5, -1, n))
    }
    chosen = dead + rng.permutation(n - dead)[:scored]
    f1 = np.clip(confidence - 0.1 + 0.05 * rng.normal(size=n), 0, 1)
    scores = {
        int(f): [Score(f, "detection", "population_f1", Estimate(f1[f], 0, 1, 50), 0.1, 1.0)]
        for f in chosen
    }
    return drafts, statistics, scores, f1


def columns_of(drafts, statistics, scores):
    shared = pa.array([None if d.label is None else 0 for d in drafts], pa.int32())
    found = expected_columns(drafts, [statistics[d.feature] for d in drafts], shared, scores)
    return {name: column.to_numpy(zero_copy_only=False) for name, column in found.items()}


def test_labels_that_were_not_scored_get_an_f1_to_expect_and_an_interval(tmp_path):
    drafts, statistics, scores, f1 = made()
    path = tmp_path / "labels.parquet"
    write_labels("c", drafts, statistics, scores, {}, True, path)
    table = pq.read_table(path).to_pandas().set_index("feature")
    labeled = table["status"] == "labeled"
    assert table.loc[~labeled, NAMES].isna().to_numpy().all()
    assert table.loc[labeled, NAMES].notna().to_numpy().all()
    rest = labeled & table["population_f1"].isna()
    assert rest.sum() == 115
    assert np.abs(table["expected_f1"] - f1)[rest].mean() < 0.1
    held = (table["expected_f1_ci_low"] <= f1) & (f1 <= table["expected_f1_ci_high"])
    assert held[rest].mean() > 0.9
    assert (table["expected_f1_ci_high"] - table["expected_f1_ci_low"])[rest].mean() < 0.5


def test_the_order_of_drafts_and_what_failed_do_not_matter():
    drafts, statistics, scores, _ = made()
    missing = Estimate(float("nan"), float("nan"), float("nan"), 0)
    lost = {f: [Score(f, "detection", "population_f1", missing, None, 0.0)] for f in (190, 191)}
    other = [Score(192, "detection", "population_recall", Estimate(0.9, 0, 1, 9), None, 1.0)]
    scores = {f: s for f, s in scores.items() if f not in (190, 191, 192)}
    plain = columns_of(drafts, statistics, scores)
    assert plain
    for name, column in columns_of(drafts, statistics, scores | lost | {192: other}).items():
        assert np.array_equal(column, plain[name], equal_nan=True)


def test_with_too_few_scores_the_columns_are_null(tmp_path):
    drafts, statistics, scores, _ = made(scored=MIN_MEASURED - 1)
    assert columns_of(drafts, statistics, scores) == {}
    path = tmp_path / "labels.parquet"
    write_labels("c", drafts, statistics, scores, {}, True, path)
    table = pq.read_table(path)
    assert all(table[name].null_count == len(drafts) for name in NAMES)
    assert set(columns_of(*made(scored=MIN_MEASURED)[:3])) == set(NAMES)


@pytest.mark.parametrize("known", ["confidence", "candidates", "density", "flags"])
def test_whatever_goes_with_f1_is_learned_from(known):
    """One thing alone tells F1; that of half of the labels is then known better than blindly."""
    rng = np.random.default_rng(1)
    n = 400
    signal = rng.random(n).round(1)
    f1 = np.clip(signal + 0.05 * rng.normal(size=n), 0, 1)
    drafts, statistics = [], {}
    for f, s in enumerate(signal.tolist()):
        more = {
            "confidence": {"confidence": s},
            "candidates": {"candidates": [Candidate("a", s, 16), Candidate("b", None, 0)]},
            "density": {},
            "flags": {"flags": ["odd"] if s > 0.5 else []},
        }[known]
        drafts.append(Draft(f, "labeled", "m", label=f"label {f}", **more))
        density = 10 ** (4 * s - 5) if known == "density" else 0.01
        statistics[f] = {"density": density, "window_density": density}
    scores = {
        f: [Score(f, "detection", "population_f1", Estimate(f1[f], 0, 1, 50), None, 1.0)]
        for f in range(0, n, 2)
    }
    found = columns_of(drafts, statistics, scores)["expected_f1"]
    assert np.abs(found - f1)[1::2].mean() < 0.7 * np.abs(f1.mean() - f1)[1::2].mean()


def test_evidence_of_an_earlier_version_has_no_density_of_windows():
    drafts, statistics, scores, _ = made()
    old = {f: {"density": row["density"], "window_density": None} for f, row in statistics.items()}
    assert not np.isnan(columns_of(drafts, old, scores)["expected_f1"][10:]).any()


def test_nothing_is_expected_where_most_of_what_was_scored_is_unknown():
    """The few rare features whose F1 is known are those of which an alarm was seen."""
    drafts, statistics, scores, _ = made(n=400, scored=200)
    for feature, [score] in scores.items():
        rare = statistics[feature]["window_density"] < 1e-3
        if rare and feature % 5:
            estimate = Estimate(np.nan, 0.05, 0.95, 50)
            scores[feature] = [replace(score, estimate=estimate)]
    found = columns_of(drafts, statistics, scores)["expected_f1"]
    density = np.array([statistics[d.feature]["window_density"] for d in drafts])
    labeled = np.array([d.label is not None for d in drafts])
    assert np.isnan(found[labeled & (density < 5e-4)]).all()
    assert not np.isnan(found[labeled & (density > 2e-3)]).any()
