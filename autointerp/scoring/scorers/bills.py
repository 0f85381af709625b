"""Simulation as Bills et al. (2023) score it (OpenAI's neuron-explainer): docs/protocols.md.

5 of the strongest windows and 5 drawn from the whole corpus, one in a request. The score is the
correlation over the tokens of all of them (top-and-random); beside it are those of either kind.
"""

from dataclasses import replace

import numpy as np

from autointerp.config.scorer_settings import PeerProtocol
from autointerp.config.section import setting
from autointerp.evidence.window import Window
from autointerp.metrics.estimates import Estimate
from autointerp.scoring.protocols.peer_windows import (
    drawn_from_all,
    interleaved,
    ranked,
    strongest,
)
from autointerp.scoring.scorer import FIRES, FurtherColumn, Item, Judged, Material, Plan, Scorer
from autointerp.scoring.scorers import simulation

NAME = "bills"
RANDOM = "random"
_SPLITS, _PLACE = 2, 1  # labeling has the other of any two neighbors


class BillsSettings(simulation.ModeSettings):
    windows: int = setting(10, "Windows to simulate, half of them top ones.", ge=2)

    def most_windows(self) -> int:
        """Every other window is taken, from the top."""
        return _SPLITS * -(-self.windows // 2)


def plan(material: Material, settings: BillsSettings) -> Plan:
    """Every other of the strongest unseen windows, and as many drawn from all of the corpus.

    A window that is drawn and in which the feature fires is one of its unseen firing ones, drawn
    uniformly from those that are not at the top: of these its activations are known.
    """
    evidence, corpus = material.evidence, material.corpus
    half = settings.windows // 2
    top = interleaved(strongest(evidence), settings.windows - half, _SPLITS, _PLACE)
    taken = {window.context for window in top}
    firing = [w for w in ranked(evidence.of("score", "sample")) if w.context not in taken]
    rng = np.random.default_rng([material.seed, evidence.feature, 0xB111])
    # A window with many firings is as many times as likely to be among those that are kept.
    counts = np.array([max(int((w.activations > 0).sum()), 1) for w in firing])
    order = iter(np.argsort(rng.standard_exponential(len(firing)) * counts).tolist())
    items = [_item(material, window, FIRES) for window in top]
    for number, fires in drawn_from_all(material, half):
        place = next(order, None) if fires else None
        if place is not None:
            items.append(_item(material, firing[place], RANDOM))
        elif not fires:
            items.append(_item(material, corpus.silent_window(number), RANDOM))
    return material.plan(items)


def _item(material: Material, window: Window, stratum: str) -> Item:
    """On the scale on which the feature's largest activation is simulation's highest."""
    largest = material.evidence.max_activation
    scale = simulation.HIGHEST / largest if largest > 0 else 0.0
    return Item(window, stratum, (window.activations * scale).astype(np.float32))


def reduce(judged: Judged, seed: int) -> dict[str, Estimate]:
    """Pearson over the tokens of all windows together, and of those of either kind."""
    return {
        simulation.METRIC: simulation.reduce(judged, seed)[simulation.METRIC],
        f"{NAME}_random_{simulation.METRIC}": _of(judged, RANDOM, seed),
        f"{NAME}_top_{simulation.METRIC}": _of(judged, FIRES, seed),
    }


def _of(judged: Judged, stratum: str, seed: int) -> Estimate:
    judgments = [j for j in judged.judgments if j.item.stratum == stratum]
    return simulation.reduce(replace(judged, judgments=judgments), seed)[simulation.METRIC]


_LINES = {"label": "a label", "windows": [{"number": 1, "tokens": ["a"]}]}

SCORER = Scorer(
    name=NAME,
    metric=simulation.METRIC,
    about="top-and-random correlation of Bills et al.: Pearson, over all tokens",
    settings=BillsSettings,
    order=240,
    samples={
        f"{NAME}_prompt_logprobs": [{"label": "a label", "windows": [{"tokens": ["a"]}]}],
        f"{NAME}_top_logprobs": [_LINES],
        NAME: [{"label": "a label", "windows": [{"number": 1, "length": 1, "tokens": '["a"]'}]}],
    },
    columns=(
        FurtherColumn(
            f"{NAME}_random_{simulation.METRIC}", "random-only correlation of Bills et al."
        ),
        FurtherColumn(f"{NAME}_top_{simulation.METRIC}", "the same over top windows alone"),
    ),
    plan=plan,
    reduce=reduce,
    task=simulation.SCORER.task,
    preferred_modes=simulation.SCORER.preferred_modes,
    by_rule=simulation.SCORER.by_rule,
    per_token=True,
    protocol=PeerProtocol("bills", items=1, window_length=64),
)
