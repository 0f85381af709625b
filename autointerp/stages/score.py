"""score: labels + unseen windows → predictions.parquet, scores.parquet and the label table."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from autointerp.errors import UserError
from autointerp.evidence.store import EvidenceStore
from autointerp.evidence.window import FeatureEvidence, Window
from autointerp.files import atomic_path
from autointerp.job import Job
from autointerp.labeling import lexical
from autointerp.labeling.labeler import Draft
from autointerp.labeling.prompts import Prompt, load_prompt
from autointerp.labeling.rules import Rule
from autointerp.progress import say, track
from autointerp.runs import fingerprint
from autointerp.scoring import detection, simulation
from autointerp.scoring.judge import TASKS, JudgeJob, JudgeSettings
from autointerp.scoring.null import Labeled, null_partners, null_sample
from autointerp.scoring.scorer import Judged, Score
from autointerp.scoring.statistics import Estimate as Interval
from autointerp.stages import label, model
from autointerp.stages.collect import evidence_identity
from autointerp.stages.estimate import Estimate, labeling_tokenizer
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
_PLACEHOLDER_LABEL = "a label of some twelve words in place of the one to come"


def _prompts(job: Job) -> dict[str, Prompt]:
    if not job.config.uses_model():
        return {}
    folder = Path(job.config.prompts)
    return {name: load_prompt(name, folder) for name in job.config.scorer_names()}


def _inputs(job: Job, drafts: list[Draft]) -> str:
    config = job.config
    judge: dict[str, object] = {"judge": LEXICAL, "version": lexical.VERSION}
    if config.uses_model():
        judge = {
            "judge": model.identity(config),
            "prompts": {name: prompt.hash for name, prompt in _prompts(job).items()},
        }
    return fingerprint(
        evidence=evidence_identity(job.run),
        labels=[(d.feature, d.status, d.label, d.rule) for d in drafts],
        scorers=config.scorer_names(),
        detection_windows=config.detection_windows,
        simulation_windows=config.simulation_windows,
        null_share=config.null_share,
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


def plan(job: Job, scorer: str, evidence: FeatureEvidence) -> list[Window]:
    if scorer == detection.NAME:
        return detection.plan(evidence, job.config.detection_windows, job.config.seed)
    return simulation.plan(evidence, job.config.simulation_windows, job.config.seed)


def _nulls(job: Job, drafts: Mapping[int, Draft], store: EvidenceStore) -> dict[int, int]:
    """feature → the feature whose label is judged for its null."""
    seed = job.config.seed
    labeled = [
        Labeled(d.feature, d.label, store.statistics[d.feature]["n_active"])
        for d in drafts.values()
        if d.label is not None
    ]
    partners = null_partners(labeled, seed)
    drawn = _null_sample(job, list(partners))
    return {feature: other for feature, other in partners.items() if feature in drawn}


def _null_sample(job: Job, features: list[int]) -> set[int]:
    # Rules judge for nothing: all features get a null.
    share = job.config.null_share if job.config.uses_model() else 1.0
    fewest = _FEWEST_NULLS if share > 0 else 0
    return null_sample(features, share, fewest, job.config.seed)


class _Scorebook:
    """Turns judgments into scores; holds judgments only until a feature's null is there too."""

    def __init__(self, job: Job, store: EvidenceStore, nulls: Mapping[int, int]) -> None:
        self._job = job
        self._store = store
        self._nulls = nulls
        self._waiting: dict[tuple[int, str], list[Judged]] = defaultdict(list)
        self.scores: dict[int, list[Score]] = defaultdict(list)
        self.spent: dict[int, list[Judged]] = defaultdict(list)

    def take(self, judged: Judged) -> bool:
        """Take one judgment; True when it completes its feature's score."""
        key = (judged.feature, judged.scorer)
        self._waiting[key].append(judged)
        expected = 2 if judged.feature in self._nulls else 1
        if len(self._waiting[key]) < expected:
            return False
        parts = self._waiting.pop(key)
        own = next(j for j in parts if j.label_of == j.feature)
        null = next((j for j in parts if j.label_of != j.feature), None)
        null_estimates = {} if null is None else self._estimates(null)
        for metric, estimate in self._estimates(own).items():
            against = null_estimates.get(metric)
            value = None if against is None else against.value
            self.scores[own.feature].append(Score(own.feature, own.scorer, metric, estimate, value))
        self.spent[own.feature] += [_without_judgments(j) for j in parts]
        return True

    def _estimates(self, judged: Judged) -> dict[str, Interval]:
        seed = self._job.config.seed
        if judged.scorer == detection.NAME:
            density = self._store.statistics[judged.feature]["window_density"]
            return detection.reduce(judged, density, seed)
        return simulation.reduce(judged, seed)


def _without_judgments(judged: Judged) -> Judged:
    return Judged(
        judged.feature,
        judged.scorer,
        judged.label_of,
        (),
        judged.prompt_tokens,
        judged.completion_tokens,
        judged.cost_usd,
        judged.error if judged.label_of == judged.feature else None,
    )


