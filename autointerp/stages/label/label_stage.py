"""label: evidence → drafts.parquet (every outcome) and the label table without scores."""

from collections import Counter
from collections.abc import Iterator

from autointerp.config.settings import RunConfig
from autointerp.errors import ConfigurationError
from autointerp.identity import fingerprint, settings_values
from autointerp.labeling.label_reply import reply_schema
from autointerp.labeling.labeler import Draft
from autointerp.plain_text import counted
from autointerp.progress import say
from autointerp.prompting.prompts import keep
from autointerp.resources import model_facts
from autointerp.resources.estimate import CostEstimate, labeling_tokenizer
from autointerp.resources.session import Session
from autointerp.rules import lexical
from autointerp.runs.directory import Run
from autointerp.runs.record import LabelRecord
from autointerp.scoring import forms
from autointerp.scoring.scorers import detection
from autointerp.stages.collect.collect_stage import evidence_identity, no_evidence
from autointerp.stages.label.candidate_choice import add_judging, candidate_judge, judge_prompt
from autointerp.stages.label.label_settings import (
    TASK,
    label_prompt,
    labeler_name,
    settings_of,
    views_of,
)
from autointerp.stages.label.label_table import LabelTable
from autointerp.stages.label.labelers import Labeler
from autointerp.stages.label.model_labeler import ModelLabeler, proposals
from autointerp.stages.label.rule_labeler import RuleLabeler
from autointerp.stages.label.triage import LEXICAL_FIRST, triage
from autointerp.stages.label.triage import check as check_tier
from autointerp.stages.stage import Messages, ModelUse, Stage
from autointerp.tables.write import read_drafts

NAME = TASK
AGAIN = ("failed", "over_budget", "pending")  # what the next run takes up
MANY_FAILED = 0.1  # of the selected features, beyond which a run did not succeed
_REPLY_TOKENS_A_FEATURE = 60  # what a label, its reason and its confidence come to
_TOKENS_OF_MEANINGS = 15  # an empty list of most features, about 60 for one of several meanings


def needs(session: Session) -> str | None:
    return no_evidence(session.run)


def uses_model(session: Session) -> ModelUse | None:
    if not session.config.uses_model():
        return None
    return ModelUse(session, labels=True, judges=session.config.candidates > 1)


def templates(session: Session) -> list[str]:
    if not session.config.uses_model():
        return []
    return [TASK, detection.NAME] if session.config.candidates > 1 else [TASK]


def check(session: Session) -> None:
    """Raises AutointerpError where a template cannot be used."""
    if not session.config.uses_model():
        return
    label_prompt(session.config)
    if session.config.candidates > 1:
        judge_prompt(session.config)


def inputs(session: Session) -> str:
    config = session.config
    return fingerprint(
        evidence=evidence_identity(session.run),
        features=session.features,
        min_windows=config.min_windows,
        **(_method(config) if config.uses_model() else {lexical.NAME: lexical.VERSION}),
    )


def _method(config: RunConfig) -> dict[str, object]:
    """How a model labels."""
    method: dict[str, object] = {
        "model": model_facts.identity(config),
        "prompt": label_prompt(config).hash,
        "settings": settings_values(settings_of(config)),
        "link_twins": config.link_twins,
        "tier": config.tier,
    }
    if config.tier == LEXICAL_FIRST:
        method[lexical.NAME] = lexical.VERSION
    if config.candidates > 1:
        method["candidates"] = [settings_values(shown) for shown in views_of(config)]
        method["judge"] = [judge_prompt(config).hash, config.judge_items, config.seed]
        if config.judge_form != forms.LISTS:
            method["judge_form"] = config.judge_form
    return method


def is_done(session: Session, inputs: str) -> bool:
    """The same inputs, and nothing failed that another try might mend."""
    run = session.run
    record = run.stages().label
    if not (run.drafts.is_file() and run.labels.is_file()):
        return False
    if record is None or record.inputs != inputs or record.unchosen > 0:
        return False
    return all(draft.status not in AGAIN for draft in read_drafts(run.drafts))


def already(session: Session) -> str:
    return f"already done: {session.run.labels}"


def failed(session: Session) -> int:
    """How many of the selected features failed."""
    selected = set(session.features)
    drafts = read_drafts(session.run.drafts) if session.run.drafts.is_file() else []
    return sum(draft.status == "failed" and draft.feature in selected for draft in drafts)


