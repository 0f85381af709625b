"""What a format of activation caches is: a file of its own, here or in another package."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autointerp.activations.cache import DenseCache, SparseCache
from autointerp.registry import AFTER_OURS, Registry


@dataclass(frozen=True)
class CacheFormat:
    """How another tool keeps activations, or features' activations, with their token ids.

    `matches`: whether a file or folder is one. `load`: the cache, of which nothing large is read
    yet; raises AutointerpError. The format that comes first in order and matches is taken.
    """

    name: str
    about: str
    matches: Callable[[Path], bool]
    load: Callable[[Path], DenseCache | SparseCache]
    order: int = AFTER_OURS


CACHE_FORMATS: Registry[CacheFormat] = Registry("autointerp.caches")
