"""Who judges what: the plans of all scorers, their nulls, and judging by model or rule."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from autointerp.config.settings import RunConfig
from autointerp.evidence.corpus import Corpus
from autointerp.evidence.store import EvidenceStore
from autointerp.labeling.labeler import Draft
from autointerp.metrics.sequential import anytime_balanced_accuracy
from autointerp.prompting.prompts import Prompt, load_prompt
from autointerp.resources import language_model
from autointerp.resources.estimate import PLACEHOLDER_LABEL
from autointerp.rules import lexical
from autointerp.rules.rules import Rule
from autointerp.runs.session import Job
from autointerp.scoring import SCORERS, forms, has_template
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.null import Labeled, null_partners, null_sample
from autointerp.scoring.scorer import (
    Judged,
    Judgment,
    LocalJudge,
    Material,
    Plan,
    Scorer,
    Task,
    TokenTask,
)
from autointerp.scoring.scorers.choices import KnownLabels
from autointerp.scoring.scorers.concept_texts import TASK as TEXTS
from autointerp.scoring.strata import strata_of
from autointerp.stages.score import fade_experiment, local_judges
from autointerp.vocabulary import Vocabulary

_FEWEST_NULLS = 50  # features with a null, so that the nulls together say something
NOTHING = "there are too few windows, or other labels, to judge it by"


@dataclass(frozen=True)
class JudgingInputs:
    """What is read to score a run."""

    job: Job

    @cached_property
    def store(self) -> EvidenceStore:
        return EvidenceStore(self.job.run.windows, self.job.run.features)

    @cached_property
    def corpus(self) -> Corpus:
        return Corpus.read(self.job.run.corpus)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.load(self.job.run.vocabulary)

    def labeled(self, drafts: Iterable[Draft]) -> list[Labeled]:
        """The features that have a label."""
        seen = self.store.statistics
        return [
            Labeled(d.feature, d.label, seen[d.feature]["n_active"], d.rule)
            for d in drafts
            if d.label is not None
        ]

    def plans(
        self, features: list[int], scorers: Iterable[str], labels: KnownLabels | None = None
    ) -> Iterator[tuple[Scorer, Plan]]:
        """What the scorers ask of every feature."""
        for evidence in self.store.read(features):
            strata = strata_of(self.corpus, evidence)
            seed, special = self.job.config.seed, self.vocabulary.special_ids
            material = Material(
                evidence, self.corpus, strata, seed, special, labels or KnownLabels()
            )
            for name in scorers:
                yield SCORERS[name], SCORERS[name].plan(material, windows_of(self.job, name))


def windows_of(job: Job, scorer: str) -> int:
    number: int = getattr(job.config, f"{scorer}_windows")
    return number


def chat_scorers(config: RunConfig) -> list[str]:
    """The scorers that ask a model's endpoint; without one, rules judge in its place."""
    return [name for name in config.scorer_names() if SCORERS[name].task]


def templates(job: Job) -> list[str]:
    """The tasks for which a judge is given a template."""
    config = job.config
    judged_here = (name for name in local_judges.names(config) if has_template(SCORERS[name]))
    texts = [TEXTS] if fade_experiment.asks(job) else []
    return [*(chat_templates(config) if config.uses_model() else []), *texts, *judged_here]


def _ways(config: RunConfig, scorer: Scorer) -> list[str]:
    """The templates of the ways in which the scorer may ask, the best first."""
    if not scorer.better:
        return [scorer.name]
    mode = getattr(config, f"{scorer.name}_mode")
    return list(scorer.templates()) if mode == "auto" else [scorer.template(mode)]


def chat_templates(config: RunConfig) -> list[str]:
    return [name for scorer in chat_scorers(config) for name in _ways(config, SCORERS[scorer])]


def load_prompts(job: Job) -> dict[str, Prompt]:
    """The templates by task.

    Raises AutointerpError where one cannot ask in the form that is set.
    """
    folder = Path(job.config.prompts)
    prompts = {name: load_prompt(name, folder) for name in templates(job)}
    for prompt in prompts.values():
        check_form(job.config, prompt)
    return prompts


def check_form(config: RunConfig, prompt: Prompt) -> None:
    """Raises AutointerpError where a judge's template cannot ask in the form that is set."""
    if prompt.task in SCORERS and SCORERS[prompt.task].forms:
        forms.check(prompt, config.judge_form)


def draw_nulls(job: Job, labeled: list[Labeled]) -> dict[int, int]:
    """feature → the feature whose label is judged for its null; a rule's is another rule."""
    partners: dict[int, int] = {}
    for by_rule in (False, True):
        alike = [one for one in labeled if bool(one.rule) == by_rule]
        partners |= null_partners(alike, job.config.seed)
    drawn = null_sample_of(job, list(partners))
    return {feature: other for feature, other in partners.items() if feature in drawn}


