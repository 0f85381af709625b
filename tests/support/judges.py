"""Judges by their accuracy alone, to try a trial on: no text is made, and none is read."""

from collections.abc import Callable, Sequence

import numpy as np

from autointerp.labeling.excerpts import Shown
from autointerp.labeling.llm import LabelSettings
from autointerp.llm.wire.reply import Usage
from autointerp.prompting.prompts import BUNDLED
from autointerp.scoring.judge import JudgeSettings
from autointerp.scoring.scorer import Judgment, answer
from autointerp.trial.course import Try, find_out, load_prompts
from autointerp.trial.tally import judge_ways
from autointerp.trial.tasks import Answers, JudgeTry, LabelCounts, Tried
from autointerp.trial.trial_record import JudgeWay

# Way of asking and excerpts a request → how often it is right.
Accuracy = Callable[[str, int], float]
PROMPTS = load_prompts(BUNDLED)
_LABELS = LabelSettings("m", 0.0, 10, Shown(top=5, quantiles=5))
_JUDGE = JudgeSettings("m", 0.0, 50)


def ways_of(accuracy: Accuracy, rng: np.random.Generator) -> list[JudgeWay]:
    """What a whole trial finds of a judge that is right so often, whatever it is asked about."""

    def ask(tries: Sequence[Try]) -> list[Tried]:
        return [Tried(_found(one, accuracy, rng), Usage(), 0.0, False) for one in tries]

    return judge_ways(find_out(ask, PROMPTS, _LABELS, _JUDGE, {}, lambda _: None))


def _found(one: Try, accuracy: Accuracy, rng: np.random.Generator) -> LabelCounts | Answers:
    if not isinstance(one, JudgeTry):
        return LabelCounts(1, features=1, readable=1, right=1)
    items = one.job.plan.items
    right = rng.random(len(items)) < accuracy(one.way, len(items))
    chances = rng.random(len(items)) if one.way == "probabilities" else [None] * len(items)
    judgments = []
    for item, is_right, chance in zip(items, right, chances, strict=True):
        yes = bool(item.truth[0] > 0) == bool(is_right)
        judgments.append(Judgment(item, answer(yes), chance if chance is None else float(chance)))
    return Answers(one.job.scorer.name, one.way, len(items), judgments)
