"""score: labels + unseen windows → predictions.parquet, scores.parquet and the label table."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from autointerp.errors import ConfigurationError, NotDoneError
from autointerp.identity import fingerprint
from autointerp.labeling.labeler import Draft
from autointerp.progress import say, track
from autointerp.prompting.prompts import Prompt, keep
from autointerp.resources import language_model
from autointerp.resources.estimate import CostEstimate, labeling_tokenizer
from autointerp.rules import lexical
from autointerp.runs.session import Job
from autointerp.scoring import SCORERS, forms
from autointerp.scoring.again import CarefulJob
from autointerp.scoring.replies import NULL, OWN
from autointerp.scoring.scorebook import Scorebook
from autointerp.scoring.scorer import (
    Judged,
    Score,
)
from autointerp.stages.collect.collect_stage import evidence_identity
from autointerp.stages.label import label_stage
from autointerp.stages.label.label_stage import LEXICAL, labeler_name
from autointerp.stages.score import fade_experiment, local_judges
from autointerp.stages.score.judging import (
    JudgingInputs,
    chat_scorers,
    chat_templates,
    draw_nulls,
    is_ruled,
    judge_by_rules,
    judge_here,
    judge_jobs,
    judged_by,
    label_shown,
    load_prompts,
    null_sample_of,
    windows_of,
)
from autointerp.storage.files import atomic_path
from autointerp.tables.write import (
    PredictionWriter,
    read_drafts,
    write_labels,
    write_scores,
)

NAME = "score"


def _inputs(job: Job, drafts: list[Draft]) -> str:
    config = job.config
    hashes = {name: prompt.hash for name, prompt in load_prompts(job).items()}
    judge: dict[str, object] = {"judge": LEXICAL, "version": lexical.VERSION}
    if config.uses_model():
        judge = {
            "judge": language_model.identity(config),
            "version": lexical.VERSION if any(d.rule for d in drafts) else None,
            "prompts": {name: hashes[name] for name in chat_templates(config)},
            "items": config.judge_items,
            "precision": config.precision,
        }
        if config.judge_form != forms.LISTS:
            judge["form"] = config.judge_form
        if config.judge != "auto":
            judge["rules"] = "judged"
    if judged_here := local_judges.identities(config):
        judge["local"] = {name: (who, hashes.get(name)) for name, who in judged_here.items()}
    if fade_experiment.NAME in config.scorer_names():
        judge["fade"] = fade_experiment.identity(job, hashes)
    return fingerprint(
        evidence=evidence_identity(job.run),
        labels=[(d.feature, d.status, d.label, d.rule) for d in drafts],
        scorers={name: windows_of(job, name) for name in config.scorer_names()},
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


def run(job: Job) -> None:
    """Score every label on unseen windows, unless that is done from the same inputs."""
    files, config = job.run, job.config
    if is_done(job):
        say(f"score: done already, {files.labels}")
        return
    if lost := files.stage(NAME).get("unanswered"):
        cost = files.stage(NAME).get("unanswered_usd", 0.0)
        so_far = f", ${cost:,.4f} so far" if language_model.is_priced(config) else ""
        say(f"score: {lost:,} judgments that could not be had are asked for again{so_far}")
    inputs = JudgingInputs(job)
    store = inputs.store
    drafts = {draft.feature: draft for draft in read_drafts(files.drafts)}
    _check(job, drafts)
    nulls = draw_nulls(job, inputs.labeled(drafts.values()))
    prompts = load_prompts(job)
    chat = chat_scorers(config)
    judges = local_judges.open_judges(job, prompts)
    labeled = sorted(f for f, draft in drafts.items() if draft.label is not None)
    book = Scorebook(nulls, config.seed, config.precision)
    stopped: BaseException | None = None
    # What cannot be had is said, and a subject model that cannot be loaded, before any is spent.
    prepared = (
        fade_experiment.prepare(job) if fade_experiment.NAME in config.scorer_names() else None
    )
    answering = language_model.check_endpoint(config) if config.uses_model() and chat else []
    with job.recorded(NAME, _inputs(job, list(drafts.values()))) as details:
        keep(files, prompts.values())

        replies: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))

        def note(judged: Judged) -> None:
            again = judged.unanswered or judged.unread
            details["unanswered"] = details.get("unanswered", 0) + again
            if again:
                details["unanswered_for"] = judged.error
                details["unanswered_usd"] = details.get("unanswered_usd", 0.0) + judged.cost_usd
            if judged.replies.counts:
                whose = OWN if judged.label_of == judged.feature else NULL
                replies[judged.scorer][whose].update(judged.replies.counts)

        with atomic_path(files.predictions) as temporary:
            writer = PredictionWriter(job.coder_name, temporary)
            with track(NAME, len(labeled) * len(config.scorer_names()), "scores") as progress:

                def take(judged: Judged) -> None:
                    note(judged)
                    writer.add(judged)
                    if book.take(judged):
                        progress.advance()

                for judged in judge_by_rules(inputs, chat, drafts, labeled, nulls):
                    take(judged)
                if config.uses_model() and chat:
                    empty: dict[tuple[str, int, int], Judged] = {}

                    def jobs() -> Iterator[CarefulJob]:
                        for one in judge_jobs(inputs, drafts, labeled, nulls, prompts):
                            if one.todo:
                                yield CarefulJob(one, asks_again=not config.batch)
                            else:
                                key = one.scorer.name, one.plan.feature, one.label_of
                                empty[key] = judged_by(one.scorer, one.plan, one.label_of, [])

                    asked = language_model.ask(job, answering, jobs, take, progress)
                    for judged in empty.values():
                        take(judged)
                    stopped = asked.stopped
                    details["asked"] = asdict(asked.totals)
                if stopped is None and judges:
                    try:
                        for judged in judge_here(inputs, judges, drafts, labeled, nulls):
                            take(judged)
                    except KeyboardInterrupt as error:
                        stopped = error
            measured = None
            if prepared is not None and prepared.live is not None and stopped is None:
                words = {f: str(drafts[f].label) for f in labeled}
                chosen = _fade_inputs(inputs, words, nulls, prompts)
                measured = fade_experiment.measure(chosen, prepared, answering, writer)
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
        judged_here = local_judges.identities(config)

        def judge_of(score: Score) -> str:
            if is_ruled(config, SCORERS[score.scorer], drafts[score.feature]):
                return LEXICAL
            return judged_here.get(score.scorer) or labeler_name(job)

        write_scores(job.coder_name, every, judge_of, hashes, files.scores)
        write_labels(
            job.coder_name,
            drafts.values(),
            store.statistics,
            scores,
            book.spent,
            # The labels of one model may be judged by another.
            all(map(language_model.is_priced, (config, job.recorded_config or config))),
            files.labels,
        )
        details["judge"] = labeler_name(job)
        details["local_judges"] = judged_here
        details["prompt_hashes"] = hashes
        scored = sum(any(math.isfinite(s.estimate.value) for s in each) for each in scores.values())
        details["scored"] = scored
        details["replies"] = replies
        details["evidence"] = evidence_identity(files)
        if details.get("unanswered"):
            say(
                f"score: {details['unanswered']:,} judgments are missing "
                f"({details['unanswered_for']}): the next run asks for them again"
            )
        if stopped is not None:
            say(f"score: {scored:,} of {len(labeled):,} scored; the same command goes on")
            raise stopped


def _fade_inputs(
    inputs: JudgingInputs,
    labels: Mapping[int, str],
    nulls: Mapping[int, int],
    prompts: Mapping[str, Prompt],
) -> fade_experiment.ExperimentInputs:
    statistics = inputs.store.statistics
    maxima = {f: float(statistics[f]["max_activation"]) for f in labels}
    return fade_experiment.ExperimentInputs(
        inputs.job, inputs.corpus, inputs.vocabulary, labels, nulls, maxima, prompts
    )


def _check(job: Job, drafts: Mapping[int, Draft]) -> None:
    """Raises AutointerpError where the labels are not to be scored, or not by what is at hand."""
    files, config = job.run, job.config
    if not files.stage(label_stage.NAME):
        raise NotDoneError(f"the labels in {files.path} are not finished: run `autointerp label`")
    # Other evidence may be split otherwise: the labeler may have seen what would score it.
    if files.stage(label_stage.NAME).get("evidence") != evidence_identity(files):
        raise NotDoneError(
            f"the labels in {files.path} come from other evidence: run `autointerp label` first"
        )
    if config.uses_model() or not chat_scorers(config):
        return
    if any(d.label and not d.rule for d in drafts.values()):
        raise ConfigurationError(
            f"the labels in {files.path} are no rules: name a judge with --model or --judge local"
        )
    for name in chat_scorers(config):
        if SCORERS[name].by_rule is None:
            raise ConfigurationError(
                f"rules cannot do {name}: name a judge with --model or --judge local"
            )


def estimate(job: Job) -> CostEstimate:
    """What the stage would send; labels that are still to come are taken as twelve words."""
    inputs = JudgingInputs(job)
    total = CostEstimate(labeling_tokenizer(job.config))
    drafts: dict[int, Draft] = {}
    if job.run.stage(label_stage.NAME).get("evidence") == evidence_identity(job.run):
        drafts = {draft.feature: draft for draft in read_drafts(job.run.drafts)}
    if drafts:
        labeled = sorted(f for f, draft in drafts.items() if draft.label is not None)
        nulls = draw_nulls(job, inputs.labeled(drafts.values()))
    else:
        labeled = [f for f in job.features if inputs.store.statistics[f]["n_active"] > 0]
        drawn = null_sample_of(job, labeled) if len(labeled) > 1 else set()
        nulls = dict.fromkeys(drawn, -1)
    prompts = load_prompts(job)
    endpoint = language_model.dialect(job.config)
    for request in judge_jobs(inputs, drafts, labeled, nulls, prompts):
        while request.weaker and not endpoint.takes(request.logprobs()):
            request = request.otherwise()
        total.add_judging(request)
    if fade_experiment.asks(job):
        words = {feature: label_shown(drafts, feature) for feature in labeled}
        own = {feature: feature for feature in nulls}  # any label does
        fade_experiment.estimate(_fade_inputs(inputs, words, own, prompts), total)
    return total