def null_sample_of(job: Job, features: list[int]) -> set[int]:
    # Rules judge for nothing: all features get a null.
    share = job.config.share_with_null() if job.config.uses_model() else 1.0
    fewest = _FEWEST_NULLS if share > 0 else 0
    return null_sample(features, share, fewest, job.config.seed)


def is_ruled(config: RunConfig, scorer: Scorer, draft: Draft | None) -> bool:
    """Whether the label is a rule that judges itself: no model need be asked."""
    if config.judge != "auto" or draft is None:
        return False
    return scorer.by_rule is not None and draft.rule is not None


def judge_by_rules(
    inputs: JudgingInputs,
    scorers: list[str],
    drafts: Mapping[int, Draft],
    labeled: list[int],
    nulls: Mapping[int, int],
) -> Iterator[Judged]:
    """A lexical label is its own judge: the rule says what it fires on."""
    config = inputs.job.config
    ruled = [name for name in scorers if SCORERS[name].by_rule]
    rules = {
        f: Rule.from_json(rule)
        for f in labeled
        if config.judge == "auto" and (rule := drafts[f].rule)
    }
    if not rules or not ruled:
        return
    labeler = lexical.LexicalLabeler(inputs.vocabulary)
    # A rule chooses among rules.
    labels = KnownLabels(inputs.labeled(drafts[f] for f in rules))
    for scorer, plan in inputs.plans(sorted(rules), ruled, labels):
        assert scorer.by_rule is not None
        for label_of in _labels_for(scorer, plan.feature, nulls):
            judgments = scorer.by_rule(labeler, rules[label_of], plan.items)
            yield judged_by(scorer, plan, label_of, judgments)


def judge_jobs(
    inputs: JudgingInputs,
    drafts: Mapping[int, Draft],
    labeled: list[int],
    nulls: Mapping[int, int],
    prompts: Mapping[str, Prompt],
) -> Iterator[JudgeJob]:
    config = inputs.job.config
    settings = JudgeSettings(
        language_model.model_name(config), config.temperature, config.judge_items
    )
    to_come = [Draft(f, "pending", "", PLACEHOLDER_LABEL) for f in labeled if f not in drafts]
    labels = KnownLabels(inputs.labeled([*drafts.values(), *to_come]))
    ways: dict[str, list[tuple[Task | TokenTask, Prompt]]] = defaultdict(list)
    for scorer in SCORERS.values():
        if scorer.forms and scorer.name in prompts:
            ways[scorer.name] += forms.ways(scorer, config.judge_form, prompts[scorer.name])
            continue
        for template, task in scorer.templates().items():
            if template in prompts:
                ways[scorer.name].append((task, prompts[template]))
    for scorer, plan in inputs.plans(labeled, ways, labels):
        if is_ruled(config, scorer, drafts.get(plan.feature)):
            continue
        (way, prompt), *weaker = ways[scorer.name]
        for label_of in _labels_for(scorer, plan.feature, nulls):
            yield JudgeJob(
                scorer=scorer,
                plan=plan,
                label_of=label_of,
                label=label_shown(drafts, label_of),
                prompt=prompt,
                vocabulary=inputs.vocabulary,
                settings=settings,
                todo=tuple(range(len(plan.items))),
                enough=_enough(scorer, config.precision),
                way=way,
                weaker=tuple(weaker),
            )


def _enough(scorer: Scorer, precision: float | None) -> Callable[[Judged], bool] | None:
    """Whether the interval is as narrow as is asked for; None where all is to be judged."""
    counts = scorer.counts
    if counts is None or precision is None:
        return None

    def narrow(judged: Judged) -> bool:
        found = anytime_balanced_accuracy(counts(judged))
        return found.n > 0 and (found.ci_high - found.ci_low) / 2 <= precision

    return narrow


def judge_here(
    inputs: JudgingInputs,
    judges: Mapping[str, LocalJudge],
    drafts: Mapping[int, Draft],
    labeled: list[int],
    nulls: Mapping[int, int],
) -> Iterator[Judged]:
    """What the models on this machine say, of labels in words whoever wrote them."""

    def labels(scorer: Scorer, feature: int) -> list[tuple[int, str]]:
        return [(f, drafts[f].label or "") for f in _labels_for(scorer, feature, nulls)]

    return local_judges.judge(judges, inputs.plans(labeled, judges), labels)


def judged_by(scorer: Scorer, plan: Plan, label_of: int, judgments: list[Judgment]) -> Judged:
    error = None if plan.items else NOTHING
    return Judged(plan, scorer.name, label_of, judgments, error=error)


def _labels_for(scorer: Scorer, feature: int, nulls: Mapping[int, int]) -> list[int]:
    """Whose labels are judged on a feature's windows: its own and, for the null, another's."""
    if scorer.needs_label and feature in nulls:
        return [feature, nulls[feature]]
    return [feature]


def label_shown(drafts: Mapping[int, Draft], feature: int) -> str:
    """The feature's label, or one that stands in for it before there are labels."""
    draft = drafts.get(feature)
    return (draft.label if draft else None) or PLACEHOLDER_LABEL
