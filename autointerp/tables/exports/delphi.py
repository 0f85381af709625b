"""Delphi's results: a file of JSON a feature, of its explanation and of each scorer's judgments.

Delphi's `--explainer none` scores such explanations, and its `load_data` reads such scores. It has
names of its own for the scorers that ask yes or no; those of other kinds are left out.
"""

from pathlib import Path
from typing import Any

from autointerp.tables.exports.examples import dumps, tokens_of
from autointerp.tables.exports.export_format import ExportFormat
from autointerp.tables.exports.exported import ExportedFeature, Source, number, numbers

_SCORERS = {"detection": "detection", "fuzzing": "fuzz"}
_QUANTILES = 10


def write(source: Source, out: Path) -> None:
    explanations = out / "explanations"
    explanations.mkdir(parents=True)
    scores = out / "scores"
    scores.mkdir()
    for record in source.records(windows=True, predictions=True):
        if record.text is None:
            source.left_out["features without a label"] += 1
            continue
        name = f"{source.names.hookpoint}_latent{record.feature}.txt"
        (explanations / name).write_text(dumps(record.text))
        for scorer, theirs in _SCORERS.items():
            judged = _judged(source, record, scorer)
            if judged:
                (scores / theirs).mkdir(exist_ok=True)
                (scores / theirs / name).write_text(dumps(judged))


def _judged(source: Source, record: ExportedFeature, scorer: str) -> list[dict[str, Any]]:
    rows = []
    for judged in record.predictions:
        if judged["scorer"] != scorer:
            continue
        window = source.judged_window(record, judged)
        if window is None:
            continue
        fires = judged["truth"] > 0
        yes = None if judged["prediction"] is None else judged["prediction"] > 0
        rows.append(
            {
                "str_tokens": tokens_of(window, source.vocabulary),
                "activations": numbers(window.activations),
                "distance": _decile(judged["quantile"] if fires else None),
                "activating": fires,
                "prediction": yes,
                "probability": number(judged["probability"]),
                "correct": None if yes is None else yes == fires,
            }
        )
    return rows


def _decile(quantile: float | None) -> int:
    """Their quantile of an activating window, 1 the weakest; -1 for a silent one, as theirs is."""
    return -1 if quantile is None else min(int(quantile * _QUANTILES), _QUANTILES - 1) + 1


EXPORT = ExportFormat(
    name="delphi",
    about="Delphi's results, a file of JSON a feature",
    write=write,
    order=50,
)
