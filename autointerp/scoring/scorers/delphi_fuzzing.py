"""Fuzzing as Delphi has it (Paulo et al. 2024; eai-delphi): docs/protocols.md.

The windows of its detection, with tokens marked: in the activating ones those on which the feature
is active, in the others as many as those have active tokens on average, one of them at three
quarters of the window.
"""

from autointerp.metrics.estimates import Estimate
from autointerp.scoring.protocols.peer_marks import MARKED_SAMPLE, marked_items
from autointerp.scoring.protocols.peer_metrics import BALANCED_ACCURACY, of_classifier
from autointerp.scoring.protocols.peer_replies import no_schema, read_ones_and_zeros
from autointerp.scoring.scorer import FurtherColumn, Judged, Material, Plan, Scorer, Task
from autointerp.scoring.scorers import fuzzing
from autointerp.scoring.scorers.delphi_detection import (
    DELPHI,
    REPLY_TOKENS,
    DelphiSettings,
    windows_of,
)

NAME = "delphi_fuzzing"


def plan(material: Material, settings: DelphiSettings) -> Plan:
    """Unseen activating windows marked rightly, and as many silent ones marked wrongly."""
    activating, silent = windows_of(material, settings)
    return material.plan(marked_items(activating, silent, at_three_quarters=True))


def reduce(judged: Judged, _seed: int) -> dict[str, Estimate]:
    """Metric name → estimate, over the windows with a readable judgment."""
    return of_classifier(judged, NAME)


SCORER = Scorer(
    name=NAME,
    metric=BALANCED_ACCURACY,
    about="balanced accuracy, as Delphi computes it for fuzzing (there: accuracy)",
    settings=DelphiSettings,
    order=220,
    samples={NAME: [MARKED_SAMPLE]},
    columns=(FurtherColumn(f"{NAME}_f1", "F1, as Delphi computes it for fuzzing"),),
    plan=plan,
    reduce=reduce,
    task=Task(
        no_schema, fuzzing.render, read_ones_and_zeros, lambda _: REPLY_TOKENS, fuzzing.variables
    ),
    by_rule=fuzzing.by_rule,
    protocol=DELPHI,
)
