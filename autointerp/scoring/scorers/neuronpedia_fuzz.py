"""Neuronpedia's `eleuther_fuzz`, the fuzzing of a fork of Delphi's: docs/protocols.md.

The windows of `neuronpedia_recall` with tokens marked, in silent ones as many as the others have
active tokens on average.
"""

from autointerp.metrics.estimates import Estimate
from autointerp.scoring.protocols.peer_marks import MARKED_SAMPLE, marked_items
from autointerp.scoring.protocols.peer_metrics import BALANCED_ACCURACY, of_classifier
from autointerp.scoring.protocols.peer_replies import no_schema, read_ones_and_zeros
from autointerp.scoring.scorer import Judged, Material, Plan, Scorer, Task
from autointerp.scoring.scorers import fuzzing
from autointerp.scoring.scorers.delphi_detection import REPLY_TOKENS
from autointerp.scoring.scorers.neuronpedia_recall import (
    NEURONPEDIA,
    NeuronpediaSettings,
    windows_of,
)

NAME = "neuronpedia_fuzz"


def plan(material: Material, settings: NeuronpediaSettings) -> Plan:
    """The strongest unseen windows marked rightly, and silent ones marked wrongly."""
    top, silent = windows_of(material, settings)
    return material.plan(marked_items(top, silent, at_three_quarters=False))


def reduce(judged: Judged, _seed: int) -> dict[str, Estimate]:
    """Metric name → estimate, over the windows with a readable judgment."""
    return of_classifier(judged, NAME)


SCORER = Scorer(
    name=NAME,
    metric=BALANCED_ACCURACY,
    about="balanced accuracy, Neuronpedia's eleuther_fuzz",
    settings=NeuronpediaSettings,
    order=260,
    samples={NAME: [MARKED_SAMPLE]},
    plan=plan,
    reduce=reduce,
    task=Task(
        no_schema, fuzzing.render, read_ones_and_zeros, lambda _: REPLY_TOKENS, fuzzing.variables
    ),
    by_rule=fuzzing.by_rule,
    protocol=NEURONPEDIA,
)
