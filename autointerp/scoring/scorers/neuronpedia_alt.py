"""Neuronpedia's `recall_alt`: does the label explain the activations that are shown with a text?

The windows of `neuronpedia_recall` and five decoys, one in a request, each as its tokens with their
activations, of which the largest is 10. The judge sees where the feature fires and says whether the
label accounts for it. Saying yes to all is right for two thirds: docs/protocols.md.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from autointerp.config.scorer_settings import PeerProtocol
from autointerp.evidence.window_text import shown_tokens
from autointerp.llm.wire.request import ReplySchema, fields
from autointerp.llm.wire.structured import items as replied
from autointerp.metrics.estimates import Estimate
from autointerp.rules.lexical import LexicalLabeler
from autointerp.rules.rules import Rule
from autointerp.scoring.protocols.decoys import DECOYS, decoy_window
from autointerp.scoring.protocols.peer_marks import SILENT
from autointerp.scoring.protocols.peer_metrics import (
    ACCURACY,
    BALANCED_ACCURACY,
    answers,
    balanced,
    share,
)
from autointerp.scoring.scorer import (
    FIRES,
    FurtherColumn,
    Item,
    Judged,
    Judgment,
    Material,
    Plan,
    Scorer,
    Task,
    answer,
)
from autointerp.scoring.scorers.neuronpedia_recall import (
    NEURONPEDIA,
    NeuronpediaSettings,
    windows_of,
)
from autointerp.vocabulary import Vocabulary

NAME = "neuronpedia_alt"
DECOY = "decoy"
_BALANCED = f"{NAME}_{BALANCED_ACCURACY}"
_HIGHEST = 10


def plan(material: Material, settings: NeuronpediaSettings) -> Plan:
    """The strongest unseen windows, silent ones, and the decoys."""
    top, silent = windows_of(material, settings)
    items = [Item(w, FIRES, answer(True)) for w in top]
    items += [Item(w, SILENT, answer(False)) for w in silent]
    if top:
        items += [Item(decoy_window(i), DECOY, answer(False)) for i in range(len(DECOYS))]
    return material.plan(items)


def reduce(judged: Judged, _seed: int) -> dict[str, Estimate]:
    """Accuracy over all that could be read, and balanced accuracy beside it."""
    truth, said = answers(judged)
    return {ACCURACY: share(truth == said), _BALANCED: balanced(truth, said)}


def _render(_number: int, item: Item, vocabulary: Vocabulary) -> dict[str, Any]:
    if item.stratum == DECOY:
        decoy = DECOYS[item.window.rank]
        tokens, activations = list(decoy.tokens), [float(a) for a in decoy.activations]
    else:
        tokens = shown_tokens(item.window.token_ids.tolist(), vocabulary)
        largest = float(item.window.activations.max(initial=0.0))
        scale = _HIGHEST / largest if largest > 0 else 0.0
        activations = [round(float(a) * scale, 2) for a in item.window.activations]
    pairs = [
        {"token": token, "activation": activation}
        for token, activation in zip(tokens, activations, strict=True)
    ]
    return {"activations": json.dumps(pairs, ensure_ascii=False)}


def _schema(_items: Sequence[Item], _scattered: bool) -> ReplySchema:
    match = fields({"match": {"type": "boolean"}, "reason": {"type": "string", "maxLength": 300}})
    return ReplySchema("answer", match)


def _read(text: str, items: Sequence[Item], _scattered: bool) -> dict[int, np.ndarray]:
    """The one item's answer: the first object of the reply that has one."""
    said = [one["match"] for one in replied(text, "answers") if isinstance(one.get("match"), bool)]
    return {0: answer(said[0])} if said and len(items) == 1 else {}


def _by_rule(labeler: LexicalLabeler, rule: Rule, items: Sequence[Item]) -> list[Judgment]:
    """A rule explains activations where it matches at least half of the tokens that are active.

    Decoys have no tokens of the subject model, and so none that a rule matches.
    """
    real = [item for item in items if item.stratum != DECOY]
    predicted = iter(labeler.predict(rule, [item.window for item in real]) if real else [])
    judgments = []
    for item in items:
        explains = False
        if item.stratum != DECOY:
            active, levels = item.window.activations > 0, next(predicted)
            explains = bool(active.any() and (levels[active] > 0).mean() >= 0.5)
        judgments.append(Judgment(item, answer(explains)))
    return judgments


SCORER = Scorer(
    name=NAME,
    metric=ACCURACY,
    about="accuracy, Neuronpedia's recall_alt (always yes: 0.667)",
    settings=NeuronpediaSettings,
    order=270,
    samples={NAME: [{"label": "a label", "windows": [{"activations": "[]"}]}]},
    columns=(FurtherColumn(_BALANCED, "balanced accuracy over the same windows"),),
    plan=plan,
    reduce=reduce,
    task=Task(_schema, _render, _read, lambda _: 120),
    by_rule=_by_rule,
    protocol=PeerProtocol(NEURONPEDIA.name, items=1, window_length=NEURONPEDIA.window_length),
)
