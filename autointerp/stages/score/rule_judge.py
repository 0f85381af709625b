"""Rules as judges: a lexical label says itself what it fires on."""

from collections.abc import Sequence
from dataclasses import dataclass

from autointerp.progress import Tracker
from autointerp.rules.lexical import LexicalLabeler
from autointerp.rules.rules import Rule
from autointerp.runs.record import ScoreRecord
from autointerp.scoring import SCORERS
from autointerp.scoring.planner import Planner
from autointerp.stages.score.judged_labels import JudgedLabels
from autointerp.stages.score.judging import Take, judged_by


@dataclass(frozen=True)
class RulesJudge:
    """`scorers`: those that ask a model where labels are words."""

    scorers: Sequence[str]

    def judge(
        self, planner: Planner, labels: JudgedLabels, take: Take, _progress: Tracker
    ) -> BaseException | None:
        ruled = [name for name in self.scorers if SCORERS[name].by_rule]
        scored = [feature for feature in labels.features if labels.drafts[feature].rule]
        if not scored or not ruled:
            return None
        rules = {f: Rule.from_json(d.rule) for f, d in labels.drafts.items() if d.rule}
        labeler = LexicalLabeler(planner.vocabulary)
        # A rule chooses among rules.
        for scorer, label_of, plan in planner.plans(
            scored, ruled, labels.judged, labels.known(rules)
        ):
            assert scorer.by_rule is not None
            judgments = scorer.by_rule(labeler, rules[label_of], plan.items)
            take(judged_by(scorer, plan, label_of, judgments))
        return None

    def note(self, details: ScoreRecord) -> None:
        pass
