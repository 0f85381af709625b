"""What a result depends on, as a hash that says whether it has to be made again.

Of settings only what differs from its default counts, by name: a setting that is added, with a
default that changes nothing, leaves finished work done. The fields that settings had in the first
version are always named, since runs and caches of that version are known by hashes of all of them.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

# Of each class of settings, in the order in which hashes have them.
_ALWAYS = {
    "CollectSettings": ("length", "before", "selections", "seed", "repeats", "masks", "corpus"),
    "LabelSettings": ("model", "temperature", "features_per_request", "shown", "meanings"),
    "SelectionSpec": ("kind", "split", "k"),
    "Shown": ("top", "quantiles", "activations", "contrast", "output_tokens"),
    "StreamSettings": ("subject", "hooks", "text", "tokens", "batch_contexts", "dtype"),
    "TextSettings": ("text", "length", "packing", "bos", "turns", "field"),
}


def fingerprint(**inputs: Any) -> str:
    """A hash of everything that a result depends on."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def since_first(version: int) -> dict[str, int]:
    """For `fingerprint`: a version that is raised where the same settings come to mean another
    result. The first is not named."""
    return {"version": version} if version > 1 else {}


def settings_text(settings: Any) -> str:
    """A dataclass of settings as a line of text, and those within it."""
    if isinstance(settings, tuple):
        inner = ", ".join(map(settings_text, settings))
        return f"({inner},)" if len(settings) == 1 else f"({inner})"
    if not is_dataclass(settings):
        return repr(settings)
    named = (f"{name}={settings_text(value)}" for name, value in _named(settings))
    return f"{type(settings).__name__}({', '.join(named)})"


def settings_values(settings: Any) -> dict[str, Any]:
    """A dataclass of settings, and those within it, as values by name."""
    return {
        name: settings_values(value) if is_dataclass(value) else value
        for name, value in _named(settings)
    }


def _named(settings: Any) -> Iterator[tuple[str, Any]]:
    """The settings that count. Those without a default always do."""
    always = _ALWAYS[type(settings).__name__]
    for name in always:
        yield name, getattr(settings, name)
    for field in sorted(fields(settings), key=lambda field: field.name):
        value = getattr(settings, field.name)
        if field.name not in always and field.repr and value != _default(field):
            yield field.name, value


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()
