"""A collector's state on disk, to resume a killed collection and to merge several."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from autointerp.evidence.collector import Collector
from autointerp.storage.files import atomic_path

CHECKPOINT_VERSION = 2  # raised where a collector keeps other tables
_DAMAGED = (OSError, SafetensorError, KeyError, TypeError, ValueError)


def save_checkpoint(path: Path, collector: Collector, inputs: str, contexts: range) -> int:
    """Write what the collector has kept of these contexts; returns the bytes."""
    collector.settle()
    about = {
        "inputs": inputs,
        "begin": contexts.start,
        "end": contexts.stop,
        "counters": collector.counters(),
    }
    tables = {name: table.cpu().contiguous() for name, table in collector.tables().items()}
    with atomic_path(path) as temporary:
        save_file(tables, temporary, metadata={"about": json.dumps(about)})
    return path.stat().st_size


def checkpointed(path: Path, inputs: str) -> range | None:
    """Which contexts a checkpoint is of; None for one of other inputs, or a damaged one."""
    try:
        with _opened(path, inputs) as (_, about):
            return range(about["begin"], about["end"])
    except _DAMAGED:
        return None


def load_checkpoint(path: Path, collector: Collector, inputs: str) -> range | None:
    """Restore a collector of the same inputs; returns the contexts it had seen.

    A checkpoint of something else, or a damaged one, is ignored: None.
    """
    try:
        with _opened(path, inputs) as (file, about):
            collector.restore({n: file.get_tensor(n) for n in file.keys()}, about["counters"])  # noqa: SIM118
            return range(about["begin"], about["end"])
    except _DAMAGED:
        return None


def merge_checkpoint(path: Path, collector: Collector, inputs: str) -> range:
    """Take what a checkpoint of the same inputs holds into a collector of other contexts.

    Returns the contexts it is of. Raises ValueError for one of other inputs, OSError and
    SafetensorError for a damaged one. The file's tables are mapped, not read at once.
    """
    with _opened(path, inputs) as (file, about):
        collector.merge({n: file.get_tensor(n) for n in file.keys()}, about["counters"])  # noqa: SIM118
        return range(about["begin"], about["end"])


@contextmanager
def _opened(path: Path, inputs: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        if about["inputs"] != inputs:
            raise ValueError(f"{path} was made from other inputs")
        yield file, about
