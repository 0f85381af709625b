"""Activation records as other tools write them, made here: features that fire on a word."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

WORDS = [f" {a}{b}" for a in ("ba", "de", "fi", "go", "ku", "la") for b in ("mo", "ri", "su")]
TRIGGERS = (" blue", " seven", " river", " under")
Made = tuple[list[str], list[float]]


def made_records(
    feature: int, n: int = 24, *, silent: int = 8, length: int = 40, seed: int = 0
) -> list[Made]:
    """n records in which the feature fires on its word, and so many in which it does not."""
    rng = np.random.default_rng([seed, feature])
    trigger = TRIGGERS[feature % len(TRIGGERS)]
    found = []
    for i in range(n + silent):
        tokens = rng.choice(WORDS, length).tolist()
        activations = [0.0] * length
        if i < n:
            place = int(rng.integers(2, length - 2))
            tokens[place] = trigger
            activations[place] = round(float(rng.uniform(1, 9)), 3)
        found.append((tokens, activations))
    return found


def openai_record(tokens: list[str], activations: list[float]) -> dict[str, Any]:
    return {"dataclass_name": "ActivationRecord", "tokens": tokens, "activations": activations}


def neuron_record(feature: int, records: list[Made], layer: int = 3) -> dict[str, Any]:
    """Records that fire are the most positive ones, the others the random sample."""
    fires = [openai_record(*r) for r in records if max(r[1]) > 0]
    silent = [openai_record(*r) for r in records if max(r[1]) <= 0]
    return {
        "dataclass_name": "NeuronRecord",
        "neuron_id": {
            "dataclass_name": "NeuronId",
            "layer_index": layer,
            "neuron_index": feature,
        },
        "random_sample": silent,
        "random_sample_by_quantile": [fires[:1], fires[1:2]],
        "quantile_boundaries": [0.0, 0.5, 1.0],
        "mean": None,
        "most_positive_activation_records": fires,
    }


def neuronpedia_row(feature: int, tokens: list[str], values: list[float]) -> dict[str, Any]:
    return {
        "id": "c1",
        "modelId": "gpt2-small",
        "layer": "6-res-jb",
        "index": str(feature),
        "tokens": tokens,
        "values": values,
        "maxValue": max(values),
        "dfaValues": [],
    }


def dashboard(features: dict[int, list[Made]], **more: Any) -> dict[str, Any]:
    return {
        "model_id": "gpt2-small",
        "layer": 6,
        "sae_set": "res-jb",
        "sae_id_suffix": None,
        "features": [
            {
                "feature_index": feature,
                "frac_nonzero": 0.002,
                "activations": [
                    {"bin_min": -1, "tokens": t, "values": v, "qualifying_token_index": 1}
                    for t, v in records
                ],
            }
            for feature, records in features.items()
        ],
    } | more


def plain_rows(features: dict[int, list[Made]]) -> Iterator[dict[str, Any]]:
    for feature, records in features.items():
        for tokens, activations in records:
            yield {"feature": feature, "tokens": tokens, "activations": activations}


def write_lines(path: Path, rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path
