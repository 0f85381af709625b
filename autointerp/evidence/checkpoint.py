"""The state of a collection on disk, so that a killed one goes on from there."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from autointerp.evidence.collector import Collector
from autointerp.files import atomic_path


def save_checkpoint(path: Path, collector: Collector, inputs: str, contexts: int) -> int:
    """Write what the collector has kept of the first `contexts` contexts; returns the bytes."""
    collector.settle()
    about = {"inputs": inputs, "contexts": contexts, "counters": collector.counters()}
    tables = {name: table.cpu().contiguous() for name, table in collector.tables().items()}
    with atomic_path(path) as temporary:
        save_file(tables, temporary, metadata={"about": json.dumps(about)})
    return path.stat().st_size


def load_checkpoint(path: Path, collector: Collector, inputs: str) -> int:
    """Restore a collector of the same inputs; returns the contexts it has seen, 0 for none.

    A checkpoint of something else, or a damaged one, is passed over: the pass begins anew.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            if about["inputs"] != inputs:
                return 0
            collector.restore({n: file.get_tensor(n) for n in file.keys()}, about["counters"])  # noqa: SIM118
            contexts: int = about["contexts"]
            return contexts
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return 0
