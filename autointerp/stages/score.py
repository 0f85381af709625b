"""score: labels + unseen windows → predictions.parquet, scores.parquet and the label table."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from autointerp.config import RunConfig
from autointerp.errors import UserError
from autointerp.evidence.corpus import Corpus
from autointerp.evidence.store import EvidenceStore
from autointerp.files import atomic_path
from autointerp.job import Job
from autointerp.labeling import lexical
from autointerp.labeling.labeler import Draft
from autointerp.labeling.prompts import Prompt, keep, load_prompt
from autointerp.labeling.rules import Rule
from autointerp.progress import say, track
from autointerp.runs import fingerprint
from autointerp.scoring import SCORERS, has_template
from autointerp.scoring.choices import Labels
from autointerp.scoring.concept_texts import TASK as TEXTS
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.null import Labeled, null_partners, null_sample
from autointerp.scoring.scorebook import Scorebook
from autointerp.scoring.scorer import (
    Judged,
    Judgment,
    LocalJudge,
    Material,
    Plan,
    Score,
    Scorer,
    Task,
    TokenTask,
)
from autointerp.scoring.sequential import anytime_balanced_accuracy
from autointerp.scoring.strata import strata_of
from autointerp.stages import fade, label, local, model
from autointerp.stages.collect import evidence_identity
from autointerp.stages.estimate import PLACEHOLDER_LABEL, Estimate, labeling_tokenizer
from autointerp.stages.label import LEXICAL, labeler_name
from autointerp.tables.write import (
    PredictionWriter,
    read_drafts,
    write_labels,
    write_scores,
)
from autointerp.vocabulary import Vocabulary

NAME = "score"
_FEWEST_NULLS = 50  # features with a null, so that the nulls together say something
NOTHING = "there are too few windows, or other labels, to judge it by"


@dataclass(frozen=True)
class Inputs:
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
        self, features: list[int], scorers: Iterable[str], labels: Labels | None = None
    ) -> Iterator[tuple[Scorer, Plan]]:
        """What the scorers ask of every feature."""
        for evidence in self.store.read(features):
            strata = strata_of(self.corpus, evidence)
            seed, special = self.job.config.seed, self.vocabulary.special_ids
            material = Material(evidence, self.corpus, strata, seed, special, labels or Labels())
            for name in scorers:
                yield SCORERS[name], SCORERS[name].plan(material, _windows(self.job, name))


def _windows(job: Job, scorer: str) -> int:
    number: int = getattr(job.config, f"{scorer}_windows")
    return number


def chat_scorers(config: RunConfig) -> list[str]:
    """The scorers that ask a model's endpoint; without one, rules judge in its place."""
    return [name for name in config.scorer_names() if SCORERS[name].task]


def templates(job: Job) -> list[str]:
    """The tasks for which a judge is given a template."""
    config = job.config
    judged_here = (name for name in local.names(config) if has_template(SCORERS[name]))
    texts = [TEXTS] if fade.asks(job) else []
    return [*(_chat_templates(config) if config.uses_model() else []), *texts, *judged_here]


def _prompts(job: Job) -> dict[str, Prompt]:
    folder = Path(job.config.prompts)
    return {name: load_prompt(name, folder) for name in templates(job)}


def _ways(config: RunConfig, scorer: Scorer) -> list[str]:
    """The templates of the ways in which the scorer may ask, the best first."""
    if not scorer.better:
        return [scorer.name]
    mode = getattr(config, f"{scorer.name}_mode")
    return list(scorer.templates()) if mode == "auto" else [scorer.template(mode)]


def _chat_templates(config: RunConfig) -> list[str]:
    return [name for scorer in chat_scorers(config) for name in _ways(config, SCORERS[scorer])]


