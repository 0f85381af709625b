"""Bodies for Neuronpedia's upload API, `POST /api/feature/upload-batch`, one file a request.

Nothing is sent. The limits are those that the endpoint checks: 128 features a request, 20 logits,
1,024 tokens a window, labels of 512 characters, no empty token, at least one window a feature.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from autointerp.tables.exports.examples import dumps, examples, logits, tokens_of, without_nul
from autointerp.tables.exports.export_format import ExportFormat
from autointerp.tables.exports.exported import ExportedFeature, Source, number, numbers
from autointerp.tables.exports.neuronpedia import METHOD

_FEATURES, _LOGITS, _TOKENS, _LABEL = 128, 20, 1024, 512


def write(source: Source, out: Path) -> None:
    features = _features(source)
    names = source.names
    batch = 0
    while part := list(islice(features, _FEATURES)):
        body = {"modelId": names.model, "source": names.source.lower(), "features": part}
        (out / f"batch-{batch}.json").write_text(dumps(body))
        batch += 1


def _features(source: Source) -> Iterator[dict[str, Any]]:
    for record in source.records(windows=True):
        activations = _activations(source, record)
        if activations:
            yield _feature(record, activations)
        else:
            source.left_out["features without a window"] += 1


def _feature(record: ExportedFeature, activations: list[dict[str, Any]]) -> dict[str, Any]:
    text = without_nul([record.text or ""])[0][:_LABEL]
    explanations = []
    if text.strip():
        labeler = without_nul([record.label["labeler"]])[0].lower()
        explanations = [{"text": text, "methodName": METHOD, "modelName": labeler}]
    return {
        "index": record.feature,
        "density": number(record.statistics["density"]),
        "topLogits": _pairs(record, "raised_tokens"),
        "bottomLogits": _pairs(record, "lowered_tokens"),
        "explanations": explanations,
        "activations": activations,
    }


def _pairs(record: ExportedFeature, name: str) -> list[dict[str, Any]]:
    pairs = zip(*logits(record, name), strict=True)
    return [{"token": _token(t), "value": v} for t, v in islice(pairs, _LOGITS)]


def _token(text: str) -> str:
    return text.replace("\0", "\ufffd") or "\ufffd"


def _activations(source: Source, record: ExportedFeature) -> list[dict[str, Any]]:
    found = []
    for example in examples(source, record):
        window = example.window
        if not 0 < len(window.token_ids) <= _TOKENS:
            source.left_out[f"windows of more than {_TOKENS:,} tokens"] += 1
            continue
        of_interval: dict[str, Any] = {}
        if not example.is_top:
            of_interval = {
                "quantileMin": number(example.low),
                "quantileMax": number(example.high),
                "quantileFraction": example.contains,
            }
        found.append(
            {
                "tokens": [_token(t) for t in tokens_of(window, source.vocabulary)],
                "values": numbers(window.activations),
                **of_interval,
            }
        )
    return found


EXPORT = ExportFormat(
    name="neuronpedia-upload",
    about="bodies for Neuronpedia's upload API, one file a request",
    write=write,
    order=20,
)
