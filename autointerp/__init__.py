"""autointerp: label and score the features of sparse autoencoders."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autointerp.tables.read import load_labels, load_scores, load_windows

__version__ = "0.1.0"
__all__ = ["__version__", "load_labels", "load_scores", "load_windows"]


def __getattr__(name: str) -> Any:
    # pandas and pyarrow take half a second to import, which `autointerp --help` need not wait for.
    if name in ("load_labels", "load_scores", "load_windows"):
        return getattr(importlib.import_module("autointerp.tables.read"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
