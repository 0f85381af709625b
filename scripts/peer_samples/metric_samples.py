"""Write what other tools' own scoring code makes of one set of truths and predictions.

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install --no-deps eai-delphi==0.1.3 neuron-explainer==0.0.1 sae-bench==0.6.0
    /tmp/peers/bin/pip install ...    # what importing them asks for; their own pins exclude another
    OPENAI_API_KEY=unused /tmp/peers/bin/python scripts/peer_samples/metric_samples.py OUT

OUT is tests/data/metrics, and nothing is sent anywhere: neuron-explainer asks for a key on import.
`openai.json`: neuron-explainer's scores of simulations, per window and over all windows, and what
its two calibrations make of the predictions. `delphi.json`: Delphi's confusion counts and metrics.
`saebench.json`: SAEBench's reading of replies and its scores. `made_by.json`: their versions.
A number that is not finite is written as null.
"""

import argparse
import json
import math
import warnings
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from delphi.log.result_analysis import (
    compute_auc,
    compute_classification_metrics,
    compute_confusion,
)
from neuron_explainer.activations.activations import ActivationRecord
from neuron_explainer.explanations.calibrated_simulator import (
    LinearCalibratedNeuronSimulator,
    PercentileMatchingCalibratedNeuronSimulator,
)
from neuron_explainer.explanations.explanations import (
    ActivationScale,
    ScoredSequenceSimulation,
    SequenceSimulation,
)
from neuron_explainer.explanations.scoring import (
    absolute_dev_explained_score_from_sequences,
    aggregate_scored_sequence_simulations,
    correlation_score,
    rsquared_score_from_sequences,
)
from sae_bench.evals.autointerp.main import AutoInterp

LENGTH = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    warnings.simplefilter("ignore")
    write(out / "openai.json", openai(rng))
    write(out / "delphi.json", delphi(rng))
    write(out / "saebench.json", saebench(rng))
    names = ("neuron-explainer", "eai-delphi", "sae-bench", "scikit-learn", "numpy")
    write(out / "made_by.json", {name: metadata.version(name) for name in names})


def simulations(rng: np.random.Generator, windows: int) -> tuple[np.ndarray, np.ndarray]:
    """Truths and predictions [windows, LENGTH]; every third window is silent."""
    fires = np.arange(windows)[:, None] % 3 != 2
    truths = fires * (rng.random((windows, LENGTH)) < 0.3) * rng.gamma(2, 2, (windows, LENGTH))
    predictions = np.clip(truths + rng.normal(0, 2, truths.shape), 0, 10)
    return truths.round(3), predictions.round(3)


def scores(truths: np.ndarray, predictions: np.ndarray) -> dict[str, Any]:
    """What neuron-explainer reports for windows [windows, LENGTH], each and all together."""
    scored = [
        ScoredSequenceSimulation(
            simulation=SequenceSimulation(
                tokens=["x"] * len(truth),
                expected_activations=prediction.tolist(),
                activation_scale=ActivationScale.SIMULATED_NORMALIZED_ACTIVATIONS,
                distribution_values=[],
                distribution_probabilities=[],
            ),
            true_activations=truth.tolist(),
            ev_correlation_score=correlation_score(truth, prediction),
            rsquared_score=rsquared_score_from_sequences(truth, prediction),
            absolute_dev_explained_score=absolute_dev_explained_score_from_sequences(
                truth, prediction
            ),
        )
        for truth, prediction in zip(truths, predictions, strict=True)
    ]
    together = aggregate_scored_sequence_simulations(scored)
    names = ("ev_correlation_score", "rsquared_score", "absolute_dev_explained_score")
    return {
        "truths": truths.tolist(),
        "predictions": predictions.tolist(),
        "windows": [{name: getattr(s, name) for name in names} for s in scored],
        "together": {name: getattr(together, name) for name in names},
        "preferred_score": together.get_preferred_score(),
    }


def openai(rng: np.random.Generator) -> dict[str, Any]:
    truths, predictions = simulations(rng, 9)
    fit_truths, fit_predictions = simulations(rng, 9)
    records = [ActivationRecord(["x"] * LENGTH, truth.tolist()) for truth in fit_truths]
    simulated = [SimpleNamespace(expected_activations=p.tolist()) for p in fit_predictions]
    samples = {
        "uncalibrated": scores(truths, predictions),
        "constant_prediction": scores(truths, np.full_like(predictions, 3.0)),
        "silent": scores(np.zeros_like(truths), predictions),
    }
    calibrations = {
        "linear": LinearCalibratedNeuronSimulator,
        "percentile": PercentileMatchingCalibratedNeuronSimulator,
    }
    for name, kind in calibrations.items():
        calibration = kind(None)
        calibration.calibrate_from_simulations(records, simulated)
        held_out = [calibration.apply_calibration(p.tolist()) for p in predictions]
        fitted = [calibration.apply_calibration(p.tolist()) for p in fit_predictions]
        samples[f"{name}_held_out"] = scores(truths, np.array(held_out))
        samples[f"{name}_in_sample"] = scores(fit_truths, np.array(fitted))
    return {"fit_predictions": fit_predictions.tolist(), "samples": samples}


def delphi(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Groups of judged windows: good, bad, none predicted, one class only, some unreadable."""
    groups = []
    for kind in ("good", "bad", "none predicted", "no positives", "no negatives", "unreadable"):
        activating = rng.random(40) < {"no positives": 0.0, "no negatives": 1.0}.get(kind, 0.5)
        likely = np.where(activating, 0.75, 0.25) if kind != "bad" else np.full(40, 0.5)
        probability = np.clip(likely + rng.normal(0, 0.3, 40), 0, 1).round(1)
        if kind == "none predicted":
            probability = probability / 4
        prediction = (probability >= 0.5).astype(float)
        if kind == "unreadable":
            prediction[:10] = probability[:10] = np.nan
        frame = pd.DataFrame(
            {"activating": activating, "prediction": prediction, "probability": probability}
        )
        both = frame.activating[frame.probability.notna()].nunique() == 2
        groups.append(
            {
                "kind": kind,
                **{name: frame[name].tolist() for name in frame},
                "metrics": compute_classification_metrics(compute_confusion(frame)),
                "failed_count": compute_confusion(frame)["failed_count"],
                "auc": compute_auc(frame) if both else None,
            }
        )
    pooled = pd.concat(pd.DataFrame({k: g[k] for k in frame}) for g in groups[:2])
    metrics = compute_classification_metrics(compute_confusion(pooled))
    return [*groups, {"kind": "first two pooled", "metrics": metrics}]


def saebench(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Replies to fourteen windows, four of them active."""
    scorer = AutoInterp.__new__(AutoInterp)
    active = rng.permutation(np.arange(14) < 4)
    hits = ", ".join(str(i) for i in np.flatnonzero(active) + 1)
    replies = (hits, "None", "1, 2, 3, 4", "2, 5 and 7.", "1, 2, 99", "", "Numbers 1 and 2", "all")
    samples = []
    for reply in replies:
        predictions = scorer.parse_predictions(reply)
        windows = [SimpleNamespace(is_active=bool(a)) for a in active]
        score = None if predictions is None else scorer.score_predictions(predictions, windows)
        samples.append(
            {"reply": reply, "active": active.tolist(), "read": predictions, "score": score}
        )
    return samples


def plain(value: Any) -> Any:
    """Value in JSON's own types, null for what is not finite."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(plain(value)) + "\n")


if __name__ == "__main__":
    main()
