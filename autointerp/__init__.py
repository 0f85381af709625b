"""autointerp: label and score the features of sparse autoencoders.

What is in `__all__` is public; every other module is internal and may change with any version.
"""

import importlib
from typing import TYPE_CHECKING, Any

from autointerp.version import __version__

if TYPE_CHECKING:
    from autointerp.api import (
        arun,
        capture,
        collect,
        import_activations,
        label,
        open_run,
        run,
        score,
    )
    from autointerp.coders.given_coder import GivenCoder as SparseCoder
    from autointerp.errors import (
        AutointerpError,
        ConfigurationError,
        DamagedFileError,
        EndpointError,
        EndpointRejectedError,
        EndpointUnreachableError,
        InputError,
        MissingPackageError,
        NotDoneError,
        OutOfBudgetError,
        OutputError,
        RunInUseError,
        UnreadableRepliesError,
    )
    from autointerp.results import FeatureResult
    from autointerp.results import RunResults as Run
    from autointerp.tables.compare import compare_runs
    from autointerp.tables.differences import label_differences
    from autointerp.tables.protocol_figures import load_protocol_figures
    from autointerp.tables.read import load_labels, load_scores, load_windows
    from autointerp.tables.strata_table import load_strata


__all__ = [
    "AutointerpError",
    "ConfigurationError",
    "DamagedFileError",
    "EndpointError",
    "EndpointRejectedError",
    "EndpointUnreachableError",
    "FeatureResult",
    "InputError",
    "MissingPackageError",
    "NotDoneError",
    "OutOfBudgetError",
    "OutputError",
    "Run",
    "RunInUseError",
    "SparseCoder",
    "UnreadableRepliesError",
    "__version__",
    "arun",
    "capture",
    "collect",
    "compare_runs",
    "import_activations",
    "label",
    "label_differences",
    "load_labels",
    "load_protocol_figures",
    "load_scores",
    "load_strata",
    "load_windows",
    "open_run",
    "run",
    "score",
]

# Where each is defined, and under which name where it is another one there.
_MODULES = {
    "FeatureResult": "autointerp.results",
    "Run": "autointerp.results:RunResults",
    "SparseCoder": "autointerp.coders.given_coder:GivenCoder",
    "compare_runs": "autointerp.tables.compare",
    "label_differences": "autointerp.tables.differences",
    "load_labels": "autointerp.tables.read",
    "load_protocol_figures": "autointerp.tables.protocol_figures",
    "load_scores": "autointerp.tables.read",
    "load_strata": "autointerp.tables.strata_table",
    "load_windows": "autointerp.tables.read",
}
_MODULES |= {name: "autointerp.errors" for name in __all__ if name.endswith("Error")}
_MODULES |= dict.fromkeys(
    ("arun", "capture", "collect", "import_activations", "label", "open_run", "run", "score"),
    "autointerp.api",
)


def __getattr__(name: str) -> Any:
    # pandas and pyarrow take half a second to import, which `autointerp --help` need not wait for.
    if name in _MODULES:
        module, _, defined = _MODULES[name].partition(":")
        return getattr(importlib.import_module(module), defined or name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
