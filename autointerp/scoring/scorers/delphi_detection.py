"""Detection as Delphi has it (Paulo et al. 2024; eai-delphi): docs/protocols.md.

50 windows from equal slices of the activating ones, ranked by activation, and 50 in which the
feature is silent, drawn from all; 5 in a request, answered by a list of ones and zeros.
"""

import random

from autointerp.config.scorer_settings import PeerProtocol, ScorerSettings
from autointerp.config.section import setting
from autointerp.evidence.window import Window
from autointerp.metrics.estimates import Estimate
from autointerp.scoring.protocols.peer_marks import SILENT
from autointerp.scoring.protocols.peer_metrics import BALANCED_ACCURACY, of_classifier
from autointerp.scoring.protocols.peer_replies import no_schema, read_ones_and_zeros
from autointerp.scoring.protocols.peer_windows import by_quantiles, sampled
from autointerp.scoring.scorer import (
    FIRES,
    FurtherColumn,
    Item,
    Judged,
    Material,
    Plan,
    Scorer,
    Task,
    answer,
)
from autointerp.scoring.scorers import detection
from autointerp.scoring.strata import draw_uniform

NAME = "delphi_detection"
QUANTILES = 10
DELPHI = PeerProtocol("delphi", items=5, window_length=32, pooled=True)
REPLY_TOKENS = 3  # for each of the windows: a digit, a comma, perhaps a space


class DelphiSettings(ScorerSettings):
    windows: int = setting(
        50, "Activating windows to judge, and as many non-activating ones.", ge=2
    )


def windows_of(material: Material, settings: ScorerSettings) -> tuple[list[Window], list[Window]]:
    """The activating windows and the silent ones that both of Delphi's scorers judge."""
    feature, n = material.evidence.feature, settings.windows
    rng = random.Random(f"{material.seed} {feature}")
    activating = by_quantiles(sampled(material.evidence, n), n, QUANTILES, rng)
    drawn = draw_uniform(material.strata, n, feature, material.seed)
    return activating, [material.corpus.silent_window(i) for i in drawn]


def plan(material: Material, settings: ScorerSettings) -> Plan:
    """Unseen activating windows and as many silent ones."""
    activating, silent = windows_of(material, settings)
    items = [Item(w, FIRES, answer(True)) for w in activating]
    items += [Item(w, SILENT, answer(False)) for w in silent]
    return material.plan(items)


def reduce(judged: Judged, _seed: int) -> dict[str, Estimate]:
    """Metric name → estimate, over the windows with a readable judgment."""
    return of_classifier(judged, NAME)


SCORER = Scorer(
    name=NAME,
    metric=BALANCED_ACCURACY,
    about="balanced accuracy, as Delphi computes it for detection (there: accuracy)",
    settings=DelphiSettings,
    order=210,
    samples={NAME: [{"label": "a label", "windows": [{"number": 1, "text": "a"}]}]},
    columns=(FurtherColumn(f"{NAME}_f1", "F1, as Delphi computes it for detection"),),
    plan=plan,
    reduce=reduce,
    task=Task(no_schema, detection.render, read_ones_and_zeros, lambda _: REPLY_TOKENS),
    by_rule=detection.by_rule,
    protocol=DELPHI,
)
