"""The trial of a labeling model: asked with the run's own templates about planted evidence.

It goes through the run's pool and journal: a trial that is done again, or that was stopped, finds
its replies there and does not pay for them twice.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autointerp.config.loading import validated
from autointerp.config.settings import RunConfig
from autointerp.errors import ConfigurationError, DamagedFileError, EndpointError
from autointerp.held import is_held
from autointerp.identity import fingerprint, settings_values
from autointerp.llm.journal.journal import Journal
from autointerp.llm.journal.reply_cache import ReplyCache
from autointerp.progress import say, track
from autointerp.prompting.prompts import Prompt
from autointerp.resources import model_facts
from autointerp.resources.language_model import LanguageModel
from autointerp.resources.session import Session
from autointerp.scoring.judge import JudgeSettings
from autointerp.stages.label.label_settings import settings_of
from autointerp.stages.stage import ModelUse
from autointerp.trial import concepts, verdict
from autointerp.trial.course import Try, find_out, load_prompts
from autointerp.trial.tally import judge_ways, label_ways, simulation_ways, ways_not_given
from autointerp.trial.tasks import Tried
from autointerp.trial.trial_record import TrialRecord, read_record

VERSION = 1  # raised when the same planted evidence is asked about otherwise
# What a trial finds out, unless it is given.
CHOICES = (
    *("features_per_request", "judge_form", "judge_items", "response_format", "simulation_mode"),
)


def given(config: RunConfig) -> dict[str, Any]:
    """The settings that are not the trial's to choose, as a person gave them."""
    named = {name: config.value(name) for name in CHOICES if name in config.model_fields_set}
    return {name: value for name, value in named.items() if value != "auto"}


def _inputs(session: Session) -> str:
    """What decides the replies of a trial."""
    shown = settings_values(settings_of(session.config))
    del shown["features_per_request"]
    prompts = load_prompts(Path(session.config.prompts))
    return fingerprint(
        version=VERSION,
        planted=concepts.identity(),
        model=model_facts.identity(session.config),
        shown=shown,
        prompts={task: prompt.hash for task, prompt in prompts.items()},
    )


def known(session: Session) -> TrialRecord | None:
    """The record of an earlier trial, if it is of this model and these settings."""
    record = read_record(session.run.trial) if session.config.uses_model() else None
    return record if record and record.fits(_inputs(session), given(session.config)) else None


@dataclass
class _Asking:
    """Sends requests through the run's pool; `seconds` is how long that took."""

    model: LanguageModel
    seconds: float = 0.0

    def ask(self, tries: Sequence[Try]) -> list[Tried]:
        """Raises AutointerpError, or KeyboardInterrupt, where not all of them could be asked."""
        tried: list[Tried] = []
        with track("trial", len(tries), "requests") as progress:

            def take(one: Tried) -> None:
                tried.append(one)
                progress.advance(0 if one.is_further else 1)

            began = time.monotonic()
            asked = self.model.ask(lambda: tries, take, progress, beside_a_batch=True)
            self.seconds += time.monotonic() - began
        if asked.stopped is not None:
            raise asked.stopped
        for one in tried:
            if one.lost is not None:
                raise EndpointError(f"the trial of the model failed: {one.lost}")
        return tried


def try_model(session: Session) -> TrialRecord:
    """Ask the model some 30 requests and keep what was found. The run must be locked.

    Raises AutointerpError where the model cannot be had.
    """
    # A batch would take a day.
    session = replace(session, config=session.config.model_copy(update={"batch": False}))
    config = session.config
    asking = _Asking(session.model)
    prompts = load_prompts(Path(config.prompts))
    judge = JudgeSettings(model_facts.model_name(config), config.temperature, config.judge_items)
    tried = find_out(asking.ask, prompts, settings_of(session.config), judge, given(config), say)
    record = _record(session, tried, asking.seconds, prompts)
    record.write(session.run.trial)
    return record


