"""What judges labels: rules, a model at an endpoint, or models on this machine, all alike."""

from collections.abc import Callable
from typing import Protocol

from autointerp.labeling.labeler import Draft
from autointerp.progress import Tracker
from autointerp.runs.record import ScoreRecord
from autointerp.scoring.planner import Planner
from autointerp.scoring.scorer import Judged, Judgment, Plan, Scorer
from autointerp.stages.score.judged_labels import JudgedLabels

NOTHING = "there are too few windows, or other labels, to judge it by"
Take = Callable[[Judged], None]


class Judge(Protocol):
    """Judges the plans of its scorers by labels.

    Judgments go to `take` as they come, since replies of an endpoint come in no order and while
    others are on their way. What ended the judging before its end is returned, to be raised once
    all is written.
    """

    def judge(
        self, planner: Planner, labels: JudgedLabels, take: Take, progress: Tracker
    ) -> BaseException | None: ...

    def note(self, details: ScoreRecord) -> None:
        """Record who judged, and what was asked."""


def is_judged_by_rule(scorer: Scorer, draft: Draft | None, judge: str) -> bool:
    """Whether the label is a rule that judges itself: no model need be asked.

    judge: who is to judge, as settings have it.
    """
    if judge != "auto" or draft is None:
        return False
    return scorer.by_rule is not None and draft.rule is not None


def judged_by(scorer: Scorer, plan: Plan, label_of: int, judgments: list[Judgment]) -> Judged:
    error = None if plan.items else NOTHING
    return Judged(plan, scorer.name, label_of, judgments, error=error)