def run(session: Session, inputs: str) -> None:
    """Draft a label for every selected feature."""
    config, run = session.config, session.run
    _check_not_imported(run)
    labeler = _labeler(session, inputs)
    name, priced = labeler_name(config), model_facts.is_priced(config)
    table = LabelTable(run, session.store, session.coder_name, priced)
    with session.recorded(NAME, inputs, LabelRecord()) as details:
        if config.uses_model():
            details.prompt_hash = _keep_templates(session)
        with table.shown_meanwhile(session.features, name) as show:
            drafted = labeler.draft(details, show)
        table.finish(drafted.drafts)
        details.evidence = evidence_identity(run)
        details.labeler = name
        details.outcomes = Counter[str](draft.status for draft in drafted.drafts)
        if drafted.stopped is not None:
            counts = Counter(details.outcomes).most_common()
            outcomes = ", ".join(f"{n:,} {status}" for status, n in counts)
            say(f"label: {outcomes} in {run.labels}; rerun the same command to resume")
            raise drafted.stopped


def _check_not_imported(run: Run) -> None:
    record = run.stages().label
    if record is not None and record.imported is not None:
        raise ConfigurationError(
            f"the labels in {run.path} were imported from {record.imported.source}: score them "
            "with `autointerp score`, or pass another --out to label its features"
        )


def _labeler(session: Session, inputs: str) -> Labeler:
    """What labels, ready to do so. Raises AutointerpError."""
    config = session.config
    if config.uses_model():
        check_tier(session.run, config.tier)
        _say_what_is_asked_again(session.run, inputs, model_facts.is_priced(config))
        _ = session.model  # its endpoints are checked before the stage counts as not done
        return ModelLabeler(session)
    say(
        "label: no model was given, so labels are lexical rules (use a model with --model NAME, or "
        "one on this machine with --labeler local)"
    )
    return RuleLabeler(session.store, session.vocabulary, session.features, config.min_windows)


def _keep_templates(session: Session) -> str:
    """Keep the templates with the run; the hash of the one for labels."""
    prompt = label_prompt(session.config)
    judging = [judge_prompt(session.config)] if session.config.candidates > 1 else []
    keep(session.run, [prompt, *judging])
    return prompt.hash


def _say_what_is_asked_again(run: Run, inputs: str, priced: bool) -> None:
    """What an earlier run paid for and got nothing of is paid for once more: say so before."""
    record = run.stages().label
    if not run.drafts.is_file() or record is None or record.inputs != inputs:
        return
    lost = [draft for draft in read_drafts(run.drafts) if draft.status == "failed"]
    if lost:
        cost = sum(draft.cost_usd for draft in lost)
        spent = f"${cost:,.4f} so far" if priced else "at an unknown price"
        say(f"label: retrying {counted(len(lost), 'feature')} that failed ({spent})")


def estimate(session: Session) -> list[str]:
    """What the stage would send, each request rendered and counted."""
    config = session.config
    if not config.uses_model():
        return []
    total = CostEstimate(labeling_tokenizer(config))
    reply = _REPLY_TOKENS_A_FEATURE + (_TOKENS_OF_MEANINGS if config.label_meanings > 1 else 0)
    candidates: Counter[int] = Counter()
    for one in proposals(session, triage(session).asked, lambda draft: None):
        total.add(one.request(), reply * len(one.job.group))
        candidates.update(e.feature for e in one.job.group)
    if config.candidates > 1:
        judge = candidate_judge(config, session.vocabulary)
        add_judging(total, judge, session.store, candidates)
    return [total.line(NAME, config)]


def prompts(session: Session, _task: str) -> Iterator[Messages]:
    """The messages of each labeling request, as sent, then whom none is sent for, and why."""
    skipped: dict[int, Draft] = {}
    plan = triage(session)
    for one in proposals(session, plan.asked, lambda d: skipped.update({d.feature: d})):
        yield one.job.messages()
    for draft in skipped.values():
        yield f"(no request for feature {draft.feature}: {draft.error or draft.status})"
    for feature in plan.rules:
        yield f"(no request for feature {feature}: it is labeled by a rule)"
    for feature, own in plan.twins.items():
        yield f"(no request for feature {feature}: it is a twin of {own})"


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
    tasks={TASK: tuple(reply_schema([1]).schema["properties"])},
    prompts=prompts,
)
