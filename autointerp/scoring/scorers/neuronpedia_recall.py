"""Neuronpedia's `eleuther_recall`, the detection of a fork of Delphi's: docs/protocols.md.

The 20 strongest windows and 5 in which the feature is silent; 5 in a request, answered by a list of
ones and zeros.
"""

from autointerp.config.scorer_settings import PeerProtocol, ScorerSettings
from autointerp.config.section import setting
from autointerp.evidence.window import Window
from autointerp.metrics.estimates import Estimate
from autointerp.scoring.protocols.peer_marks import SILENT
from autointerp.scoring.protocols.peer_metrics import BALANCED_ACCURACY, of_classifier
from autointerp.scoring.protocols.peer_replies import no_schema, read_ones_and_zeros
from autointerp.scoring.protocols.peer_windows import strongest
from autointerp.scoring.scorer import FIRES, Item, Judged, Material, Plan, Scorer, Task, answer
from autointerp.scoring.scorers import detection
from autointerp.scoring.scorers.delphi_detection import REPLY_TOKENS
from autointerp.scoring.strata import draw_uniform

NAME = "neuronpedia_recall"
NEURONPEDIA = PeerProtocol("neuronpedia", items=5, window_length=128)
_SILENT_FOR_EACH = 0.25


class NeuronpediaSettings(ScorerSettings):
    windows: int = setting(
        20, "Top activating windows to judge; a quarter as many non-activating ones.", ge=2
    )


def windows_of(
    material: Material, settings: NeuronpediaSettings
) -> tuple[list[Window], list[Window]]:
    """The strongest windows and the silent ones that all of Neuronpedia's scorers judge."""
    n = round(_SILENT_FOR_EACH * settings.windows)
    drawn = draw_uniform(material.strata, n, material.evidence.feature, material.seed)
    silent = [material.corpus.silent_window(i) for i in drawn]
    return strongest(material.evidence)[: settings.windows], silent


def plan(material: Material, settings: NeuronpediaSettings) -> Plan:
    """The strongest unseen windows and silent ones."""
    top, silent = windows_of(material, settings)
    items = [Item(w, FIRES, answer(True)) for w in top]
    return material.plan(items + [Item(w, SILENT, answer(False)) for w in silent])


def reduce(judged: Judged, _seed: int) -> dict[str, Estimate]:
    """Metric name → estimate, over the windows with a readable judgment."""
    return of_classifier(judged, NAME)


SCORER = Scorer(
    name=NAME,
    metric=BALANCED_ACCURACY,
    about="balanced accuracy, Neuronpedia's eleuther_recall",
    settings=NeuronpediaSettings,
    order=250,
    samples={NAME: [{"label": "a label", "windows": [{"number": 1, "text": "a"}]}]},
    plan=plan,
    reduce=reduce,
    task=Task(no_schema, detection.render, read_ones_and_zeros, lambda _: REPLY_TOKENS),
    by_rule=detection.by_rule,
    protocol=NEURONPEDIA,
)