def run(job: Job) -> None:
    """Score every label on unseen windows, unless that is done from the same inputs."""
    files, config = job.run, job.config
    if is_done(job):
        say(f"score: done already, {files.labels}")
        return
    store = EvidenceStore(files.windows, files.features)
    vocabulary = Vocabulary.load(files.vocabulary)
    drafts = {draft.feature: draft for draft in read_drafts(files.drafts)}
    # Other evidence may be split otherwise: the labeler may have seen what would score it.
    if not files.stage(label.NAME):
        raise UserError(f"the labels in {files.path} are not finished: run `autointerp label`")
    if files.stage(label.NAME).get("evidence") != evidence_identity(files):
        raise UserError(
            f"the labels in {files.path} come from other evidence: run `autointerp label` first"
        )
    if not config.uses_model() and any(d.label and not d.rule for d in drafts.values()):
        raise UserError(f"the labels in {files.path} are no rules: name a judge with --model")
    nulls = _nulls(job, drafts, store)
    prompts = _prompts(job)
    labeled = sorted(f for f, draft in drafts.items() if draft.label is not None)
    book = _Scorebook(job, store, nulls)
    stopped: BaseException | None = None
    with job.recorded(NAME, _inputs(job, list(drafts.values()))) as details:
        with atomic_path(files.predictions) as temporary:
            writer = PredictionWriter(job.coder_name, temporary)
            with track(NAME, len(labeled) * len(config.scorer_names()), "scores") as progress:

                def take(judged: Judged) -> None:
                    details["unanswered"] = details.get("unanswered", 0) + judged.unanswered
                    if judged.unanswered:
                        details["unanswered_for"] = judged.error
                    writer.add(judged)
                    if book.take(judged):
                        progress.advance()

                if config.uses_model():
                    answering = model.check_endpoint(config)

                    def jobs() -> Iterator[JudgeJob]:
                        return _judge_jobs(job, store, vocabulary, drafts, labeled, nulls, prompts)

                    asked = model.ask(job, answering, jobs, take, progress)
                    stopped = asked.stopped
                    details["asked"] = asdict(asked.totals)
                else:
                    for judged in _judge_by_rules(job, store, vocabulary, drafts, labeled, nulls):
                        take(judged)
            writer.close()
        scores = [score for of_feature in book.scores.values() for score in of_feature]
        hashes = {name: prompt.hash for name, prompt in prompts.items()}
        write_scores(job.coder_name, scores, labeler_name(job), hashes, files.scores)
        write_labels(
            job.coder_name,
            drafts.values(),
            store.statistics,
            book.scores,
            book.spent,
            model.is_priced(config),
            files.labels,
        )
        details["judge"] = labeler_name(job)
        details["prompt_hashes"] = hashes
        details["scored"] = len(book.scores)
        details["evidence"] = evidence_identity(files)
        if details.get("unanswered"):
            say(
                f"score: {details['unanswered']:,} judgments could not be had "
                f"({details['unanswered_for']}): the next run asks for them again"
            )
        if stopped is not None:
            say(f"score: {len(book.scores):,} of {len(labeled):,} scored; the same command goes on")
            raise stopped


def _judge_by_rules(
    job: Job,
    store: EvidenceStore,
    vocabulary: Vocabulary,
    drafts: Mapping[int, Draft],
    labeled: list[int],
    nulls: Mapping[int, int],
) -> Iterator[Judged]:
    """A lexical label is its own judge: the rule says what it fires on."""
    labeler = lexical.LexicalLabeler(vocabulary)
    rules = {f: Rule.from_json(drafts[f].rule or "") for f in labeled}
    for evidence in store.read(labeled):
        feature = evidence.feature
        for scorer in job.config.scorer_names():
            windows = plan(job, scorer, evidence)
            for label_of in (feature, nulls.get(feature)):
                if label_of is None:
                    continue
                rule = rules[label_of]
                if scorer == detection.NAME:
                    judgments = [
                        detection.judgment(window, match, probability)
                        for window, match, probability in zip(
                            windows,
                            labeler.fires(rule, windows),
                            labeler.matches(rule, windows),
                            strict=True,
                        )
                    ]
                else:
                    judgments = [
                        simulation.judgment(window, predicted, evidence.max_activation)
                        for window, predicted in zip(
                            windows, labeler.predict(rule, windows), strict=True
                        )
                    ]
                yield Judged(feature, scorer, label_of, judgments)


def _judge_jobs(
    job: Job,
    store: EvidenceStore,
    vocabulary: Vocabulary,
    drafts: Mapping[int, Draft],
    labeled: list[int],
    nulls: Mapping[int, int],
    prompts: Mapping[str, Prompt],
) -> Iterator[JudgeJob]:
    config = job.config
    settings = JudgeSettings(model.model_name(config), config.temperature)
    for evidence in store.read(labeled):
        feature = evidence.feature
        for scorer, prompt in prompts.items():
            windows = plan(job, scorer, evidence)
            for label_of in (feature, nulls.get(feature)):
                if label_of is None:
                    continue
                draft = drafts.get(label_of)
                yield JudgeJob(
                    task=TASKS[scorer],
                    feature=feature,
                    label_of=label_of,
                    label=(draft.label if draft else None) or _PLACEHOLDER_LABEL,
                    max_activation=evidence.max_activation,
                    windows=windows,
                    prompt=prompt,
                    vocabulary=vocabulary,
                    settings=settings,
                    todo=tuple(range(len(windows))),
                )


def estimate(job: Job) -> Estimate:
    """What the stage would send; labels that are still to come are taken as twelve words."""
    store = EvidenceStore(job.run.windows, job.run.features)
    vocabulary = Vocabulary.load(job.run.vocabulary)
    total = Estimate(labeling_tokenizer(job.config))
    labelable = [f for f in job.features if store.statistics[f]["n_active"] > 0]
    drawn = _null_sample(job, labelable) if len(labelable) > 1 else set()
    nulls = dict.fromkeys(drawn, -1)
    for request in _judge_jobs(job, store, vocabulary, {}, labelable, nulls, _prompts(job)):
        tokens = sum(request.task.reply_tokens(w) for w in request.windows)
        total.add(request.request(), tokens)
    return total
