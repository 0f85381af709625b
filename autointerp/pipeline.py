"""capture → collect → label → score, in that order, each skipped where it is done.

A stage is done when `run.json` records it with a fingerprint of the same inputs. The fingerprint of
a stage covers what the stage before it made, so a change redoes just what depends on it.
"""

from collections.abc import Callable
from pathlib import Path

from autointerp.config.settings import RANDOM_CODER, RunConfig
from autointerp.errors import ConfigurationError
from autointerp.progress import say
from autointerp.prompting.prompt_check import stray_files
from autointerp.prompting.prompts import load_prompt
from autointerp.resources import activation_source, language_model
from autointerp.runs.session import Job
from autointerp.scoring.scorers import detection
from autointerp.stages import capture_stage, model_trial
from autointerp.stages.collect import collect_stage
from autointerp.stages.label import label_stage
from autointerp.stages.score import judging, local_judges, score_stage
from autointerp.stages.show_prompts import TEMPLATES
from autointerp.trial.trial_record import TrialRecord

STAGES = (capture_stage.NAME, collect_stage.NAME, label_stage.NAME, score_stage.NAME)
_RUN = {
    capture_stage.NAME: capture_stage.run,
    collect_stage.NAME: collect_stage.run,
    label_stage.NAME: label_stage.run,
    score_stage.NAME: score_stage.run,
}


def stages_of(config: RunConfig) -> tuple[str, ...]:
    """The stages of a whole run: activations are captured only where a cache is named for them."""
    return STAGES if config.cache is not None else STAGES[1:]


def check(job: Job, stages: tuple[str, ...], *, dry_run: bool) -> None:
    """Refuse what is bound to fail before a file is touched or a cent spent.

    Raises AutointerpError.
    """
    _check_control(job)
    if {capture_stage.NAME, collect_stage.NAME} & set(stages):
        activation_source.check(job)
    job.device()
    judge = job.judging()
    asked = {score_stage.NAME: judging.templates(judge)}
    if score_stage.NAME in stages:
        local_judges.check(job.config)
    if job.config.uses_model():
        asked[label_stage.NAME] = [label_stage.NAME]
        if job.config.candidates > 1:
            asked[label_stage.NAME].append(detection.NAME)
    elif dry_run and not judge.config.uses_model():
        raise ConfigurationError("--dry-run counts requests to a model: name one with --model")
    elif not asked[score_stage.NAME]:
        return
    folder = Path(job.config.prompts)
    if "prompts" in job.config.model_fields_set and not folder.is_dir():
        raise ConfigurationError(f"prompts {folder}: there is no such folder")
    for stray in stray_files(folder, TEMPLATES):
        say(f"warning: {stray}")
    for stage in stages:
        for task in asked.get(stage, []):
            judging.check_form(judge.config, load_prompt(task, folder))
    if not dry_run and not _nothing_to_send(job, stages):
        who = {label_stage.NAME: job.config}
        if judging.chat_scorers(judge.config):
            who[score_stage.NAME] = judge.config
        for config in {who[s].asked(): who[s] for s in stages if s in who}.values():
            if config.uses_model():
                language_model.check_endpoint(config)


def _check_control(job: Job) -> None:
    """Raises AutointerpError where a control would overwrite a run, or a run a control."""
    there = job.run.settings().text("control")
    if job.run.stage(collect_stage.NAME) and (there == RANDOM_CODER) != job.config.is_random():
        if job.config.is_random():
            what = "a run of the coder itself: name another --out for its control"
        else:
            what = f"a control: give --control {RANDOM_CODER}, or name another --out"
        raise ConfigurationError(f"{job.run.path} holds {what}")


def _nothing_to_send(job: Job, stages: tuple[str, ...]) -> bool:
    """Whether the stages that ask a model are done, as far as can be told before running."""
    if not judging.chat_scorers(job.config):
        stages = tuple(name for name in stages if name != score_stage.NAME)
    if not set(stages) & {label_stage.NAME, score_stage.NAME}:
        return True
    if not collect_stage.has_evidence(job.run):
        return False
    done = {
        label_stage.NAME: lambda: label_stage.is_done(job),
        score_stage.NAME: lambda: score_stage.is_done(job.judging()),
    }
    return all(is_done() for name, is_done in done.items() if name in stages)


def _say_estimate(job: Job, stage: str) -> None:
    if stage == score_stage.NAME:
        judge = job.judging()
        if judge.config.uses_model():
            say(score_stage.estimate(judge).line(stage, judge.config))
    elif job.config.uses_model():
        say(label_stage.estimate(job).line(stage, job.config))


def run_stages(
    job: Job,
    stages: tuple[str, ...],
    *,
    dry_run: bool = False,
    agrees: Callable[[str], bool] | None = None,
) -> None:
    """Run the named stages under the run's lock; with `dry_run` none that asks a model.

    `agrees` shows a question and says what was answered; None where nobody is there to be asked.
    """
    asking = model_trial.asking(job, stages)
    record = model_trial.known(asking) if asking else None
    if record is not None and job.config.auto:
        job = model_trial.with_found(job, record)
    check(job, stages, dry_run=dry_run)
    with job.run.locked():
        if asking and not dry_run:
            job = _tried(job, asking, stages, record, agrees)
        elif asking and job.config.auto and record is None:
            name = language_model.model_name(asking.config)
            say(f"dry run: {name} was not tried, so --auto changes nothing here")
        # A new run is recorded by its first stage, once it is known to have something to read.
        if not dry_run and job.run.manifest.is_file():
            job.record_settings()
        for stage in stages:
            if not dry_run or stage in (capture_stage.NAME, collect_stage.NAME):
                _RUN[stage](job.judging() if stage == score_stage.NAME else job)
            else:
                _say_estimate(job, stage)
                if stage == score_stage.NAME and (judged_here := local_judges.names(job.config)):
                    say(f"score: {', '.join(judged_here)} run on this machine and are not counted")
        if dry_run:
            say("dry run: nothing was sent")


def _tried(
    job: Job,
    asking: Job,
    stages: tuple[str, ...],
    record: TrialRecord | None,
    agrees: Callable[[str], bool] | None,
) -> Job:
    """The job; the model of `asking` is tried now where --auto says so, before anything is sent.

    Raises AutointerpError where the model is of no use.
    """
    if record is None and job.config.auto:
        record = model_trial.try_model(asking)
        job = model_trial.with_found(job, record)
    if _nothing_to_send(job, stages):
        return job
    if record is None:
        name = language_model.model_name(asking.config)
        say(
            f"{name} was not tried: `autointerp doctor`, or --auto here, finds out whether it can "
            "do this, and in which settings"
        )
    else:
        model_trial.check_worth(job, record, stages, agrees)
    return job
