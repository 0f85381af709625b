"""Scorers, each in a file of its own."""

from autointerp.scoring.scorer import SCORERS as SCORERS
from autointerp.scoring.scorer import Scorer


def has_template(scorer: Scorer) -> bool:
    """Whether prompts/<name>.jinja is its judge's."""
    return scorer.task is not None or (scorer.local is not None and scorer.local.template)


def chance_of(scorer: str, metric: str) -> float | None:
    """What a judge that knows nothing gets, where that is the metric's null."""
    known = SCORERS.get(scorer)
    return known.chance if known is not None and known.metric == metric else None
