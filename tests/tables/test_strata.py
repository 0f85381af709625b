"""Judgments by decile and kind of window, against a loop over the rows."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import autointerp
from autointerp.errors import AutointerpError
from autointerp.tables.schema import PREDICTIONS

PEAKS = (0, 0.05, 0.1, 0.55, 0.999, 1)
KINDS = ("fires", "similar", "other")


def rows(rng, n):
    made = []
    for _ in range(n):
        stratum = KINDS[rng.integers(3)]
        feature = int(rng.integers(6))
        row = {
            "sae": "c",
            "feature": feature,
            "label_of": feature if rng.random() < 0.6 else 99,
            "stratum": stratum,
            "quantile": float(rng.choice(PEAKS)) if stratum == "fires" else None,
            "parsed": bool(rng.random() < 0.9),
            "window": {"kind": "sample", "rank": 0},
        }
        scorer = rng.choice(["detection", "simulation", "intruder"])
        if scorer == "detection":
            row |= {"scorer": "detection", "truth": float(stratum == "fires")}
            row["prediction"] = float(rng.integers(2)) if row["parsed"] else None
        elif scorer == "intruder":
            row |= {"scorer": "intruder", "truth": 3.0, "prediction": float(rng.integers(1, 6))}
        else:
            row |= {"scorer": "simulation", "token_truth": rng.random(3).tolist()}
            said = [None if rng.random() < 0.05 else x for x in rng.random(3).tolist()]
            row["token_prediction"] = said if row["parsed"] else None
        made.append(row)
    return made


def place(row):
    if row["stratum"] != "fires":
        return row["stratum"]
    decile = min(int(10 * np.float32(row["quantile"])), 9)
    return f"{10 * decile}–{10 * decile + 10} %"


@pytest.fixture
def run(tmp_path):
    made = rows(np.random.default_rng(0), 4000)
    table = pa.Table.from_pylist(made, schema=PREDICTIONS)
    pq.write_table(table, tmp_path / "predictions.parquet", row_group_size=700)
    return tmp_path, made


def test_shares_and_correlations_are_those_of_the_readable_rows(run):
    folder, made = run
    found = autointerp.load_strata(folder).set_index(["scorer", "label", "stratum"])
    seen = set()
    for row in made:
        label = "own" if row["feature"] == row["label_of"] else "another"
        seen.add((row["scorer"], label, place(row)))
    # The place of an intruder is neither a yes nor an activation.
    seen = {key for key in seen if key[0] != "intruder"}
    assert set(found.index) == {k for k in seen if k[0] == "detection" or k[2].endswith("%")}

    def these(scorer, label):
        return [
            r
            for r in made
            if r["scorer"] == scorer and r["parsed"]
            and (r["feature"] == r["label_of"]) == (label == "own")
        ]  # fmt: skip

    for scorer, label, stratum in found.index:
        row, all_of = found.loc[(scorer, label, stratum)], these(scorer, label)
        if scorer == "detection":
            said = [r["prediction"] for r in all_of if place(r) == stratum]
            assert row["said_yes"] == pytest.approx(np.mean(said))
            assert row["n"] == len(said)
            assert row["ci_low"] < row["said_yes"] < row["ci_high"]
        else:
            used = [r for r in all_of if place(r) == stratum or r["stratum"] != "fires"]
            t, p = (
                np.concatenate([r[f"token_{s}"] for r in used]).astype(float)
                for s in ("truth", "prediction")
            )
            read = ~np.isnan(p)
            correlation = np.corrcoef(t[read], p[read])[0, 1]
            assert row["correlation"] == pytest.approx(correlation, abs=1e-6)
            assert row["n"] == len(used)


def test_the_interval_covers_where_windows_of_a_feature_go_together(tmp_path):
    rng = np.random.default_rng(1)
    covered, runs = 0, 200
    for _ in range(runs):
        rates = rng.beta(2, 2, 60)
        feature = np.repeat(np.arange(60), 20)
        table = pa.table(
            {
                "feature": pa.array(feature, pa.int32()),
                "label_of": pa.array(feature, pa.int32()),
                "scorer": ["detection"] * 1200,
                "stratum": ["other"] * 1200,
                "quantile": pa.nulls(1200, pa.float32()),
                "parsed": [True] * 1200,
                "prediction": pa.array(rng.random(1200) < rates[feature], pa.bool_()).cast("float"),
                "token_truth": pa.nulls(1200, pa.list_(pa.float32())),
                "token_prediction": pa.nulls(1200, pa.list_(pa.float32())),
            }
        )
        pq.write_table(table, tmp_path / "predictions.parquet")
        row = autointerp.load_strata(tmp_path).iloc[0]
        covered += row["ci_low"] <= 0.5 <= row["ci_high"]
    assert covered / runs > 0.9


def test_a_run_without_scores_is_said_to_have_none(tmp_path):
    with pytest.raises(AutointerpError, match="has not finished that stage"):
        autointerp.load_strata(tmp_path)


def test_no_predictions_make_an_empty_frame(tmp_path):
    pq.write_table(PREDICTIONS.empty_table(), tmp_path / "predictions.parquet")
    assert isinstance(autointerp.load_strata(tmp_path), pd.DataFrame)
    assert len(autointerp.load_strata(tmp_path)) == 0