def _inputs(job: Job, drafts: list[Draft]) -> str:
    config = job.config
    hashes = {name: prompt.hash for name, prompt in _prompts(job).items()}
    judge: dict[str, object] = {"judge": LEXICAL, "version": lexical.VERSION}
    if config.uses_model():
        judge = {
            "judge": model.identity(config),
            "version": lexical.VERSION if any(d.rule for d in drafts) else None,
            "prompts": {name: hashes[name] for name in _chat_templates(config)},
            "items": config.judge_items,
            "precision": config.precision,
        }
    if judged_here := local.identities(config):
        judge["local"] = {name: (who, hashes.get(name)) for name, who in judged_here.items()}
    if fade.NAME in config.scorer_names():
        judge["fade"] = fade.identity(job)
    return fingerprint(
        evidence=evidence_identity(job.run),
        labels=[(d.feature, d.status, d.label, d.rule) for d in drafts],
        scorers={name: _windows(job, name) for name in config.scorer_names()},
        null_share=config.share_with_null(),
        seed=config.seed,
        **judge,
    )


def is_done(job: Job) -> bool:
    files = job.run
    if not all(f.is_file() for f in (files.drafts, files.scores, files.predictions, files.labels)):
        return False
    record = files.stage(NAME)
    # Judgments that could not be had, for want of an answer, are asked for again.
    if record.get("unanswered", 0) > 0:
        return False
    return record.get("inputs") == _inputs(job, read_drafts(files.drafts))


def _nulls(job: Job, labeled: list[Labeled]) -> dict[int, int]:
    """feature → the feature whose label is judged for its null; a rule's is another rule."""
    partners: dict[int, int] = {}
    for by_rule in (False, True):
        alike = [one for one in labeled if bool(one.rule) == by_rule]
        partners |= null_partners(alike, job.config.seed)
    drawn = _null_sample(job, list(partners))
    return {feature: other for feature, other in partners.items() if feature in drawn}


def _is_ruled(scorer: Scorer, draft: Draft | None) -> bool:
    """Whether the label is a rule that judges itself: no model need be asked."""
    return scorer.by_rule is not None and draft is not None and draft.rule is not None


def _null_sample(job: Job, features: list[int]) -> set[int]:
    # Rules judge for nothing: all features get a null.
    share = job.config.share_with_null() if job.config.uses_model() else 1.0
    fewest = _FEWEST_NULLS if share > 0 else 0
    return null_sample(features, share, fewest, job.config.seed)


