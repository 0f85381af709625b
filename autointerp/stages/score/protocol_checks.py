"""Where a run is unlike the protocols that it is to follow, to be said before anything is paid."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from autointerp.config.settings import RunConfig
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from autointerp.storage.parquet_files import open_parquet


def unlike_their_protocols(config: RunConfig) -> list[str]:
    """What the run's settings make other than the protocols that are followed have it, a line each.

    How many windows there must be is checked with the settings themselves.
    """
    followed = {one.name: one for n in config.scorer_names() if (one := SCORERS[n].protocol)}
    return [
        f"protocol {name} has windows of {one.window_length} tokens, this run of "
        f"{config.window_length} (--window-length)"
        for name, one in followed.items()
        if one.window_length != config.window_length
    ]


def with_too_few_windows(run: Run, config: RunConfig) -> Iterator[str]:
    """Scorers that follow a protocol and ask for more windows than any feature has, a line each.

    Their evidence was collected with other settings, or the corpus is too small.
    """
    asked = {
        name: config.settings_of(name, SCORERS[name].settings).most_windows()
        for name in config.scorer_names()
        if SCORERS[name].protocol is not None
    }
    kept = _most_kept(run, max(asked.values())) if asked else 0
    for name, most in asked.items():
        if most > kept:
            yield (
                f"{name} asks for {most} activating windows, and no feature has more than {kept}: "
                f"run `autointerp collect` with --score-windows {most}, or on a larger corpus"
            )


def _most_kept(run: Run, enough: int) -> int:
    """The most windows of a kind that any feature has for scoring, looked for up to `enough`."""
    columns = ["split", "kind", "rank"]
    file, most = open_parquet(run.windows), 0
    for group in range(file.metadata.num_row_groups):
        table = file.read_row_groups([group], columns)
        firing = pc.is_in(table["kind"], pa.array(["top", "sample"], table["kind"].type))
        ranks = table.filter(pc.and_(firing, pc.equal(table["split"], "score")))["rank"]
        most = max(most, 1 + (pc.max(ranks).as_py() if len(ranks) else -1))
        if most >= enough:
            break
    return most