def _record(
    session: Session, tried: Sequence[Tried], seconds: float, prompts: Mapping[str, Prompt]
) -> TrialRecord:
    config = session.config
    # What two tries have in common was asked once.
    asked = list({one.key: one for one in tried if one.key}.values())
    fresh = [one for one in asked if not one.recalled]
    speed = None
    try:
        before = known(session)
        speed = before.tokens_per_s if before else None
    except DamagedFileError as error:
        say(f"{session.run.trial} is replaced: {error.reason}")
    if fresh and seconds > 0:
        speed = (
            sum(one.usage.prompt_tokens for one in fresh) / seconds,
            sum(one.usage.completion_tokens for one in fresh) / seconds,
        )
    return TrialRecord(
        inputs=_inputs(session),
        given=given(config),
        model=model_facts.model_name(config),
        endpoint=model_facts.address(config),
        tried_at=datetime.now(UTC).isoformat(timespec="seconds"),
        templates={task: prompt.hash for task, prompt in prompts.items()},
        labels=label_ways(tried),
        judging=judge_ways(tried),
        simulation=simulation_ways(tried),
        not_given=ways_not_given(tried),
        response_format=_response_format(session),
        requests=len(asked),
        recalled=len(asked) - len(fresh),
        prompt_tokens=sum(one.usage.prompt_tokens for one in asked),
        completion_tokens=sum(one.usage.completion_tokens for one in asked),
        cost_usd=sum(one.cost_usd for one in asked) if model_facts.is_priced(config) else None,
        tokens_per_s=speed,
        failures=[one.failure for one in tried if one.failure is not None],
    )


def _response_format(session: Session) -> str:
    """How the endpoint takes it, less what it was found to reject."""
    config = session.config
    journal = Journal.open(session.run.journal)
    try:
        recall = ReplyCache(journal, model_facts.address(config), model_facts.dialect(config))
        return recall.dialect(model_facts.model_name(config)).structured
    finally:
        journal.close()


def with_found(session: Session, record: TrialRecord) -> Session:
    """The session with the settings that the trial found, but for those that were given."""
    fixed = given(session.config)
    found = {name: v for name, v in verdict.settings(record).items() if name not in fixed}
    said = verdict.as_flags(found) if found else "every setting that it would choose was given"
    say(f"--auto: {said}")
    return replace(session, config=validated(session.config.model_dump(exclude_unset=True) | found))


def asking(session: Session, uses: Sequence[ModelUse]) -> Session | None:
    """The session whose model is asked, and a trial is of; None where none is asked.

    Nor is there one where a model judges the labels of another. Raises AutointerpError where --auto
    is to choose settings for both.
    """
    found = [use.session for use in uses]
    if not session.config.auto:  # a trial is no use to whoever wrote the function
        found = [o for o in found if not (o.config.is_local() and is_held(o.config.local_model))]
    if len({model_facts.identity(one.config) for one in found}) <= 1:
        return found[0] if found else None
    if session.config.auto:
        labeler, judged_by = (model_facts.model_name(one.config) for one in found)
        raise ConfigurationError(
            f"--auto chooses settings for one model, but {labeler} labels and {judged_by} judges: "
            "run `autointerp doctor` on each and pass the settings that it suggests"
        )
    return None


def check_worth(
    config: RunConfig,
    record: TrialRecord,
    uses: Sequence[ModelUse],
    agrees: Callable[[str], bool] | None,
) -> None:
    """Ask whether to go on where the model was found to be of no use for what it is asked.

    `agrees` shows a question and says what was answered; None where nobody is there to be asked.
    Raises AutointerpError where the run is not to go on.
    """
    labels, judge = any(use.labels for use in uses), any(use.judges for use in uses)
    failings = verdict.failings(record, config, labels=labels, judge=judge)
    if not failings:
        return
    said = f"in its trial, {record.model} was no better than chance: {'; '.join(failings)}"
    better = verdict.advice(record, config, labels=labels, judge=judge)
    if agrees is not None and agrees(f"{said}. Continue anyway?"):
        return
    raise ConfigurationError(f"{said} ({better + '; ' if better else ''}--yes continues anyway)")
