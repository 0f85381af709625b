"""SAEDashboard's `batch-N.json`, as its NeuronpediaDashboardBatch holds them."""

from itertools import islice
from pathlib import Path
from typing import Any

from autointerp.tables.exports.examples import (
    TOP,
    dumps,
    examples,
    histogram,
    logits,
    related,
    tokens_of,
)
from autointerp.tables.exports.export_format import ExportFormat
from autointerp.tables.exports.exported import ExportedFeature, Source, number, numbers

_FEATURES_A_BATCH = 128


def write(source: Source, out: Path) -> None:
    names = source.names
    settings = source.run.settings()
    corpus, length = settings.text("text"), settings.number("context_length")
    records = source.records(windows=True)
    batch = 0
    while part := list(islice(records, _FEATURES_A_BATCH)):
        features = [_feature(source, record, corpus, length) for record in part]
        whole = {
            "model_id": names.model,
            "layer": names.layer,
            "sae_set": names.source_set,
            "sae_id_suffix": None,
            "features": features,
        }
        (out / f"batch-{batch}.json").write_text(dumps(whole))
        batch += 1


def _feature(source: Source, record: ExportedFeature, corpus: str, length: int) -> dict[str, Any]:
    coactive, overlaps = related(record, "coactive", "jaccard")
    raised, raised_by = logits(record, "raised_tokens")
    lowered, lowered_by = logits(record, "lowered_tokens")
    centers, heights = histogram(source, record)
    return {
        "feature_index": record.feature,
        "neuron_alignment_indices": [],
        "neuron_alignment_values": [],
        "neuron_alignment_l1": [],
        "correlated_neurons_indices": [],
        "correlated_neurons_l1": [],
        "correlated_neurons_pearson": [],
        "correlated_features_indices": coactive,
        "correlated_features_l1": overlaps,
        "correlated_features_pearson": [],
        "neg_str": lowered,
        "neg_values": lowered_by,
        "pos_str": raised,
        "pos_values": raised_by,
        "frac_nonzero": number(record.statistics["density"]),
        "freq_hist_data_bar_values": centers,
        "freq_hist_data_bar_heights": [float(height) for height in heights],
        "logits_hist_data_bar_heights": [],
        "logits_hist_data_bar_values": [],
        "n_prompts_total": source.tokens // length if length else 0,
        "n_tokens_in_prompt": length,
        "dataset": corpus,
        "decoder_weights_dist": [],
        "activations": [
            {
                "bin_min": TOP if example.is_top else number(example.low),
                "bin_max": number(example.high),
                "bin_contains": example.contains,
                "tokens": tokens_of(example.window, source.vocabulary),
                "values": numbers(example.window.activations),
                "qualifying_token_index": example.window.peak,
            }
            for example in examples(source, record)
        ],
        "vector": [],
    }


EXPORT = ExportFormat(
    name="saedashboard",
    about="SAEDashboard's batch-N.json",
    write=write,
    order=30,
)
