"""A run: its stages one after another, each skipped where it is done.

A stage is done when `run.json` records it with a fingerprint of the same inputs. The fingerprint of
a stage covers what the stage before it made, so a change redoes just what depends on it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from autointerp.config.run_settings import RANDOM_CODER
from autointerp.config.settings import RunConfig
from autointerp.errors import ConfigurationError
from autointerp.progress import say
from autointerp.prompting.prompt_check import stray_files
from autointerp.resources import model_facts
from autointerp.resources.session import Session
from autointerp.stages import model_trial
from autointerp.stages.show_prompts import TEMPLATES
from autointerp.stages.stage import ModelUse, Stage, do
from autointerp.stages.stage_list import STAGES
from autointerp.trial.trial_record import TrialRecord


def stages_of(config: RunConfig) -> tuple[str, ...]:
    """The stages of a whole run, by name."""
    return tuple(stage.name for stage in STAGES if stage.is_wanted(config))


def run_stages(
    session: Session,
    names: Sequence[str],
    *,
    dry_run: bool = False,
    agrees: Callable[[str], bool] | None = None,
) -> None:
    """Run the named stages under the run's lock; with `dry_run` none that asks a model.

    `agrees` shows a question and says what was answered; None where nobody is there to be asked.
    """
    stages = [stage for stage in STAGES if stage.name in names]
    asking = model_trial.asking(session, model_uses(session, stages))
    record = model_trial.known(asking) if asking else None
    if record is not None and session.config.auto:
        session = model_trial.with_found(session, record)
    check(session, stages, dry_run=dry_run)
    with session.run.locked():
        if asking and not dry_run:
            session = _tried(session, asking, stages, record, agrees)
        elif asking and session.config.auto and record is None:
            name = model_facts.model_name(asking.config)
            say(f"dry run: {name} has not been tested, so --auto has no effect on this estimate")
        # A new run is recorded by its first stage, once it is known to have something to read.
        if not dry_run and session.run.manifest.is_file():
            session.record_settings(names)
        for stage in stages:
            if not dry_run or stage.estimate is None:
                do(stage, session)
                continue
            for line in stage.estimate(session):
                say(line)
        if dry_run:
            say("dry run: nothing was sent")


def model_uses(session: Session, stages: Sequence[Stage]) -> list[ModelUse]:
    """What the stages ask models for."""
    return [use for stage in stages if (use := stage.uses_model(session)) is not None]


def check(session: Session, stages: Sequence[Stage], *, dry_run: bool) -> None:
    """Reject what is bound to fail before a file is touched or a cent spent.

    Raises AutointerpError.
    """
    _check_control(session)
    _ = session.device  # raises where it cannot be used
    if dry_run and not model_uses(session, STAGES):
        raise ConfigurationError(
            "--dry-run estimates requests to a model, and this run makes none: pass --model (and "
            "drop --labeler lexical)"
        )
    if any(stage.templates(session) for stage in STAGES):
        _check_folder(session.config)
    for stage in stages:
        stage.check(session)
    if not dry_run and not _nothing_to_send(session, stages):
        for use in model_uses(session, stages):
            _ = use.session.model  # checks its endpoints


def _check_control(session: Session) -> None:
    """Raises AutointerpError where a control would overwrite a run, or a run a control."""
    there = session.run.settings().text("control")
    is_random = session.config.is_random()
    if session.run.stages().collect and (there == RANDOM_CODER) != is_random:
        if is_random:
            what = "a run of the SAE itself: pass another --out for its control"
        else:
            what = f"a control: give --control {RANDOM_CODER}, or name another --out"
        raise ConfigurationError(f"{session.run.path} holds {what}")


def _check_folder(config: RunConfig) -> None:
    """Raises AutointerpError where the folder of templates is not there; warns of files in vain."""
    folder = Path(config.prompts)
    if "prompts" in config.model_fields_set and not folder.is_dir():
        raise ConfigurationError(f"prompts {folder}: no such folder")
    for stray in stray_files(folder, TEMPLATES):
        say(f"warning: {stray}")


def _nothing_to_send(session: Session, stages: Sequence[Stage]) -> bool:
    """Whether the stages that ask a model are done, as far as can be told before running."""
    return all(
        stage.needs(session) is None and stage.is_done(session, stage.inputs(session))
        for stage in stages
        if stage.uses_model(session)
    )


def _tried(
    session: Session,
    asking: Session,
    stages: Sequence[Stage],
    record: TrialRecord | None,
    agrees: Callable[[str], bool] | None,
) -> Session:
    """The session, its model tried now where --auto says so, before anything is sent.

    Raises AutointerpError where the model is of no use.
    """
    if record is None and session.config.auto:
        record = model_trial.try_model(asking)
        session = model_trial.with_found(session, record)
    if _nothing_to_send(session, stages):
        return session
    if record is None:
        name = model_facts.model_name(asking.config)
        say(
            f"{name} has not been tested: `autointerp doctor` (or --auto) finds out whether it "
            "can do this, and with which settings"
        )
    else:
        model_trial.check_worth(session.config, record, model_uses(session, stages), agrees)
    return session
