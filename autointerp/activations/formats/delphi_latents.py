"""Delphi's cached latents: feature activations, so that no coder is needed to collect.

`<hookpoint>/{start}_{end}.safetensors` (end included) hold the firings of a range of features:
`locations` [n, 3] (context, position, feature − start), `activations` float16 [n], `tokens`
[contexts, length]. float16 overflows: values beyond 65,504 are infinite and are put back to that,
and what is not a number is left out.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from autointerp.activations.activation_batch import VALID
from autointerp.activations.cache import Origin, SparseCache
from autointerp.activations.cache_format import CacheFormat
from autointerp.errors import InputError
from autointerp.storage.files import files_identity
from autointerp.storage.tensor_files import read_settings, safetensors_names, section
from autointerp.tensors.firings import Firings

_NAME = re.compile(r"(\d+)_(\d+)\.safetensors")
_CONFIG = "config.json"
_MAX_FLOAT16 = float(np.finfo(np.float16).max)
_NEEDED = {"locations", "activations"}


@dataclass(frozen=True)
class _Split:
    """The firings of features `first` to `last`, ordered by context and position."""

    file: Path
    first: int
    last: int


def _splits(path: Path) -> list[_Split]:
    found = []
    for file in path.glob("*.safetensors") if path.is_dir() else ():
        name = _NAME.fullmatch(file.name)
        if name:
            found.append(_Split(file, int(name[1]), int(name[2])))
    return sorted(found, key=lambda s: s.first)


def matches(path: Path) -> bool:
    splits = _splits(path)
    return bool(splits) and safetensors_names(splits[0].file) >= _NEEDED


def load(path: Path) -> SparseCache:
    """Raises InputError where a range of features or the tokens are missing, or files damaged."""
    splits = _splits(path)
    expected = 0
    for split in splits:
        if split.first != expected:
            raise InputError(
                f"{path}: the file of features {expected} to {split.first - 1} is missing"
            )
        expected = split.last + 1
    token_ids = None
    for split in splits:
        with _opened(split.file) as file:
            if "tokens" in file.keys():  # noqa: SIM118, it is not a dictionary
                token_ids = torch.from_numpy(file.get_tensor("tokens").astype(np.int32))
                break
    if token_ids is None:
        raise InputError(
            f"{path} has no token ids: cache the latents again with Delphi's option to save tokens"
        )
    settings = read_settings(path / _CONFIG) if (path / _CONFIG).is_file() else {}
    text = section(settings, "cache_cfg").get("dataset_repo") or settings.get("dataset_repo")
    subject = settings.get("model_name")
    repaired: Counter[str] = Counter()
    return SparseCache(
        path=path,
        format="delphi",
        origin=Origin(
            subject=subject if isinstance(subject, str) else None,
            hook=path.name,
            text=text if isinstance(text, str) else None,
            producer="Delphi LatentCache",
        ),
        identity=files_identity([s.file for s in splits]),
        shape=(token_ids.shape[0], token_ids.shape[1]),
        token_ids=token_ids,
        mask=torch.full(token_ids.shape, VALID, dtype=torch.uint8),
        features=expected,
        read=_Reader(splits, token_ids.shape[1], repaired).read,
        repaired=repaired,
    )


def _opened(file: Path) -> safe_open:
    try:
        return safe_open(file, framework="np")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file} cannot be read: {error}") from None


class _Reader:
    def __init__(self, splits: list[_Split], length: int, repaired: Counter[str]) -> None:
        self._splits = splits
        self._length = length
        self._repaired = repaired
        self._position = dict.fromkeys(splits, (0, 0))  # (context, firing): reading is in order

    def read(self, begin: int, end: int) -> Firings:
        token, feature = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        value = [np.empty(0, np.float32)]
        for split in self._splits:
            with _opened(split.file) as file:
                where = file.get_slice("locations")
                total = where.get_shape()[0]
                known_context, known = self._position[split]
                low = _first_at(where, begin, known if known_context <= begin else 0, total)
                high = _first_at(where, end, low, total)
                self._position[split] = (end, high)
                if low == high:
                    continue  # an empty slice at a tensor's end cannot be read
                found = where[low:high].astype(np.int64)
                activations = file.get_slice("activations")[low:high].astype(np.float32)
            infinite, unknown = np.isposinf(activations), ~(activations > -np.inf)
            self._repaired["infinite"] += int(infinite.sum())
            self._repaired["no numbers"] += int(unknown.sum())
            activations[infinite] = _MAX_FLOAT16
            fires = activations > 0
            found = found[fires]
            token.append((found[:, 0] - begin) * self._length + found[:, 1])
            feature.append(found[:, 2] + split.first)
            value.append(activations[fires])
        tokens = np.concatenate(token)
        order = np.argsort(tokens, kind="stable")
        return Firings(
            torch.from_numpy(tokens[order]),
            torch.from_numpy(np.concatenate(feature)[order]),
            torch.from_numpy(np.concatenate(value)[order]),
        )


def _first_at(locations: Any, context: int, low: int, high: int) -> int:
    """The first firing at or after a context, by bisection: few rows are read."""
    while low < high:
        middle = (low + high) // 2
        if int(locations[middle : middle + 1][0, 0]) < context:
            low = middle + 1
        else:
            high = middle
    return low


CACHE_FORMAT = CacheFormat(
    name="delphi",
    about="Delphi's cached latents: feature activations, which need no SAE",
    matches=matches,
    load=load,
    order=30,
)
