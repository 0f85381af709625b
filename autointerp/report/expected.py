"""What a run that scored a share of its labels says of the others, for a terminal."""

from collections.abc import Iterator

import pandas as pd

from autointerp.metrics.expectation import MIN_MEASURED
from autointerp.runs.directory import Run
from autointerp.tables.expected_f1 import EXPECTED, MEASURED


def expected_lines(run: Run, labels: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Title and text: how many labels were scored, and the F1 to expect of the rest.

    labels: the run's label table. Nothing where all labels were to be scored.
    """
    scored, share = run.stages().score, run.record().config.get("score_share", 1.0)
    if scored is None or not isinstance(share, int | float) or share >= 1:
        return
    labeled = labels[labels["status"] == "labeled"]
    yield "scored", f"{scored.scored:,} of {len(labeled):,} labels (--score-share {share:g})"
    judged = labeled[f"{MEASURED}_ci_low"].notna()
    measured = labeled[MEASURED].notna()
    rest = labeled[~judged & labeled[EXPECTED].notna()]
    if len(rest):
        width = (rest[f"{EXPECTED}_ci_high"] - rest[f"{EXPECTED}_ci_low"]).mean()
        yield (
            "expected F1",
            f"median {rest[EXPECTED].median():.3f}, {len(rest):,} labels that were not scored; "
            f"95 % intervals {width:.2f} wide on average",
        )
    elif measured.sum() < MIN_MEASURED:
        yield (
            "expected F1",
            f"unknown: {measured.sum():,} labels have a population F1, at least {MIN_MEASURED} "
            "are needed",
        )
    elif not judged.all():
        yield "expected F1", "unknown: population F1 is unknown for most of the scored labels"
