"""Scorers, each in a file of its own."""

from autointerp.scoring import detection, simulation
from autointerp.scoring.scorer import Scorer

SCORERS: dict[str, Scorer] = {s.SCORER.name: s.SCORER for s in (detection, simulation)}
