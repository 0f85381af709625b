"""Between candidate labels: the judging of each on windows kept for that, and the better one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autointerp.config.settings import RunConfig
from autointerp.evidence.store import EvidenceStore
from autointerp.evidence.window import FeatureEvidence
from autointerp.labeling.candidates import (
    Proposed,
    adds_windows,
    distinct,
    first_choice,
    unfinished,
)
from autointerp.labeling.excerpts import Shown
from autointerp.labeling.labeler import Draft
from autointerp.progress import track
from autointerp.prompting.prompts import Prompt, load_prompt
from autointerp.resources import model_facts
from autointerp.resources.estimate import PLACEHOLDER_LABEL, CostEstimate
from autointerp.resources.language_model import Answered, LanguageModel
from autointerp.scoring import forms
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.scorers import detection
from autointerp.stages.label.validation import Choice, ChoiceJob, choice_plan, chosen
from autointerp.vocabulary import Vocabulary

PURPOSE = "candidate"


def judge_prompt(config: RunConfig) -> Prompt:
    """Raises AutointerpError where it cannot ask in the form that is set."""
    prompt = load_prompt(detection.NAME, Path(config.prompts))
    forms.check(prompt, config.judge_form)
    return prompt


def is_worth_another(evidence: FeatureEvidence, views: Sequence[Shown], seed: int) -> bool:
    """Whether a candidate from the last view could differ, and be compared with the others."""
    return adds_windows(evidence, views) and choice_plan(evidence, seed) is not None


@dataclass
class LabelCandidates:
    """The drafts that were proposed, by feature and view."""

    proposed: dict[int, dict[int, Draft]] = field(default_factory=dict)

    def take(self, new: Proposed) -> bool:
        """Take one in; True where it is its feature's first."""
        self.proposed.setdefault(new.draft.feature, {})[new.view] = new.draft
        return new.view == 0

    def drafts(self, missing: Mapping[int, Draft]) -> dict[int, Draft]:
        """feature → its draft before any choice; `missing` is for those without a first view."""
        return {f: first_choice(views, missing[f]) for f, views in self.proposed.items()}

    def open(self) -> dict[int, list[Draft]]:
        """feature → what is to be chosen from, where there are several different labels."""
        every = {feature: distinct(views) for feature, views in self.proposed.items()}
        return {feature: drafts for feature, drafts in every.items() if len(drafts) > 1}

    def unfinished(self) -> int:
        """Features that lack a candidate which another run may have."""
        return sum(unfinished(views) for views in self.proposed.values())


@dataclass(frozen=True)
class Chosen:
    """The drafts of features that had a choice, as far as it was made.

    `unanswered` is for how many no judge could be had, which another run may mend.
    """

    drafts: dict[int, Draft]
    unanswered: int
    asked: Answered


@dataclass(frozen=True)
class CandidateJudge:
    """How candidates are judged: all of a feature by one plan."""

    prompt: Prompt
    form: str
    settings: JudgeSettings
    vocabulary: Vocabulary
    seed: int

    def jobs(self, evidence: FeatureEvidence, labels: Sequence[str]) -> list[JudgeJob]:
        """A job for each label; none where there are too few windows."""
        plan = choice_plan(evidence, self.seed)
        if plan is None:
            return []
        (task, prompt), *fallbacks = forms.ways(detection.SCORER, self.form, self.prompt)
        return [
            JudgeJob(
                scorer=detection.SCORER,
                plan=plan,
                label_of=evidence.feature,
                label=label,
                prompt=prompt,
                vocabulary=self.vocabulary,
                settings=self.settings,
                todo=tuple(range(len(plan.items))),
                chosen_task=task,
                fallbacks=tuple(fallbacks),
                purpose=PURPOSE,
            )
            for label in labels
        ]


def candidate_judge(config: RunConfig, vocabulary: Vocabulary) -> CandidateJudge:
    # Once for all jobs: the name of a model on this machine is read from its files.
    name = model_facts.model_name(config)
    settings = JudgeSettings(name, config.temperature, config.judge_items)
    return CandidateJudge(
        judge_prompt(config), config.judge_form, settings, vocabulary, config.seed
    )


def choose(
    model: LanguageModel,
    store: EvidenceStore,
    judge: CandidateJudge,
    firsts: Mapping[int, Draft],
    choices: Mapping[int, Sequence[Draft]],
) -> Chosen:
    """Have each feature's candidates judged, and take the best. firsts: the drafts so far."""
    found: dict[int, Draft] = {}
    unanswered = 0
    with track("label: candidates", len(choices), "features") as progress:

        def take(choice: Choice) -> None:
            nonlocal unanswered
            unanswered += any(one.unanswered or one.unread for one in choice.judged)
            feature = choice.feature
            found[feature] = chosen(firsts[feature], choices[feature], choice)
            progress.advance()

        def jobs() -> Iterator[ChoiceJob]:
            for evidence in store.read(list(choices)):
                labels = [draft.label or "" for draft in choices[evidence.feature]]
                if judging := judge.jobs(evidence, labels):
                    yield ChoiceJob(judging[0], tuple(judging[1:]))

        asked = model.ask(jobs, take, progress)
    return Chosen(found, unanswered, asked)


def add_judging(
    total: CostEstimate,
    judge: CandidateJudge,
    store: EvidenceStore,
    candidates: Mapping[int, int],
) -> None:
    """Count what judging would take, if every candidate is judged. candidates: by feature."""
    several = {f: n for f, n in candidates.items() if n > 1}
    for evidence in store.read(list(several)):
        labels = [PLACEHOLDER_LABEL] * several[evidence.feature]
        for judging in judge.jobs(evidence, labels):
            total.add_all(judging.requests())
