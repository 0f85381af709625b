"""What to say of a file of a run that cannot be read, and what it can be made again from."""

from pathlib import Path

from autointerp.errors import DamagedFileError, InputError

_EVIDENCE = "`autointerp collect` makes it again from the activations"
_REPLIES = "again from the evidence and the replies in the journal, which are not billed twice"
# File of a run → how it comes back.
MADE_AGAIN = {
    "run.json": "without it, no stage counts as done; the replies in the journal are still used",
    "windows.parquet": _EVIDENCE,
    "features.parquet": _EVIDENCE,
    "corpus.parquet": _EVIDENCE,
    "vocabulary.parquet": _EVIDENCE,
    "drafts.parquet": f"`autointerp label` makes it {_REPLIES}",
    "labels.parquet": "it is made again from the drafts, the features and the scores",
    "predictions.parquet": f"`autointerp score` makes it {_REPLIES}",
    "scores.parquet": f"`autointerp score` makes it {_REPLIES}",
    "edits.parquet": "it is the only copy of what people wrote: restore it from a backup",
    "doctor.json": "`autointerp doctor --model` makes it again",
    "journal.sqlite": "the readable replies are copied to a new one",
}


def damaged(path: Path, error: Exception | str) -> InputError:
    """What to say of a file that cannot be read, be it of a run or not."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path} is missing{_hint(path)}")
    if isinstance(error, PermissionError):
        return InputError(f"{path} cannot be read: {error.strerror}")
    reason = _reason(error)
    line = f"{path} cannot be read: it is damaged ({reason}){_hint(path)}"
    return DamagedFileError(line, reason)


def _reason(error: Exception | str) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _hint(path: Path) -> str:
    run = path.parent.parent if _is_of_scorer(path) else path.parent
    how = made_again(path)
    if how is None or not (run / "run.json").exists():
        return ""
    return f": {how}. `autointerp repair {run}` does what is possible without activations"


def made_again(path: Path) -> str | None:
    """How a file of a run comes back; None for a file that is not a run's."""
    if _is_of_scorer(path):
        return "the next `autointerp score` writes it again"
    return MADE_AGAIN.get(path.name)


def _is_of_scorer(path: Path) -> bool:
    """Whether it is one of the files that a scorer keeps in a folder within the run's."""
    is_within = (path.parent.parent / "run.json").exists()
    return is_within and path.suffix == ".parquet" and path.name not in MADE_AGAIN
