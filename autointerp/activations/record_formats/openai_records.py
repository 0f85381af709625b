"""Records of OpenAI's neuron-explainer: a NeuronRecord a neuron, or lists of ActivationRecords.

Activations are those of MLP neurons after their GELU: below zero they are inactive, as OpenAI takes
them when it scales them (`normalize_activations`).
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from autointerp.activations.record_format import (
    BadRecord,
    FileEntry,
    RawRecord,
    RecordFormat,
    objects_in,
)

_LISTS = ("most_positive_activation_records", "random_sample", "activation_records")
_BY_QUANTILE = "random_sample_by_quantile"


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and {"tokens", "activations"} <= value.keys()


def _matches(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and _is_record(value[0])
    return isinstance(value, dict) and (_is_record(value) or not value.keys().isdisjoint(_LISTS))


def _read(entry: FileEntry) -> Iterator[RawRecord]:
    value = entry.value
    if _is_record(value):
        # A list of them is of one neuron, which only the file's name can tell.
        stem = entry.file.name.partition(".")[0]
        if not (stem.isascii() and stem.isdigit()):
            raise BadRecord(
                "it does not say which feature it is of: name the file NUMBER.json, or pass "
                "objects with 'feature' and 'activation_records'"
            )
        yield RawRecord(int(stem), value["tokens"], value["activations"], entry.where)
        return
    source, feature = "", entry.number
    if isinstance(value, list):
        records = value
    elif isinstance(value, dict) and not value.keys().isdisjoint(_LISTS):
        records = list(chain.from_iterable(objects_in(value, name) for name in _LISTS))
        records += chain.from_iterable(_lists_in(value.get(_BY_QUANTILE)))
        feature, source = _neuron(value, feature)
    else:
        raise BadRecord(f"it has none of {', '.join(_LISTS)}")
    for number, record in enumerate(records, 1):
        tokens, activations = (
            record.get(name) if isinstance(record, dict) else None
            for name in ("tokens", "activations")
        )
        yield RawRecord(
            feature, tokens, activations, f"{entry.where}, record {number}", source=source
        )


def _lists_in(value: Any) -> list[list[Any]]:
    """Raises BadRecord where it is anything else; it may be null."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, list) for one in value):
        raise BadRecord(f"{_BY_QUANTILE!r} is not a list of lists")
    return value


def _neuron(value: dict[str, Any], number: int) -> tuple[Any, str]:
    """Which feature an object is about, and its layer; without an id, its number in the file."""
    neuron = value.get("neuron_id")
    if isinstance(neuron, dict):
        return neuron.get("neuron_index"), f"layer {neuron.get('layer_index')}"
    return value.get("feature", number), ""


RECORD_FORMAT = RecordFormat(
    name="openai",
    about="NeuronRecords of OpenAI's neuron-explainer, or lists of its ActivationRecords",
    matches=_matches,
    read=_read,
    signed=True,
    order=20,
)
