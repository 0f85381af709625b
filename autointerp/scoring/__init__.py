"""Scorers, each in a file of its own."""

from autointerp.scoring import detection, fuzzing, intruder, simulation
from autointerp.scoring.scorer import Scorer

_ALL = (detection, simulation, fuzzing, intruder)
SCORERS: dict[str, Scorer] = {s.SCORER.name: s.SCORER for s in _ALL}
