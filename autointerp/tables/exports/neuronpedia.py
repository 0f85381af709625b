"""Neuronpedia's directory of a source, version 1: what its importer reads.

The layout is that of its public exports (docs.neuronpedia.org, "Exports") and of its database's
tables. Scores are not part of these exports: they lie beside them, in rows as its table of scores
has them. The importer takes the columns from a file's first line, so all rows have the same keys.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from autointerp.scoring import SCORERS
from autointerp.storage.files import gzip_lines
from autointerp.tables.exports.examples import (
    TOP,
    Example,
    dumps,
    examples,
    histogram,
    logits,
    related,
    tokens_of,
    without_nul,
)
from autointerp.tables.exports.export_format import ExportFormat
from autointerp.tables.exports.exported import ExportedFeature, Source, number, numbers

METHOD = "autointerp"  # what the labels' and scores' types are called there
_FEATURES_A_BATCH = 1024


def write(source: Source, out: Path) -> None:
    names = source.names
    folder = out / "v1" / names.model / names.source
    for kind in ("features", "activations", "explanations", "scores"):
        (folder / kind).mkdir(parents=True)
    labelers: set[str] = set()
    judges: set[tuple[str, str]] = set()
    records = source.records(windows=True, scores=True, predictions=True)
    for batch, group in groupby(records, lambda r: r.feature // _FEATURES_A_BATCH):
        file = f"batch-{batch}.jsonl.gz"
        with (
            gzip_lines(folder / "features" / file) as features,
            gzip_lines(folder / "activations" / file) as activations,
            gzip_lines(folder / "explanations" / file) as explanations,
            gzip_lines(folder / "scores" / file) as scores,
        ):
            for record in group:
                features(dumps(_feature(source, record)))
                for number_, example in enumerate(examples(source, record)):
                    activations(dumps(_activation(source, record, example, number_)))
                if record.text is None:
                    continue
                explanations(dumps(_explanation(source, record)))
                labelers.add(record.label["labeler"])
                for row in _scores(source, record):
                    judges.add((row["explanationScoreTypeName"], row["explanationScoreModelName"]))
                    scores(dumps(row))
    _write_rows(folder / "release.jsonl", [_release(source)])
    _write_rows(folder / "model.jsonl", [_model(source)])
    _write_rows(folder / "sourceset.jsonl", [_source_set(source)])
    _write_rows(folder / "source.jsonl", [_source(source)])
    config = out / "v1" / "config"
    config.mkdir()
    creator = {"creatorName": "autointerp", "creatorId": names.creator}
    _types(config / "explanation_type.jsonl", [METHOD], creator)
    _types(config / "explanation_score_type.jsonl", {j[0] for j in judges}, creator)
    author = {"creatorName": "autointerp"}
    _types(config / "explanation_model_type.jsonl", labelers, author)
    _types(config / "explanation_score_model.jsonl", {j[1] for j in judges}, author)


def _types(path: Path, names: Iterable[str], creator: dict[str, str]) -> None:
    rows = [
        {"name": name, "displayName": name, "description": "written by autointerp", **creator}
        for name in without_nul(sorted(names))
    ]
    _write_rows(path, rows)


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(dumps(row) + "\n" for row in rows))


def _key(source: Source, feature: int) -> dict[str, str]:
    return {"modelId": source.names.model, "layer": source.names.source, "index": str(feature)}


def _id(source: Source, *parts: object) -> str:
    """Of the form of their random identifiers, but the same for every export."""
    text = dumps([source.names.model, source.names.source, *map(str, parts)])
    return "c" + hashlib.sha256(text.encode()).hexdigest()[:24]


def _feature(source: Source, record: ExportedFeature) -> dict[str, Any]:
    seen = record.statistics
    similar, cosines = related(record, "similar", "cosine")
    coactive, overlaps = related(record, "coactive", "jaccard")
    raised, raised_by = logits(record, "raised_tokens")
    lowered, lowered_by = logits(record, "lowered_tokens")
    centers, heights = histogram(source, record)
    return {
        **_key(source, record.feature),
        "sourceSetName": source.names.source_set,
        "creatorId": source.names.creator,
        "createdAt": source.made_at,
        "maxActApprox": number(seen["max_activation"]),
        "hasVector": False,
        "vector": [],
        "vectorLabel": None,
        "hookName": None,
        "topkCosSimIndices": similar,
        "topkCosSimValues": cosines,
        "neuron_alignment_indices": [],
        "neuron_alignment_values": [],
        "neuron_alignment_l1": [],
        "correlated_neurons_indices": [],
        "correlated_neurons_pearson": [],
        "correlated_neurons_l1": [],
        # There is no correlation to tell, only by how much the firings overlap.
        "correlated_features_indices": coactive,
        "correlated_features_pearson": [],
        "correlated_features_l1": overlaps,
        "neg_str": without_nul(lowered),
        "neg_values": lowered_by,
        "pos_str": without_nul(raised),
        "pos_values": raised_by,
        "frac_nonzero": number(seen["density"]),
        "freq_hist_data_bar_heights": heights,
        "freq_hist_data_bar_values": centers,
        "logits_hist_data_bar_heights": [],
        "logits_hist_data_bar_values": [],
        "decoder_weights_dist": [],
    }


def _activation(
    source: Source, record: ExportedFeature, example: Example, n: int
) -> dict[str, Any]:
    window = example.window
    values = numbers(window.activations)
    return {
        "id": _id(source, record.feature, "activation", n),
        "tokens": without_nul(tokens_of(window, source.vocabulary)),
        **_key(source, record.feature),
        "dataIndex": str(window.context),
        "dataSource": None,
        "maxValue": max(values),
        "maxValueTokenIndex": window.peak,
        "minValue": min(values),
        "values": values,
        "dfaValues": [],
        "dfaTargetIndex": None,
        "dfaMaxValue": None,
        "lossValues": [],
        "creatorId": source.names.creator,
        "createdAt": source.made_at,
        "binMin": TOP if example.is_top else number(example.low),
        "binMax": number(example.high),
        "binContains": TOP if example.is_top else example.contains,
        "qualifyingTokenIndex": window.peak,
    }


def _explanation(source: Source, record: ExportedFeature) -> dict[str, Any]:
    return {
        "id": _id(source, record.feature, "explanation"),
        **_key(source, record.feature),
        "description": without_nul([record.text or ""])[0],
        "authorId": source.names.creator,
        "triggeredByUserId": None,
        "typeName": METHOD,
        "explanationModelName": without_nul([record.label["labeler"]])[0],
        "notes": None,
        "createdAt": source.made_at,
        "updatedAt": source.made_at,
    }


def _scores(source: Source, record: ExportedFeature) -> Iterator[dict[str, Any]]:
    for score in record.scores:
        scorer = SCORERS.get(score["scorer"])
        value = number(score["value"])
        if scorer is None or score["metric"] != scorer.metric or value is None:
            continue
        kind = f"{METHOD}_{score['scorer']}"
        yield {
            "id": _id(source, record.feature, kind),
            "initiatedByUserId": source.names.creator,
            "value": value,
            "explanationId": _id(source, record.feature, "explanation"),
            "explanationScoreTypeName": kind,
            "explanationScoreModelName": without_nul([score["judge"]])[0],
            "jsonDetails": dumps(_details(source, record, score["scorer"])),
            "createdAt": source.made_at,
        }


def _details(source: Source, record: ExportedFeature, scorer: str) -> list[dict[str, Any]]:
    """The judged windows of a scorer that asks yes or no, keyed as their scorer's are.

    Of others there are none: an intruder's place, or a rating, is neither right nor wrong by being
    above 0.
    """
    if SCORERS[scorer].counts is None:
        return []
    details = []
    for judged in record.predictions:
        if judged["scorer"] != scorer:
            continue
        window = source.judged_window(record, judged)
        if window is None:
            continue
        yes = None if judged["prediction"] is None else judged["prediction"] > 0
        details.append(
            {
                "text": without_nul([window.text])[0],
                "distance": number(judged["quantile"]),
                "ground_truth": judged["truth"] > 0,
                "prediction": yes,
                "highlighted": judged["marks"] is not None,
                "correct": None if yes is None else yes == (judged["truth"] > 0),
                "probability": number(judged["probability"]),
                "conditional_probability": None,
                "activations": numbers(window.activations),
                "str_tokens": without_nul(tokens_of(window, source.vocabulary)),
            }
        )
    return details


def _release(source: Source) -> dict[str, Any]:
    names = source.names
    return {
        "name": names.source_set,
        "description": f"Features of {names.source}, labeled by autointerp",
        "creatorName": "autointerp",
        "creatorId": names.creator,
        "urls": [],
        "createdAt": source.made_at,
    }


def _model(source: Source) -> dict[str, Any]:
    # The run does not know these two counts, and the table has no null for them: where the model
    # is known already this row is not taken.
    return {
        "id": source.names.model,
        "displayName": source.names.model,
        "displayNameShort": source.names.model,
        "creatorId": source.names.creator,
        "layers": 0,
        "neuronsPerLayer": 0,
        "owner": "unknown",
        "createdAt": source.made_at,
        "updatedAt": source.made_at,
    }


def _source_set(source: Source) -> dict[str, Any]:
    names = source.names
    return {
        "modelId": names.model,
        "name": names.source_set,
        "description": f"Features labeled by autointerp, among them {names.source}",
        "creatorName": "autointerp",
        "creatorId": names.creator,
        "releaseName": names.source_set,
        "urls": [],
        "createdAt": source.made_at,
    }


def _source(source: Source) -> dict[str, Any]:
    names = source.names
    return {
        "id": names.source,
        "modelId": names.model,
        "setName": names.source_set,
        "creatorId": names.creator,
        "createdAt": source.made_at,
    }


EXPORT = ExportFormat(
    name="neuronpedia",
    about="Neuronpedia's directory of a source, as its importer reads it",
    write=write,
    order=10,
)
