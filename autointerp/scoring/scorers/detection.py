"""Detection: which of these windows does the label match? (Paulo et al. 2024, section 3.2)

Silent windows are judged by stratum, so that what is said of them can be weighed for the corpus.
"""

from collections.abc import Sequence
from typing import Any

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.config.section import setting
from autointerp.evidence.window_text import one_line
from autointerp.metrics.estimates import Counts, Estimate, balanced_accuracy
from autointerp.rules.lexical import LexicalLabeler
from autointerp.rules.rules import Rule
from autointerp.scoring.forms import LISTS, samples_of_forms, yes_or_no
from autointerp.scoring.scorer import (
    FIRES,
    FurtherColumn,
    Item,
    Judged,
    Judgment,
    Material,
    Plan,
    Scorer,
    activating,
    answer,
)
from autointerp.scoring.scorers.ranking import ranking_by_chances
from autointerp.scoring.strata import SIMILAR, draw, windows_for
from autointerp.vocabulary import Vocabulary

NAME = "detection"
METRIC = "balanced_accuracy"
_SILENT = 1.5  # non-activating windows for each activating one, where density does not decide


class DetectionSettings(ScorerSettings):
    windows: int = setting(
        20,
        "Activating windows to judge, and non-activating ones: as many for frequent features, up "
        "to 2.5 times as many for rare ones (1.5 times with --negatives feature).",
        ge=2,
    )


def plan(material: Material, settings: ScorerSettings) -> Plan:
    """Unseen activating windows, and non-activating ones by stratum."""
    evidence, corpus, windows = material.evidence, material.corpus, settings.windows
    if not material.strata:  # activating windows alone would be judged for nothing
        return material.plan([])
    items = [Item(w, FIRES, answer(True)) for w in activating(evidence, windows)]
    others = round(_SILENT * windows)
    if material.by_label:
        others = windows_for(evidence.window_density, windows)
    silent = draw(
        material.strata, others, evidence.feature, material.seed, steady=material.by_label
    )
    items += [Item(corpus.silent_window(i), name, answer(False)) for name, i in silent]
    return material.plan(items)


def counts(judged: Judged) -> Counts:
    """Right and wrong answers by stratum."""
    found = Counts(judged.plan.density, judged.plan.shares)
    for j in judged.readable():
        assert j.prediction is not None
        found.add(j.item.stratum, bool(j.prediction[0] > 0), max(j.item.window.firings, 1))
    return found


def reduce(judged: Judged, seed: int) -> dict[str, Estimate]:
    """Metric name → estimate, over the windows with a readable judgment.

    Where these have a probability, also how well it ranks the windows.
    """
    found = counts(judged)
    estimates = {METRIC: balanced_accuracy(found)}
    if SIMILAR in judged.plan.shares:
        estimates["near_miss_balanced_accuracy"] = balanced_accuracy(found, only=SIMILAR)
    return estimates | ranking_by_chances(judged, judged.plan, seed)


def render(number: int, item: Item, _vocabulary: Vocabulary) -> dict[str, Any]:
    return {"number": number, "text": one_line(item.window.text)}


def by_rule(labeler: LexicalLabeler, rule: Rule, items: Sequence[Item]) -> list[Judgment]:
    windows = [item.window for item in items]
    fires, chances = labeler.fires(rule, windows), labeler.matches(rule, windows)
    return [Judgment(i, answer(f), c) for i, f, c in zip(items, fires, chances, strict=True)]


_FORMS = yes_or_no(("match", "no_match"), render)
_CORPUS = (
    "of all windows of the corpus, window_length tokens each, not of its tokens, by detection's "
    "judgments; compare it with window_density"
)

SCORER = Scorer(
    name=NAME,
    metric=METRIC,
    about="balanced accuracy of telling activating from non-activating windows",
    settings=DetectionSettings,
    order=10,
    samples={NAME: samples_of_forms({"windows": [{"number": 1, "text": "a"}]})},
    columns=(
        FurtherColumn(
            "near_miss_balanced_accuracy",
            "detection's balanced accuracy with near misses as the only non-activating windows",
            interval=False,
        ),
        FurtherColumn("population_f1", f"F1 {_CORPUS}"),
        FurtherColumn("population_precision", f"precision {_CORPUS}"),
        FurtherColumn("population_recall", f"recall {_CORPUS}"),
        FurtherColumn("population_mcc", f"Matthews correlation {_CORPUS}"),
    ),
    usual=True,
    plan=plan,
    reduce=reduce,
    task=_FORMS[LISTS],
    forms=_FORMS,
    counts=counts,
    by_rule=by_rule,
)
