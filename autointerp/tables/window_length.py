"""What population scores are of: windows of a run's length, which not all runs share."""

from collections.abc import Mapping

from autointerp.plain_text import line_for_person
from autointerp.runs.directory import Run

# Settings that say what a score is of, and why scores of others are not comparable.
_MEANINGS = {
    "window_length": "population scores are of windows, which fire more often the longer they are",
    "split": "the labels have seen more or less of the documents they are scored on",
}


def window_length(run: Run) -> int | None:
    """Tokens a window of the run's, where its record says it."""
    length = run.settings().shown().get("window_length")
    return length if isinstance(length, int) else None


def of_windows(run: Run) -> str:
    """What its population scores are of, in words."""
    length = window_length(run)
    return "windows" if length is None else f"windows of {length} tokens"


def unlike_windows(runs: Mapping[str, Run]) -> list[str]:
    """A line for each setting that gives the runs' scores another meaning; runs: by name."""
    found = []
    for setting, why in _MEANINGS.items():
        values = {name: _recorded(run, setting) for name, run in runs.items()}
        shown = {
            name: "not recorded" if value is None else line_for_person(value)
            for name, value in values.items()
        }
        if len(set(shown.values())) > 1:
            said = ", ".join(f"{value} in {name}" for name, value in shown.items())
            found.append(f"{setting} differs ({said}): {why}")
    return found


def _recorded(run: Run, setting: str) -> object:
    value = run.settings().shown().get(setting)
    # A run that does not say was split before there was a choice.
    return "context" if value is None and setting == "split" else value