def run(job: Job) -> None:
    """Score every label on unseen windows, unless that is done from the same inputs."""
    files, config = job.run, job.config
    if is_done(job):
        say(f"score: done already, {files.labels}")
        return
    inputs = Inputs(job)
    store = inputs.store
    drafts = {draft.feature: draft for draft in read_drafts(files.drafts)}
    _check(job, drafts)
    nulls = _nulls(job, inputs.labeled(drafts.values()))
    prompts = _prompts(job)
    chat = chat_scorers(config)
    judges = local.open_judges(job, prompts)
    labeled = sorted(f for f, draft in drafts.items() if draft.label is not None)
    book = Scorebook(nulls, config.seed, config.precision)
    stopped: BaseException | None = None
    # What cannot be had is said, and a subject model that cannot be loaded, before any is spent.
    prepared = fade.prepare(job) if fade.NAME in config.scorer_names() else None
    answering = model.check_endpoint(config) if config.uses_model() and chat else []
    with job.recorded(NAME, _inputs(job, list(drafts.values()))) as details:
        keep(files, prompts.values())

        def note(judged: Judged) -> None:
            details["unanswered"] = details.get("unanswered", 0) + judged.unanswered
            if judged.unanswered:
                details["unanswered_for"] = judged.error

        with atomic_path(files.predictions) as temporary:
            writer = PredictionWriter(job.coder_name, temporary)
            with track(NAME, len(labeled) * len(config.scorer_names()), "scores") as progress:

                def take(judged: Judged) -> None:
                    note(judged)
                    writer.add(judged)
                    if book.take(judged):
                        progress.advance()

                for judged in _judge_by_rules(inputs, chat, drafts, labeled, nulls):
                    take(judged)
                if config.uses_model() and chat:
                    empty: dict[tuple[str, int, int], Judged] = {}

                    def jobs() -> Iterator[JudgeJob]:
                        for one in judge_jobs(inputs, drafts, labeled, nulls, prompts):
                            if one.todo:
                                yield one
                            else:
                                key = one.scorer.name, one.plan.feature, one.label_of
                                empty[key] = _judged_by(one.scorer, one.plan, one.label_of, [])

                    asked = model.ask(job, answering, jobs, take, progress)
                    for judged in empty.values():
                        take(judged)
                    stopped = asked.stopped
                    details["asked"] = asdict(asked.totals)
                if stopped is None and judges:
                    try:
                        for judged in _judge_here(inputs, judges, drafts, labeled, nulls):
                            take(judged)
                    except KeyboardInterrupt as error:
                        stopped = error
            measured = None
            if prepared is not None and prepared.live is not None and stopped is None:
                words = {f: str(drafts[f].label) for f in labeled}
                chosen = _fade_inputs(inputs, words, nulls, prompts)
                measured = fade.measure(chosen, prepared, answering, writer)
                stopped = measured.stopped
                for spent in measured.spent:
                    note(spent)
                    book.spent[spent.feature].append(spent)
            writer.close()
        scores = book.scores()
        if prepared is not None:
            details["fade"] = {"missing": prepared.missing}
        if measured is not None:
            details["fade"]["asked"] = measured.asked
            for score in measured.scores():
                scores[score.feature].append(score)
        hashes = {name: prompt.hash for name, prompt in prompts.items()}
        every = (score for of_feature in scores.values() for score in of_feature)
        judged_here = local.identities(config)

        def judge_of(score: Score) -> str:
            if _is_ruled(SCORERS[score.scorer], drafts[score.feature]):
                return LEXICAL
            return judged_here.get(score.scorer) or labeler_name(job)

        write_scores(job.coder_name, every, judge_of, hashes, files.scores)
        write_labels(
            job.coder_name,
            drafts.values(),
            store.statistics,
            scores,
            book.spent,
            model.is_priced(config),
            files.labels,
        )
        details["judge"] = labeler_name(job)
        details["local_judges"] = judged_here
        details["prompt_hashes"] = hashes
        details["scored"] = len(scores)
        details["evidence"] = evidence_identity(files)
        if details.get("unanswered"):
            say(
                f"score: {details['unanswered']:,} judgments could not be had "
                f"({details['unanswered_for']}): the next run asks for them again"
            )
        if stopped is not None:
            say(f"score: {len(scores):,} of {len(labeled):,} scored; the same command goes on")
            raise stopped


def _fade_inputs(
    inputs: Inputs,
    labels: Mapping[int, str],
    nulls: Mapping[int, int],
    prompts: Mapping[str, Prompt],
) -> fade.Inputs:
    statistics = inputs.store.statistics
    maxima = {f: float(statistics[f]["max_activation"]) for f in labels}
    return fade.Inputs(inputs.job, inputs.corpus, inputs.vocabulary, labels, nulls, maxima, prompts)


def _check(job: Job, drafts: Mapping[int, Draft]) -> None:
    """Raises UserError where the labels are not to be scored, or not by what is at hand."""
    files, config = job.run, job.config
    if not files.stage(label.NAME):
        raise UserError(f"the labels in {files.path} are not finished: run `autointerp label`")
    # Other evidence may be split otherwise: the labeler may have seen what would score it.
    if files.stage(label.NAME).get("evidence") != evidence_identity(files):
        raise UserError(
            f"the labels in {files.path} come from other evidence: run `autointerp label` first"
        )
    if config.uses_model() or not chat_scorers(config):
        return
    if any(d.label and not d.rule for d in drafts.values()):
        raise UserError(f"the labels in {files.path} are no rules: name a judge with --model")
    for name in chat_scorers(config):
        if SCORERS[name].by_rule is None:
            raise UserError(f"rules cannot do {name}: name a judge with --model")


