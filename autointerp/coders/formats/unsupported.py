"""Dictionaries that are not SAEs of single tokens at one hook point, recognized to report so."""

import re
from pathlib import Path
from typing import Any

from autointerp.storage.tensor_files import (
    read_settings,
)

_KINDS = {
    "clt": "a cross-layer transcoder (CLT), which writes to many layers at once",
    "crosscoder": "a crosscoder, which reads several hook points or models at once",
    "temporal": "a temporal SAE, which needs whole sequences and not single tokens",
    "matching_pursuit": "a matching-pursuit SAE, which selects features one after another",
    "abstopk": "an AbsTopK SAE, whose activations have both signs",
    "lorsa": "a low-rank sparse attention (Lorsa), which needs whole sequences",
    "molt": "a mixture of linear transforms (MOLT), whose features are maps and not directions",
}
_CONFIGS = ("cfg.json", "config.json", "conf.yaml", "config.yaml")
_TEMPORAL_CONFIG, _TEMPORAL_WEIGHTS = "conf.yaml", "latest_ckpt.safetensors"
_CLT_FILE = re.compile(r"W_(enc|dec)_\d+\.safetensors|params_layer_\d+\.safetensors")


# Of a folder on the hub, what they are known by.
DOWNLOADS = (*_CONFIGS, _TEMPORAL_CONFIG, _TEMPORAL_WEIGHTS, "W_enc_0.safetensors")


def kind_of(path: Path) -> str | None:
    """What the unsupported dictionary at `path` is, in words, or None."""
    folder = path if path.is_dir() else path.parent
    if (folder / _TEMPORAL_CONFIG).is_file() and (folder / _TEMPORAL_WEIGHTS).is_file():
        return _KINDS["temporal"]
    names = [path.name] if path.is_file() else [f.name for f in path.iterdir()]
    if any(_CLT_FILE.fullmatch(name) for name in names):
        return _KINDS["clt"]
    for name in _CONFIGS:
        if (folder / name).is_file():
            kind = _named_in(read_settings(folder / name))
            if kind:
                return kind
    return None


def _named_in(config: dict[str, Any]) -> str | None:
    """By the entries in which the families say what they are."""
    for entry in ("architecture", "sae_type", "type", "model_type", "dict_class"):
        said = str(config.get(entry, "")).lower().replace("-", "_")
        said = {"cross_layer_transcoder": "clt", "cross_coder": "crosscoder"}.get(said, said)
        for kind, words in _KINDS.items():
            if said == kind or (kind == "crosscoder" and "crosscoder" in said):
                return words
    trainer = config.get("trainer")
    return _named_in(trainer) if isinstance(trainer, dict) else None
