"""score: labels + unseen windows → predictions.parquet, scores.parquet and the label table."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from autointerp.config.settings import RunConfig
from autointerp.errors import NotDoneError
from autointerp.identity import fingerprint
from autointerp.labeling.labeler import Draft
from autointerp.plain_text import counted
from autointerp.progress import Tracker, say, track
from autointerp.prompting.prompts import Prompt, keep
from autointerp.resources import model_facts
from autointerp.resources.estimate import CostEstimate, labeling_tokenizer
from autointerp.resources.session import Session
from autointerp.rules import lexical
from autointerp.runs.directory import Run
from autointerp.runs.record import ExperimentRecord, ScoreRecord
from autointerp.scoring import SCORERS, forms, has_template, negatives
from autointerp.scoring.experiment import experiment_of
from autointerp.scoring.planner import Planner
from autointerp.scoring.scorebook import Scorebook
from autointerp.scoring.scorer import Judged, Score, Task
from autointerp.stages.collect.collect_stage import evidence_identity, no_evidence
from autointerp.stages.label.label_settings import labeler_name
from autointerp.stages.score import local_judges, shown_prompts
from autointerp.stages.score.endpoint_judge import judge_jobs
from autointerp.stages.score.judge_templates import (
    chat_scorers,
    chat_templates,
    load_prompts,
    settings_of,
)
from autointerp.stages.score.judge_templates import templates as templates_of
from autointerp.stages.score.judged_labels import JudgedLabels
from autointerp.stages.score.judging import Judge, is_judged_by_rule
from autointerp.stages.score.judging_results import JudgingResults
from autointerp.stages.score.laboratory import (
    OpenExperiment,
    experiment_labels,
    laboratories,
    open_experiments,
)
from autointerp.stages.score.protocol_checks import unlike_their_protocols, with_too_few_windows
from autointerp.stages.score.scoring_inputs import (
    check_labels,
    labels_of,
    labels_to_come,
    open_judges,
    planner_of,
)
from autointerp.stages.stage import Messages, ModelUse, Stage
from autointerp.storage.files import atomic_path
from autointerp.tables.write import PredictionWriter, no_drafts, read_drafts

NAME = "score"


def needs(session: Session) -> str | None:
    return no_evidence(session.run) or no_drafts(session.run.drafts)


def uses_model(session: Session) -> ModelUse | None:
    judging = session.judging
    if not judging.config.uses_model() or not chat_scorers(judging.config):
        return None
    return ModelUse(judging, judges=True)


def templates(session: Session) -> list[str]:
    return templates_of(session.judging.config)


def check(session: Session) -> None:
    """Raises AutointerpError where what a judge needs is missing, or a template cannot be used, or
    nothing was kept to score on."""
    if session.imported_as is not None and session.store.label_only:
        raise NotDoneError(
            f"all records in {session.run.path} were imported for labeling: there are none to "
            "score on; `autointerp label` labels the features"
        )
    local_judges.check(session.config)
    negatives.check(session.config)
    load_prompts(session.judging.config)
    for line in unlike_their_protocols(session.config):
        say(f"warning: {line}")


def inputs(session: Session) -> str:
    judging = session.judging
    config, run = judging.config, judging.run
    drafts = read_drafts(run.drafts)
    prompts, settings = load_prompts(config), settings_of(config)
    return fingerprint(
        evidence=evidence_identity(run),
        labels=[(d.feature, d.status, d.label, d.rule) for d in drafts],
        scorers={name: settings[name].identity() for name in config.scorer_names()},
        null_share=config.share_with_null(),
        **negatives.identity(config),
        seed=config.seed,
        **({"share": config.score_share} if config.score_share < 1 else {}),
        **_judges_identity(config, prompts, any(d.rule for d in drafts)),
        **{
            lab.scorer.name: experiment.identity(lab)
            for experiment, lab in laboratories(judging, prompts)
        },
    )


def _judges_identity(
    config: RunConfig, prompts: Mapping[str, Prompt], has_rules: bool
) -> dict[str, object]:
    """Who judges, and how. has_rules: whether labels are rules, some at least."""
    judge: dict[str, object] = {"judge": lexical.NAME, "version": lexical.VERSION}
    if config.uses_model():
        judge = {
            "judge": model_facts.identity(config),
            "version": lexical.VERSION if has_rules else None,
            "prompts": {name: prompts[name].hash for name in chat_templates(config)},
            "items": config.judge_items,
            "precision": config.precision,
        }
        if config.judge_form != forms.LISTS:
            judge["form"] = config.judge_form
        if config.judge != "auto":
            judge["rules"] = "judged"
    if judged_here := local_judges.identities(config):
        judge["local"] = {
            name: (who, prompts[name].hash if name in prompts else None)
            for name, who in judged_here.items()
        }
    return judge


def is_done(session: Session, inputs: str) -> bool:
    """The same inputs, and no judgment is missing that another try might bring."""
    run = session.run
    if not all(f.is_file() for f in (run.drafts, run.scores, run.predictions, run.labels)):
        return False
    record = run.stages().score
    return record is not None and record.unanswered == 0 and record.inputs == inputs


def already(session: Session) -> str:
    return f"already done: {session.run.labels}"


def run(session: Session, inputs: str) -> None:
    """Score every label on unseen windows."""
    judging = session.judging
    config, run = judging.config, judging.run
    _say_what_is_asked_again(run, model_facts.is_priced(config))
    labels = labels_of(judging)
    check_labels(run, config, labels.drafts)
    for line in with_too_few_windows(run, config):
        say(f"warning: {line}")
    prompts = load_prompts(config)
    judges = open_judges(judging, prompts)
    experiments = open_experiments(judging, prompts)
    with judging.recorded(NAME, inputs, ScoreRecord()) as details:
        keep(run, prompts.values())
        with atomic_path(run.predictions) as temporary:
            book = Scorebook(labels.nulls, config.seed, config.precision)
            results = JudgingResults(book, PredictionWriter(judging.coder_name, temporary), details)
            total = len(labels.features) * len(config.scorer_names())
            with track(NAME, total, "scores") as progress:
                stopped = _judge(planner_of(judging), labels, judges, results, progress)
            stopped = _experiment(labels, experiments, results, stopped)
            results.predictions.close()
        details.judge = labeler_name(config)
        hashes = {name: prompt.hash for name, prompt in prompts.items()}
        # The labels of one model may be judged by another.
        priced = all(map(model_facts.is_priced, (config, judging.recorded_config or config)))
        who = _judge_of(config, labels.drafts, details)
        results.write(run, judging.coder_name, labels, who, hashes, priced)
        details.evidence = evidence_identity(run)
        if details.unanswered:
            say(
                f"score: {counted(details.unanswered, 'judgment')} failed "
                f"({details.unanswered_for}); the next run will retry"
            )
        if stopped is not None:
            n = len(labels.features)
            say(f"score: {details.scored:,} of {n:,} scored; rerun the same command to resume")
            raise stopped


def _say_what_is_asked_again(run: Run, priced: bool) -> None:
    record = run.stages().score
    if record is not None and record.unanswered:
        so_far = f", ${record.unanswered_usd:,.4f} so far" if priced else ""
        say(f"score: retrying {counted(record.unanswered, 'judgment')} that failed{so_far}")


def _judge(
    planner: Planner,
    labels: JudgedLabels,
    judges: Sequence[Judge],
    results: JudgingResults,
    progress: Tracker,
) -> BaseException | None:
    """Have all labels judged; what ended it early."""

    def take(judged: Judged) -> None:
        if results.take(judged):
            progress.advance()

    for judge in judges:
        stopped = judge.judge(planner, labels, take, progress)
        judge.note(results.details)
        if stopped is not None:
            return stopped
    return None


def _experiment(
    labels: JudgedLabels,
    experiments: Sequence[OpenExperiment],
    results: JudgingResults,
    stopped: BaseException | None,
) -> BaseException | None:
    """Make the experiments, unless something ended the judging before; what ended it early."""
    for experiment in experiments:
        record = ExperimentRecord(missing=dict(experiment.missing))
        results.details.experiments |= {experiment.name: record}
        if stopped is None and experiment.can_measure():
            measured = experiment.measure(labels, results.predictions.add, record)
            density = {f: float(row["density"]) for f, row in labels.statistics.items()}
            results.add(measured.spent, experiment.scores(measured, density))
            stopped = measured.stopped
    return stopped


def _judge_of(
    config: RunConfig, drafts: Mapping[int, Draft], details: ScoreRecord
) -> Callable[[Score], str]:
    """Who judged for a score, as the tables name it."""
    name = labeler_name(config)

    def judge_of(score: Score) -> str:
        if is_judged_by_rule(SCORERS[score.scorer], drafts[score.feature], config.judge):
            return lexical.NAME
        return details.local_judges.get(score.scorer) or name

    return judge_of


def estimate(session: Session) -> list[str]:
    """What the stage would send; labels that are still to come are taken as twelve words."""
    judging = session.judging
    config = judging.config
    lines = [f"warning: {line}" for line in with_too_few_windows(judging.run, config)]
    if config.uses_model():
        total = CostEstimate(labeling_tokenizer(config))
        labels, prompts = labels_to_come(judging), load_prompts(config)
        endpoint = model_facts.dialect(config)
        for request in judge_jobs(config, planner_of(judging), labels, prompts):
            while request.fallbacks and not endpoint.takes(request.logprobs()):
                request = request.fall_back()
            total.add_all(request.requests())
        own = {feature: feature for feature in labels.nulls}  # any label does
        for experiment, lab in laboratories(judging, prompts):
            total.add_all(experiment.requests(lab, experiment_labels(replace(labels, nulls=own))))
        lines.append(total.line(NAME, config))
    if judged_here := local_judges.names(session.config):
        lines.append(f"score: {', '.join(judged_here)} run on this machine and are not included")
    return lines


def prompts(session: Session, task: str) -> Iterator[Messages]:
    judging = session.judging
    return shown_prompts.shown(judging, task, planner_of(judging))


def _tasks() -> dict[str, tuple[str, ...]]:
    """All that any scorer asks, with the keys of the replies; none where they are not JSON."""
    asked = {name: task for s in SCORERS.values() for name, task in s.templates().items()}
    experiments = [one for s in SCORERS.values() if (one := experiment_of(s)) is not None]
    return {
        **{name: task.keys() if isinstance(task, Task) else () for name, task in asked.items()},
        **{name: () for name, s in SCORERS.items() if s.task is None and has_template(s)},
        **{name: keys for one in experiments for name, keys in one.tasks.items()},
    }


STAGE = Stage(
    NAME,
    inputs=inputs,
    is_done=is_done,
    already=already,
    run=run,
    needs=needs,
    check=check,
    uses_model=uses_model,
    templates=templates,
    estimate=estimate,
    tasks=_tasks(),
    prompts=prompts,
)
