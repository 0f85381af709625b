"""Records of OpenAI's neuron-explainer: one file a feature of activations, one of simulations.

`collated-activations/<layer>/<feature>.json` holds a NeuronRecord and
`explanations/<layer>/<feature>.jsonl` a line of NeuronSimulationResults, where there is a label.
"""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from autointerp.evidence.window import Window
from autointerp.tables.exports.examples import dumps, tokens_of
from autointerp.tables.exports.export_format import ExportFormat
from autointerp.tables.exports.exported import ExportedFeature, Source, number, numbers

_QUANTILES = [0.0, 0.5, 0.9, 0.99, 0.999, 1.0]
_SIMULATION = "simulation"


def write(source: Source, out: Path) -> None:
    layer = str(source.names.layer)
    activations, explanations = out / "collated-activations" / layer, out / "explanations" / layer
    activations.mkdir(parents=True)
    explanations.mkdir(parents=True)
    for record in source.records(windows=True, scores=True, predictions=True):
        neuron = _object("NeuronId", layer_index=source.names.layer, neuron_index=record.feature)
        file = activations / f"{record.feature}.json"
        file.write_text(dumps(_neuron_record(source, record, neuron)))
        if record.text is not None:
            line = dumps(_results(source, record, neuron)) + "\n"
            (explanations / f"{record.feature}.jsonl").write_text(line)


def _object(name: str, **fields: Any) -> dict[str, Any]:
    return {"dataclass_name": name, **fields}


def _activation_record(source: Source, window: Window) -> dict[str, Any]:
    return _object(
        "ActivationRecord",
        tokens=tokens_of(window, source.vocabulary),
        activations=numbers(window.activations),
    )


def _neuron_record(
    source: Source, record: ExportedFeature, neuron: dict[str, Any]
) -> dict[str, Any]:
    """Windows kept for labeling: silent ones are the random sample, firings go by quantile."""
    kept = [w for w in record.windows if w.split == "label"]

    def listed(windows: list[Window]) -> list[dict[str, Any]]:
        return [_activation_record(source, w) for w in windows]

    sampled = [(w.quantile, w) for w in kept if w.kind == "sample" and w.quantile is not None]
    by_quantile = [
        listed([w for q, w in sampled if low <= q < high or q == high == _QUANTILES[-1]])
        for low, high in pairwise(_QUANTILES)
    ]
    return _object(
        "NeuronRecord",
        neuron_id=neuron,
        random_sample=listed([w for w in kept if w.kind == "negative"]),
        random_sample_by_quantile=by_quantile,
        quantile_boundaries=_QUANTILES,
        # Over all tokens: of the other moments the run has nothing.
        mean=_mean(source, record),
        variance=None,
        skewness=None,
        kurtosis=None,
        most_positive_activation_records=listed([w for w in kept if w.kind == "top"]),
    )


def _mean(source: Source, record: ExportedFeature) -> float | None:
    seen = record.statistics
    mean = number(seen["mean_activation"])
    if mean is None or not source.tokens:
        return None
    firings: int = seen["n_active"]
    return mean * firings / source.tokens


def _results(source: Source, record: ExportedFeature, neuron: dict[str, Any]) -> dict[str, Any]:
    sequences = []
    for judged in record.predictions:
        if judged["scorer"] != _SIMULATION or judged["token_prediction"] is None:
            continue
        window = source.judged_window(record, judged)
        if window is not None:
            sequences.append(_sequence(source, window, numbers(judged["token_prediction"])))
    value = next(
        (
            number(s["value"])
            for s in record.scores
            if s["scorer"] == _SIMULATION and s["metric"] == "correlation"
        ),
        None,
    )
    simulation = _object(
        "ScoredSimulation",
        scored_sequence_simulations=sequences,
        ev_correlation_score=value,
        rsquared_score=None,
        absolute_dev_explained_score=None,
    )
    explanation = _object(
        "ScoredExplanation", explanation=record.text, scored_simulation=simulation
    )
    return _object("NeuronSimulationResults", neuron_id=neuron, scored_explanations=[explanation])


def _sequence(source: Source, window: Window, predicted: list[float]) -> dict[str, Any]:
    simulation = _object(
        "SequenceSimulation",
        tokens=tokens_of(window, source.vocabulary),
        expected_activations=predicted,
        activation_scale="simulated_normalized_activations",
        distribution_values=[],
        distribution_probabilities=[],
        uncalibrated_simulation=None,
    )
    return _object(
        "ScoredSequenceSimulation",
        simulation=simulation,
        true_activations=numbers(window.activations),
        ev_correlation_score=_correlation(window.activations, predicted),
        rsquared_score=None,
        absolute_dev_explained_score=None,
    )


def _correlation(truth: np.ndarray, prediction: list[float]) -> float | None:
    """Of one window; None where either is constant, as where the feature is silent."""
    if np.ptp(truth) == 0 or np.ptp(prediction) == 0:
        return None
    return number(np.corrcoef(truth, prediction)[0, 1])


EXPORT = ExportFormat(
    name="openai",
    about="records of OpenAI's neuron-explainer, two files a feature",
    write=write,
    order=40,
)
