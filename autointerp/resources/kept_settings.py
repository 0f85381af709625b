"""Settings whose default has changed since: a run that was made before keeps what it was made with.

Such a setting has None for its default. What it then means is decided when a session is opened, and
recorded with the run.
"""

from dataclasses import dataclass
from typing import Any

from autointerp.config.settings import RunConfig, all_settings
from autointerp.runs.directory import Run


@dataclass(frozen=True)
class _Changed:
    former: str
    present: str


_CHANGED = {
    "split": _Changed("context", "document"),
    "negatives": _Changed("feature", "label"),
}


def settled(config: RunConfig, run: Run) -> RunConfig:
    """The settings with every default decided."""
    values: dict[str, Any] = {
        name: _kept(name, changed, run)
        for name, changed in _CHANGED.items()
        if getattr(config, name) is None
    }
    return config.model_copy(update=values)


def _kept(name: str, changed: _Changed, run: Run) -> str:
    recorded = run.settings().text(name)
    if recorded in all_settings()[name].choices():
        return recorded
    # A run that was begun and does not say was begun when there was no choice.
    return changed.former if run.record().config else changed.present
