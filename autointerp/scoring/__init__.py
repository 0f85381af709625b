"""Scorers, each in a file of its own."""

from autointerp.scoring import (
    detection,
    discrimination,
    embedding,
    fade,
    fuzzing,
    intruder,
    simulation,
    surprisal,
)
from autointerp.scoring.scorer import Scorer

_ALL = (detection, simulation, fuzzing, intruder, discrimination, fade, embedding, surprisal)
SCORERS: dict[str, Scorer] = {s.SCORER.name: s.SCORER for s in _ALL}


def has_template(scorer: Scorer) -> bool:
    """Whether prompts/<name>.jinja is its judge's."""
    return scorer.task is not None or (scorer.local is not None and scorer.local.template)
