"""The state of a collection on disk, so that a killed one goes on from there."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from autointerp.evidence.collector import Collector
from autointerp.files import atomic_path


@dataclass(frozen=True)
class Reached:
    """How far a pass has come: contexts that are taken in, and whether there are no more."""

    contexts: int
    ended: bool


def save_checkpoint(path: Path, collector: Collector, inputs: str, reached: Reached) -> int:
    """Write what the collector has kept so far; returns the bytes."""
    collector.settle()
    about = {
        "inputs": inputs,
        "contexts": reached.contexts,
        "ended": reached.ended,
        "counters": collector.counters(),
    }
    tables = {name: table.cpu().contiguous() for name, table in collector.tables().items()}
    with atomic_path(path) as temporary:
        save_file(tables, temporary, metadata={"about": json.dumps(about)})
    return path.stat().st_size


def load_checkpoint(path: Path, collector: Collector, inputs: str) -> Reached:
    """Restore a collector of the same inputs; returns how far it had come.

    A checkpoint of something else, or a damaged one, is passed over: the pass begins anew.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            if about["inputs"] != inputs:
                return Reached(0, ended=False)
            reached = Reached(about["contexts"], about["ended"])
            collector.restore({n: file.get_tensor(n) for n in file.keys()}, about["counters"])  # noqa: SIM118
            return reached
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return Reached(0, ended=False)
