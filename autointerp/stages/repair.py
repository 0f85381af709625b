"""repair: look at every file of a run, set damaged ones aside, make again what can be made here.

What needs the activations is left to `collect`, what needs the labeling model to `label` and
`score`: the replies they find in the journal are not asked for again.
"""

from collections.abc import Iterator
from pathlib import Path

from autointerp.errors import DamagedFileError, InputError
from autointerp.evidence.store import read_statistics
from autointerp.llm.journal.journal_salvage import is_damaged, salvage
from autointerp.resources.session import has_imported
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from autointerp.storage.damage import made_again
from autointerp.storage.files import aside
from autointerp.storage.parquet_files import open_parquet
from autointerp.tables.write import read_drafts, read_scores, write_labels
from autointerp.trial.trial_record import read_record


def repair(run: Run) -> Iterator[str]:
    """What was found and done, a line each. Raises AutointerpError where it cannot be done."""
    files = [run.windows, run.features, run.corpus, run.vocabulary]
    files += [run.drafts, run.predictions, run.scores, run.edits]
    files += sorted(f for n in SCORERS for f in run.folder_of(n).glob("*.parquet"))
    there = [p for p in (*files, run.labels, run.journal, run.trial, run.manifest) if p.is_file()]
    if not there:
        raise InputError(f"no run at {run.path}: it has none of a run's files")
    with run.locked():
        lost = []
        if moved := _record_set_aside(run):
            lost.append(run.manifest)
            yield _said(run.manifest, moved)
        for path in (*files, run.labels):
            if why := _damage(path):
                moved = aside(path)
                lost.append(path)
                if path != run.labels:
                    yield f"{_said(path, moved)} ({why})"
        if run.journal.is_file() and is_damaged(run.journal):
            counts, moved = salvage(run.journal)
            yield (
                f"{run.journal.name} was damaged and is now {moved.name}: {counts['replies']:,} "
                "replies were saved to a new one, the others will be requested again"
            )
            lost.append(run.journal)
        try:
            read_record(run.trial)
        except DamagedFileError:
            lost.append(run.trial)
            yield _said(run.trial, aside(run.trial))
        if not run.labels.is_file() and run.drafts.is_file():
            yield _labels_made_again(run)
            lost.append(run.labels)
        missing = [p.name for p in files[:4] if not p.is_file() and p not in lost]
        collected = run.stages().collect or run.drafts.is_file() or len(missing) < 4
        if missing and has_imported(run):
            yield f"missing: {', '.join(missing)}; they were imported: import them again"
        elif missing and collected:
            yield f"missing: {', '.join(missing)}; `autointerp collect` makes them again"
        elif not lost:
            yield f"{run.path}: all {len(there)} files are intact"


def _said(path: Path, moved: Path) -> str:
    return f"{path.name} was damaged and is now {moved.name}: {made_again(path)}"


def _record_set_aside(run: Run) -> Path | None:
    """Begin a new record where there is none that can be read; where the damaged one is now."""
    moved = None
    try:
        run.record()
    except DamagedFileError:
        moved = aside(run.manifest)
    if not run.manifest.is_file():
        run.update()
    return moved


def _damage(path: Path) -> str | None:
    """What is wrong with a file of the run, read to its end; None where it is whole or missing."""
    if not path.is_file():
        return None
    try:
        for _ in open_parquet(path).iter_batches():
            pass
    except DamagedFileError as error:
        return error.reason
    return None


def _labels_made_again(run: Run) -> str:
    name = run.labels.name
    if not run.features.is_file():
        return f"{name} cannot be made again before `autointerp collect` has been run"
    statistics = read_statistics(run.features)
    drafts = read_drafts(run.drafts)
    if not {draft.feature for draft in drafts} <= statistics.keys():
        return f"{name} cannot be made again: the drafts are not of the features collected"
    by_model = any(draft.prompt_tokens for draft in drafts)
    coder = next((row["sae"] for row in statistics.values()), "")
    scored = run.stages().score and run.scores.is_file()
    scores = read_scores(run.scores) if scored else {}
    # Prices are the settings', which may be a stranger's: costs are known where any was noted.
    priced = any(draft.cost_usd for draft in drafts)
    write_labels(coder, drafts, statistics, scores, {}, priced, run.labels)
    line = f"{name} was made again from the drafts of {len(drafts):,} features"
    if scored:
        line += " and their scores"
    elif run.scores.is_file():
        # The lost record would have said whether they are of these labels.
        line += f"; {run.scores.name} is left out until `autointerp run` has checked it"
    if scored and by_model:
        # What judging cost, and why it failed, are in the replies alone.
        run.forget_stages("score")
        line += "; `autointerp score` adds what judging cost, from the journal"
    return line
