"""What a format of SAE files is: a file of its own, here or in another package."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autointerp.coders.coder import SparseCoder
from autointerp.registry import AFTER_OURS, Registry


@dataclass(frozen=True)
class CoderFormat:
    """How SAEs of one family lie on disk.

    `matches`: whether a file or folder is one. `files`: those it is read from, by which it is known
    again. `load`: the SAE, with another `k` where one is given; raises AutointerpError. The format
    that comes first in order and matches is taken. `downloads`: the names of the files in a folder
    of the Hugging Face hub that it needs.
    """

    name: str
    about: str
    matches: Callable[[Path], bool]
    files: Callable[[Path], list[Path]]
    load: Callable[[Path, int | None], SparseCoder]
    downloads: tuple[str, ...] = ()
    order: int = AFTER_OURS


CODER_FORMATS: Registry[CoderFormat] = Registry("autointerp.coders")
