"""What comes of judging, as it comes, and the files it ends in."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite

from autointerp.runs.directory import Run
from autointerp.runs.record import ScoreRecord
from autointerp.scoring.replies import NULL, OWN
from autointerp.scoring.scorebook import Scorebook
from autointerp.scoring.scorer import Judged, Score
from autointerp.stages.score.judged_labels import JudgedLabels
from autointerp.tables.write import PredictionWriter, write_labels, write_scores


@dataclass
class JudgingResults:
    """Judgments in the book and among the predictions, what is missing in the record."""

    book: Scorebook
    predictions: PredictionWriter
    details: ScoreRecord
    _replies: dict[str, dict[str, Counter[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Counter))
    )
    _more: list[Score] = field(default_factory=list)

    def take(self, judged: Judged) -> bool:
        """Take a judgment; True where it completes its feature's score."""
        self._note(judged)
        self.predictions.add(judged)
        return self.book.take(judged)

    def add(self, spent: Iterable[Judged], scores: Iterable[Score]) -> None:
        """Take what an experiment came to."""
        for judged in spent:
            self._note(judged)
            self.book.spent[judged.feature].append(judged)
        self._more += scores

    def _note(self, judged: Judged) -> None:
        details, again = self.details, judged.unanswered or judged.unread
        details.unanswered += again
        if again:
            details.unanswered_for = judged.error
            details.unanswered_usd += judged.cost_usd
        if judged.replies.counts:
            whose = OWN if judged.label_of == judged.feature else NULL
            self._replies[judged.scorer][whose].update(judged.replies.counts)

    def write(
        self,
        run: Run,
        coder: str,
        labels: JudgedLabels,
        judge_of: Callable[[Score], str],
        hashes: Mapping[str, str],
        priced: bool,
    ) -> None:
        """Write scores and label table. priced: whether it is known what all of it cost."""
        scores = self.book.scores()
        for score in self._more:
            scores[score.feature].append(score)
        every = (score for of_feature in scores.values() for score in of_feature)
        write_scores(coder, every, judge_of, hashes, run.scores)
        drafts, spent = labels.drafts.values(), self.book.spent
        write_labels(coder, drafts, labels.statistics, scores, spent, priced, run.labels)
        details = self.details
        details.prompt_hashes = dict(hashes)
        details.scored = sum(
            any(isfinite(s.estimate.value) for s in each) for each in scores.values()
        )
        details.replies = {
            scorer: {whose: dict(kinds) for whose, kinds in found.items()}
            for scorer, found in self._replies.items()
        }