def _judge_by_rules(
    inputs: Inputs,
    scorers: list[str],
    drafts: Mapping[int, Draft],
    labeled: list[int],
    nulls: Mapping[int, int],
) -> Iterator[Judged]:
    """A lexical label is its own judge: the rule says what it fires on."""
    rules = {f: Rule.from_json(rule) for f in labeled if (rule := drafts[f].rule)}
    ruled = [name for name in scorers if SCORERS[name].by_rule]
    if not rules or not ruled:
        return
    labeler = lexical.LexicalLabeler(inputs.vocabulary)
    # A rule chooses among rules.
    labels = Labels(inputs.labeled(drafts[f] for f in rules))
    for scorer, plan in inputs.plans(sorted(rules), ruled, labels):
        assert scorer.by_rule is not None
        for label_of in _labels_for(scorer, plan.feature, nulls):
            judgments = scorer.by_rule(labeler, rules[label_of], plan.items)
            yield _judged_by(scorer, plan, label_of, judgments)


def _judged_by(scorer: Scorer, plan: Plan, label_of: int, judgments: list[Judgment]) -> Judged:
    error = None if plan.items else NOTHING
    return Judged(plan, scorer.name, label_of, judgments, error=error)


def _judge_here(
    inputs: Inputs,
    judges: Mapping[str, LocalJudge],
    drafts: Mapping[int, Draft],
    labeled: list[int],
    nulls: Mapping[int, int],
) -> Iterator[Judged]:
    """What the models on this machine say, of labels in words whoever wrote them."""

    def labels(scorer: Scorer, feature: int) -> list[tuple[int, str]]:
        return [(f, drafts[f].label or "") for f in _labels_for(scorer, feature, nulls)]

    return local.judge(judges, inputs.plans(labeled, judges), labels)


def _labels_for(scorer: Scorer, feature: int, nulls: Mapping[int, int]) -> list[int]:
    """Whose labels are judged on a feature's windows: its own and, for the null, another's."""
    if scorer.needs_label and feature in nulls:
        return [feature, nulls[feature]]
    return [feature]


def label_shown(drafts: Mapping[int, Draft], feature: int) -> str:
    """The feature's label, or one that stands in for it before there are labels."""
    draft = drafts.get(feature)
    return (draft.label if draft else None) or PLACEHOLDER_LABEL


def judge_jobs(
    inputs: Inputs,
    drafts: Mapping[int, Draft],
    labeled: list[int],
    nulls: Mapping[int, int],
    prompts: Mapping[str, Prompt],
) -> Iterator[JudgeJob]:
    config = inputs.job.config
    settings = JudgeSettings(model.model_name(config), config.temperature, config.judge_items)
    to_come = [Draft(f, "pending", "", PLACEHOLDER_LABEL) for f in labeled if f not in drafts]
    labels = Labels(inputs.labeled([*drafts.values(), *to_come]))
    ways: dict[str, list[tuple[Task | TokenTask, Prompt]]] = defaultdict(list)
    for scorer in SCORERS.values():
        for template, task in scorer.templates().items():
            if template in prompts:
                ways[scorer.name].append((task, prompts[template]))
    for scorer, plan in inputs.plans(labeled, ways, labels):
        if _is_ruled(scorer, drafts.get(plan.feature)):
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


def estimate(job: Job) -> Estimate:
    """What the stage would send; labels that are still to come are taken as twelve words."""
    inputs = Inputs(job)
    total = Estimate(labeling_tokenizer(job.config))
    drafts: dict[int, Draft] = {}
    if job.run.stage(label.NAME).get("evidence") == evidence_identity(job.run):
        drafts = {draft.feature: draft for draft in read_drafts(job.run.drafts)}
    if drafts:
        labeled = sorted(f for f, draft in drafts.items() if draft.label is not None)
        nulls = _nulls(job, inputs.labeled(drafts.values()))
    else:
        labeled = [f for f in job.features if inputs.store.statistics[f]["n_active"] > 0]
        drawn = _null_sample(job, labeled) if len(labeled) > 1 else set()
        nulls = dict.fromkeys(drawn, -1)
    prompts = _prompts(job)
    endpoint = model.dialect(job.config)
    for request in judge_jobs(inputs, drafts, labeled, nulls, prompts):
        while request.weaker and not endpoint.takes(request.logprobs()):
            request = request.otherwise()
        total.add_judging(request)
    if fade.asks(job):
        words = {feature: label_shown(drafts, feature) for feature in labeled}
        own = {feature: feature for feature in nulls}  # any label does
        fade.estimate(_fade_inputs(inputs, words, own, prompts), total)
    return total
