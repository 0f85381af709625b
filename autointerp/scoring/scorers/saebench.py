"""SAEBench's autointerp score (Karvonen et al. 2025; sae-bench): docs/protocols.md.

Fourteen windows in one request: 2 of the top ones, 2 drawn by the square of their activation from
the others, and 10 drawn from the whole corpus, which count as non-activating whatever they hold.
The judge names those in which the feature fires; saying that there is none is right for 10 of 14.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from autointerp.config.scorer_settings import PeerProtocol, ScorerSettings
from autointerp.config.section import setting
from autointerp.metrics.estimates import Estimate
from autointerp.scoring.protocols.peer_metrics import (
    ACCURACY,
    BALANCED_ACCURACY,
    answers,
    balanced,
    share,
)
from autointerp.scoring.protocols.peer_replies import no_schema, numbers_said
from autointerp.scoring.protocols.peer_windows import drawn_from_all, strongest, weighted
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
from autointerp.vocabulary import Vocabulary

NAME = "saebench"
RANDOM, RANDOM_FIRING = "random", "random_firing"
_TOP_OF, _WEIGHTED_OF = 6, 3.5  # windows that are chosen for each that is judged
_RANDOM = 2.5  # for each activating one
_ACTIVE = 0.01  # of the top windows' largest activation, above which a window counts as active
_BESIDE = f"{NAME}_checked_{ACCURACY}", f"{NAME}_{BALANCED_ACCURACY}"


class SAEBenchSettings(ScorerSettings):
    windows: int = setting(
        4,
        "Activating windows to judge, half of them top ones; 2.5 times as many from all.",
        ge=2,
    )

    def most_windows(self) -> int:
        """Half of what is judged is drawn from six times as many top windows."""
        return _TOP_OF * (self.windows // 2)


def plan(material: Material, settings: SAEBenchSettings) -> Plan:
    """Top, weighted and random windows; none where no window is weaker than the top ones."""
    evidence = material.evidence
    rng = np.random.default_rng([material.seed, evidence.feature, 0x5AEB])
    n_top = settings.windows // 2
    n_weighted = settings.windows - n_top
    windows = strongest(evidence)
    of_top, of_weighted = _TOP_OF * n_top, round(_WEIGHTED_OF * n_weighted)
    # Where there are fewer than nineteen, as large a part of them is at the top.
    n_pool = min(of_top, math.ceil(len(windows) * of_top / (of_top + of_weighted)))
    top, weaker = windows[:n_pool], windows[n_pool:]
    if not weaker:
        return material.plan(())
    drawn = weighted(weaker, of_weighted, rng)
    chosen = [top[i] for i in rng.permutation(len(top))[:n_top]]
    chosen += [drawn[i] for i in rng.permutation(len(drawn))[:n_weighted]]
    threshold = _ACTIVE * float(top[0].activations.max())
    items = [Item(w, FIRES, answer(bool(w.activations.max() > threshold))) for w in chosen]
    for number, fires in drawn_from_all(material, round(_RANDOM * settings.windows)):
        kind = RANDOM_FIRING if fires else RANDOM
        items.append(Item(material.corpus.silent_window(number), kind, answer(False)))
    return material.plan(items)


def reduce(judged: Judged, _seed: int) -> dict[str, Estimate]:
    """Accuracy; that with the random windows looked up, and balanced accuracy, are beside it."""
    truth, said = answers(judged)
    fires = np.array([j.item.stratum == RANDOM_FIRING for j in judged.readable()], dtype=bool)
    return {
        ACCURACY: share(truth == said),
        _BESIDE[0]: share((truth | fires) == said),
        _BESIDE[1]: balanced(truth, said),
    }


def example(items: Sequence[Item]) -> list[int]:
    """As many numbers, from 1, as there are windows to name, and not those: what a reply may be.

    Drawn by what the windows are, so that a request is the same on every run.
    """
    right = [i for i, item in enumerate(items, 1) if item.truth[0] > 0]
    seed = [abs(item.window.context) + item.window.start for item in items]
    rng = np.random.default_rng(seed or 0)
    found = right
    while found == right and 0 < len(right) < len(items):
        found = sorted((rng.permutation(len(items))[: len(right)] + 1).tolist())
    return found


def _variables(items: Sequence[Item], _vocabulary: Vocabulary) -> dict[str, Any]:
    return {"example": ", ".join(map(str, example(items)))}


def _render(number: int, item: Item, vocabulary: Vocabulary, example: str) -> dict[str, Any]:
    return detection.render(number, item, vocabulary)


def read(text: str, items: Sequence[Item], _scattered: bool) -> dict[int, np.ndarray]:
    """All windows that are not named are said not to fire; the prompt's example is no answer."""
    numbers = numbers_said(text)
    if numbers is None or (numbers and numbers == example(items)):
        return {}
    named = set(numbers)
    return {i: answer(i + 1 in named) for i in range(len(items))}


SCORER = Scorer(
    name=NAME,
    metric=ACCURACY,
    about="accuracy over SAEBench's windows (never: 0.714)",
    settings=SAEBenchSettings,
    order=230,
    samples={
        NAME: [{"label": "a label", "windows": [{"number": 1, "text": "a"}], "example": "1"}],
    },
    columns=(
        FurtherColumn(_BESIDE[0], "as saebench_accuracy, but the random windows are looked up"),
        FurtherColumn(_BESIDE[1], "balanced accuracy over SAEBench's windows"),
    ),
    plan=plan,
    reduce=reduce,
    task=Task(no_schema, _render, read, lambda _: 3, _variables),
    by_rule=detection.by_rule,
    protocol=PeerProtocol("saebench", items=14, window_length=21),
)
