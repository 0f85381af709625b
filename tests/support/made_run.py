"""Runs written straight into their files: any number of features, any scores."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from autointerp.evidence.store import FEATURES_SCHEMA
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from autointerp.tables.schema import PREDICTIONS, SCORES, labels_schema

HOSTILE = "$\\frac{$ <script>&amp;\x00\x1b[31m‮ مرحبا 🦀 " + "long " * 40
STATUSES = ("labeled", "labeled", "labeled", "dead", "too_few", "failed")
Row = dict[str, Any]


def write(rows: list[Row], schema: pa.Schema, path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def feature_rows(n: int, rng: np.random.Generator, *, dead: bool = False) -> list[Row]:
    density = 10 ** rng.uniform(-6, 0, n) * (0 if dead else rng.random(n) > 0.2)
    return [
        {"sae": "c", "feature": 3 * i, "density": d, "n_active": round(1e6 * d)}
        for i, d in enumerate(density.tolist())
    ]


def label_rows(features: list[Row], rng: np.random.Generator, reasons: int = 3) -> list[Row]:
    rows = []
    for feature in features:
        status = str(rng.choice(STATUSES)) if feature["density"] else "dead"
        asked = status in ("labeled", "failed")
        row = {key: feature[key] for key in ("sae", "feature", "density", "n_active")} | {
            "status": status,
            "flags": [f for f in ("detection_parse_rate", "odd") if asked and rng.random() < 0.2],
            "prompt_tokens": int(rng.integers(1, 99)) if asked else 0,
            "completion_tokens": int(rng.integers(1, 9)) if asked else 0,
            "cost_usd": rng.random() if asked else 0.0,
        }
        if status == "labeled":
            row["label"] = f"label {rng.integers(5)}"
        if status == "failed" or rng.random() < 0.1:
            row["error"] = f"reason {rng.integers(reasons)} {HOSTILE}"
        rows.append(row)
    return rows


def score_rows(labels: list[Row], rng: np.random.Generator, scorers: list[str]) -> list[Row]:
    """Of every scorer the main metric and another, on some below −1; some values are missing."""
    rows = []
    for label in labels:
        for scorer in scorers if label["status"] == "labeled" else []:
            for metric, low in ((SCORERS[scorer].metric, 0), ("explained_variance", -8)):
                values = np.round(rng.uniform(low, 1, 2), 1).tolist()
                row = {"sae": "c", "feature": label["feature"], "scorer": scorer, "n": 10}
                row |= {"metric": metric, "judge": "j"}
                row["value"] = values[0] if rng.random() < 0.9 else None
                if rng.random() < 0.5:
                    p_value = float(rng.random()) ** 3
                    row |= {"null_value": values[1], "p_value": p_value}
                    row["q_value"] = min(1.0, 2 * p_value)
                rows.append(row)
            label[f"{scorer}_n"] = 10
    return rows


def prediction_rows(labels: list[Row], rng: np.random.Generator, scorers: list[str]) -> list[Row]:
    rows = []
    for label in [row for row in labels if row["status"] == "labeled"]:
        for scorer in scorers:
            for i in range(12):
                fires = i % 3 != 0
                row = {"sae": "c", "feature": label["feature"], "scorer": scorer, "parsed": True}
                row |= {"window": {"kind": "sample", "rank": i}, "label_of": label["feature"]}
                row |= {"stratum": "fires" if fires else str(rng.choice(["other", "similar"]))}
                row |= {"quantile": float(rng.random()) if fires else None}
                row["label_of"] += int(rng.random() < 0.3)
                if SCORERS[scorer].per_token:
                    row |= {f"token_{x}": rng.random(3).tolist() for x in ("truth", "prediction")}
                else:
                    row |= {"truth": float(fires), "prediction": float(rng.integers(2))}
                rows.append(row)
    return rows


def make_run(
    path: Path,
    *,
    features: int = 80,
    scorers: tuple[str, ...] = ("detection", "simulation"),
    labels: bool = True,
    dead: bool = False,
    reasons: int = 3,
    seed: int = 0,
) -> tuple[Run, list[Row], list[Row]]:
    """The run, its label rows and score rows; without `labels` it has evidence alone."""
    path.mkdir(parents=True)
    run, rng = Run(path), np.random.default_rng(seed)
    made = feature_rows(features, rng, dead=dead)
    write(made, FEATURES_SCHEMA, run.features)
    corpus = {"tokens": 1000, "mean_l0": 1.5, "features": features, "dead": 3, "masked": {}}
    stages: dict[str, Any] = {"collect": {"seconds": 2.0, "corpus": corpus}}
    label_table, scores = [], []
    if labels:
        label_table = label_rows(made, rng, reasons)
        asked = {"requests": 7, "from_journal": 2, "cost_usd": 0.1}
        twice = {"texts": asked, "ratings": asked}
        stages["label"] = {"seconds": 4.0, "labeler": HOSTILE, "outcomes": {"labeled": features}}
        stages["label"]["asked"] = asked
        if scorers:
            scores = score_rows(label_table, rng, list(scorers))
            write(scores, SCORES, run.scores)
            rows = prediction_rows(label_table, rng, list(scorers))
            write(rows, PREDICTIONS, run.predictions)
            stages["score"] = {"seconds": 0.0, "judge": "j", "scored": 5, "fade": {"asked": twice}}
        write(label_table, labels_schema(scorers), run.labels)
    for stage in stages.values():
        stage["finished_at"] = datetime.now(UTC).isoformat()
    config = {"out": str(path), "seed": 0, "features": "0-9", "model": HOSTILE, "gone": 1}
    run.manifest.write_text(json.dumps({"config": config, "stages": stages}))
    return run, label_table, scores
