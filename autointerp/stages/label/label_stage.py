"""label: evidence → drafts.parquet (every outcome) and the label table without scores."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from autointerp.errors import UserError
from autointerp.evidence.store import EvidenceStore
from autointerp.evidence.window import FeatureEvidence
from autointerp.identity import fingerprint, settings_values
from autointerp.labeling import no_label
from autointerp.labeling.candidates import Proposal, Proposed, views
from autointerp.labeling.labeler import Draft, unlabelable
from autointerp.labeling.llm import LabelSettings, label_jobs
from autointerp.labeling.rule_drafts import rule_draft
from autointerp.labeling.shown import Shown
from autointerp.progress import say, track
from autointerp.prompting.prompts import Prompt, keep, load_prompt
from autointerp.resources import language_model
from autointerp.resources.estimate import CostEstimate, labeling_tokenizer
from autointerp.rules import lexical
from autointerp.run.record import LabelRecord, SavedRequests
from autointerp.run.session import Session
from autointerp.scoring import forms
from autointerp.stages.collect.collect_stage import evidence_identity
from autointerp.stages.label.candidate_choice import (
    LabelCandidates,
    add_judging,
    choose,
    is_worth_another,
    judge_prompt,
)
from autointerp.stages.label.live_table import written_meanwhile
from autointerp.stages.label.triage import LEXICAL_FIRST, check, saving, triage, twin_draft
from autointerp.stages.label.validation import uncompared
from autointerp.tables.write import read_drafts, write_drafts, write_labels
from autointerp.vocabulary import Vocabulary

NAME = "label"
LEXICAL = lexical.NAME
AGAIN = ("failed", "over_budget", "pending")  # what the next run takes up
_NO_LABEL = ("refused", "failed")
MANY_FAILED = 0.1  # of the selected features, beyond which a run did not succeed
_REPLY_TOKENS_A_FEATURE = 60  # what a label, its reason and its confidence come to
_TOKENS_OF_MEANINGS = 15  # an empty list of most features, about 60 for one of several meanings


def labeler_name(session: Session) -> str:
    return language_model.model_name(session.config) if session.config.uses_model() else LEXICAL


def settings_of(session: Session) -> LabelSettings:
    config = session.config
    return LabelSettings(
        model=language_model.model_name(config),
        temperature=config.temperature,
        features_per_request=config.features_per_request,
        shown=Shown(
            top=config.label_top,
            quantiles=config.label_quantiles,
            activations=config.label_activations,
            contrast=config.label_contrast,
            output_tokens=config.label_output_tokens,
        ),
        meanings=config.label_meanings,
    )


def views_of(session: Session) -> list[Shown]:
    config = session.config
    return views(settings_of(session).shown, config.candidates, config.sample_windows)


def _prompts(session: Session) -> list[Prompt]:
    """The templates of labels and, where there are several to choose from, of judging them."""
    prompt = load_prompt(NAME, Path(session.config.prompts))
    return [prompt, judge_prompt(session)] if session.config.candidates > 1 else [prompt]


def _inputs(session: Session) -> str:
    config = session.config
    method: dict[str, object]
    if config.uses_model():
        method = {
            "model": language_model.identity(config),
            "prompt": load_prompt(NAME, Path(config.prompts)).hash,
            "settings": settings_values(settings_of(session)),
            "link_twins": config.link_twins,
            "tier": config.tier,
        }
        if config.tier == LEXICAL_FIRST:
            method[LEXICAL] = lexical.VERSION
        if config.candidates > 1:
            method["candidates"] = [settings_values(shown) for shown in views_of(session)]
            method["judge"] = [judge_prompt(session).hash, config.judge_items, config.seed]
            if config.judge_form != forms.LISTS:
                method["judge_form"] = config.judge_form
    else:
        method = {LEXICAL: lexical.VERSION}
    return fingerprint(
        evidence=evidence_identity(session.run),
        features=session.features,
        min_windows=config.min_windows,
        **method,
    )


def is_done(session: Session) -> bool:
    """The same inputs, and nothing failed that another try might mend."""
    files = session.run
    if not (files.drafts.is_file() and files.labels.is_file()):
        return False
    record = files.stages().label
    if record is None or record.inputs != _inputs(session) or record.unchosen > 0:
        return False
    return all(draft.status not in AGAIN for draft in read_drafts(files.drafts))


def failed(session: Session) -> int:
    """How many of the selected features failed."""
    selected = set(session.features)
    drafts = read_drafts(session.run.drafts) if session.run.drafts.is_file() else []
    return sum(draft.status == "failed" and draft.feature in selected for draft in drafts)


def _say_what_is_asked_again(session: Session) -> None:
    """What an earlier run paid for and got nothing of is paid for once more: say so before."""
    record = session.run.stages().label
    if not session.run.drafts.is_file() or not record or record.inputs != _inputs(session):
        return
    lost = [draft for draft in read_drafts(session.run.drafts) if draft.status == "failed"]
    if lost:
        cost = sum(draft.cost_usd for draft in lost)
        spent = (
            f"${cost:,.4f} so far"
            if language_model.is_priced(session.config)
            else "at an unknown price"
        )
        say(f"label: {len(lost):,} features that failed are asked about again ({spent})")


def run(session: Session) -> None:
    """Draft a label for every selected feature, unless that is done from the same inputs."""
    if is_done(session):
        say(f"label: done already, {session.run.labels}")
        return
    record = session.run.stages().label
    if record is not None and record.imported is not None:
        raise UserError(
            f"the labels in {session.run.path} were imported from {record.imported.source}: score "
            "them with `autointerp score`; to label its features anew, name another --out"
        )
    store = session.store
    vocabulary = session.vocabulary
    if session.config.uses_model():
        check(session)
        _say_what_is_asked_again(session)
    else:
        say(
            "label: no model is named, so labels are lexical rules (--model NAME for a model, "
            "--labeler local for one on this machine)"
        )
    stopped: BaseException | None = None
    with session.recorded(NAME, _inputs(session), LabelRecord()) as details:
        if session.config.uses_model():
            prompts = _prompts(session)
            keep(session.run, prompts)
            with _shown_meanwhile(session, store) as show:
                drafts, stopped = _draft_by_model(session, store, vocabulary, details, show)
            details.prompt_hash = prompts[0].hash
        else:
            with _shown_meanwhile(session, store) as show:
                drafts = _draft_by_rules(session, store, vocabulary, show)
        if not _are_written(session, drafts):
            # The table loses its scores, so they must come anew.
            session.run.forget_stages("score")
            write_drafts(drafts, session.run.drafts)
            _write_table(session, store, drafts)
        details.evidence = evidence_identity(session.run)
        details.labeler = labeler_name(session)
        details.outcomes = dict(Counter(d.status for d in drafts))
        if stopped is not None:
            say(f"label: {_outcomes(drafts)} in {session.run.labels}; the same command goes on")
            raise stopped


def _write_table(session: Session, store: EvidenceStore, drafts: list[Draft]) -> None:
    priced = language_model.is_priced(session.config)
    write_labels(session.coder_name, drafts, store.statistics, {}, {}, priced, session.run.labels)


@contextmanager
def _shown_meanwhile(session: Session, store: EvidenceStore) -> Iterator[Callable[[Draft], None]]:
    """Takes drafts as they come; the label table has them now and then, the rest as `pending`.

    drafts.parquet is written at the end alone, and says what is done. A table with scores that the
    same drafts would keep stays as it is until then.
    """
    if _is_scored(session):
        yield lambda draft: None
        return
    session.run.forget_stages("score")
    name = labeler_name(session)
    pending = [Draft(f, "pending", name, error="it is not labeled yet") for f in session.features]
    with written_meanwhile(pending, lambda drafts: _write_table(session, store, drafts)) as show:
        yield show


def _is_scored(session: Session) -> bool:
    """Whether the run has labels of this evidence, and their scores."""
    files = session.run
    if not (files.drafts.is_file() and files.labels.is_file() and (scored := files.stages().score)):
        return False
    return scored.evidence == evidence_identity(files)


def _are_written(session: Session, drafts: list[Draft]) -> bool:
    """Whether the run has just these drafts, of this evidence: then its scores stay as well."""
    return _is_scored(session) and _said(drafts) == _said(read_drafts(session.run.drafts))


def _said(drafts: list[Draft]) -> set[tuple[object, ...]]:
    """What became of each feature; numbers, which a file rounds, follow from the same replies."""
    return {
        (
            *(d.feature, d.status, d.label, d.label_of, d.reason, d.rule, d.error),
            *(d.meanings or ()),
            *(d.flags or ()),
            *((c.label, c.n) for c in d.candidates or ()),
        )
        for d in drafts
    }


def _outcomes(drafts: list[Draft]) -> str:
    counts = Counter(draft.status for draft in drafts)
    return ", ".join(f"{n:,} {status}" for status, n in counts.most_common())


def _labelable(
    session: Session,
    store: EvidenceStore,
    features: Sequence[int],
    on_draft: Callable[[Draft], None],
) -> Iterator[FeatureEvidence]:
    """The evidence of features that can be labeled; the drafts of the others go to `on_draft`."""
    name = labeler_name(session)
    for evidence in store.read(features):
        draft = unlabelable(evidence, session.config.min_windows, name)
        if draft is None:
            yield evidence
        else:
            on_draft(draft)


def _draft_by_rules(
    session: Session, store: EvidenceStore, vocabulary: Vocabulary, show: Callable[[Draft], None]
) -> list[Draft]:
    labeler = lexical.LexicalLabeler(vocabulary)
    drafts: list[Draft] = []
    with track(NAME, len(session.features), "features") as progress:

        def finish(draft: Draft) -> None:
            drafts.append(draft)
            show(draft)
            progress.advance()

        for evidence in _labelable(session, store, session.features, finish):
            rule = labeler.learn(evidence)
            if rule is None:
                why = "no firing in the labeling windows"
                finish(Draft(evidence.feature, "failed", LEXICAL, error=why))
                continue
            finish(rule_draft(evidence.feature, rule))
    return drafts


def _jobs(
    session: Session,
    store: EvidenceStore,
    vocabulary: Vocabulary,
    features: Sequence[int],
    on_draft: Callable[[Draft], None],
) -> Iterator[Proposal]:
    """Requests for the usual labels of all features, then for further candidates of them."""
    prompt = load_prompt(NAME, Path(session.config.prompts))
    settings, every = settings_of(session), views_of(session)
    for view, shown in enumerate(every):
        evidence = _labelable(session, store, features, on_draft)
        if view > 0:
            seen = every[: view + 1]
            evidence = (e for e in evidence if is_worth_another(session, e, seen))
        of_view = replace(settings, shown=shown)
        for one in label_jobs(evidence, prompt, vocabulary, of_view):
            yield Proposal(one, view)


def _draft_by_model(
    session: Session,
    store: EvidenceStore,
    vocabulary: Vocabulary,
    details: LabelRecord,
    show: Callable[[Draft], None],
) -> tuple[list[Draft], BaseException | None]:
    """One draft for every selected feature, `pending` where asking ended before it; what ended it.

    What was asked and what was saved is put into `details`; drafts go to `show` as they come.
    """
    answering = language_model.check_endpoint(session.config)
    plan = triage(session, store, vocabulary)
    name = labeler_name(session)
    left = {f: Draft(f, "pending", name, error="the run was stopped") for f in session.features}
    candidates = LabelCandidates()
    # By feature: what is unlabelable is found in the thread that reads the evidence.
    skipped: dict[int, Draft] = {}
    for draft in plan.rules.values():
        show(draft)
    with track(NAME, len(session.features), "features") as progress:

        def skip(draft: Draft) -> None:
            skipped[draft.feature] = draft
            show(draft)

        def take(new: Proposed) -> None:
            if candidates.take(new):
                show(new.draft)
                progress.advance()

        def ask(features: Sequence[int]) -> language_model.Answered:
            return language_model.ask(
                session,
                answering,
                lambda: _jobs(session, store, vocabulary, features, skip),
                take,
                progress,
            )

        asked = ask(plan.asked)
        details.asked = asdict(asked.totals)
        # Where no label could be had for a feature, its twins are asked about themselves.
        drafts = left | skipped | candidates.drafts(left)
        lost = [f for f, own in plan.twins.items() if drafts[own].status in _NO_LABEL]
        if lost and asked.stopped is None:
            asked = ask(lost)
            details.asked_for_twins = asdict(asked.totals)
            drafts = left | skipped | candidates.drafts(left)
        progress.advance(len(skipped) + len(plan.twins) - len(lost) + len(plan.rules))
    stopped = asked.stopped
    if session.config.candidates > 1:
        choices = candidates.open()
        firsts = {f: drafts[f] for f in choices}
        drafts |= {f: uncompared(draft, "the run was stopped") for f, draft in firsts.items()}
        details.unchosen = candidates.unfinished()
        if choices and stopped is None:
            found = choose(session, answering, store, vocabulary, firsts, choices)
            drafts |= found.drafts
            stopped = found.asked.stopped
            details.asked_for_candidates = asdict(found.asked.totals)
            details.unchosen += found.unanswered
    for line in no_label.summary(drafts.values()):
        say(f"label: {line}")
    details.asked_again = no_label.counts(drafts.values())
    linked = {
        feature: twin_draft(feature, drafts[own])
        for feature, own in plan.twins.items()
        if feature not in lost
    }
    if plan.rules:
        saved = saving(len(plan.rules), drafts.values(), session.config)
        details.saved_by_rules = SavedRequests(**asdict(saved))
        say(f"label: {len(plan.rules):,} features are labeled by a rule, which {saved.words()}")
    if taken := sum(draft.label is not None for draft in linked.values()):
        saved = saving(taken, drafts.values(), session.config)
        details.saved_by_twins = SavedRequests(**asdict(saved))
        say(f"label: {taken:,} features take the label of a twin, which {saved.words()}")
    return list((drafts | linked | plan.rules).values()), stopped


def estimate(session: Session) -> CostEstimate:
    """What the stage would send, each request rendered and counted."""
    store = session.store
    vocabulary = session.vocabulary
    total = CostEstimate(labeling_tokenizer(session.config))
    reply = _REPLY_TOKENS_A_FEATURE
    reply += _TOKENS_OF_MEANINGS if session.config.label_meanings > 1 else 0
    features = triage(session, store, vocabulary).asked
    candidates: Counter[int] = Counter()
    for one in _jobs(session, store, vocabulary, features, lambda draft: None):
        total.add(one.request(), reply * len(one.job.group))
        candidates.update(e.feature for e in one.job.group)
    add_judging(total, session, store, vocabulary, candidates)
    return total


def prompts_shown(session: Session) -> Iterator[list[dict[str, str]] | str]:
    """The messages of each labeling request, as sent, then whom none is sent for, and why."""
    store = session.store
    vocabulary = session.vocabulary
    skipped: dict[int, Draft] = {}
    plan = triage(session, store, vocabulary)
    for one in _jobs(
        session, store, vocabulary, plan.asked, lambda d: skipped.update({d.feature: d})
    ):
        yield one.job.messages()
    for draft in skipped.values():
        yield f"(feature {draft.feature} is not asked about: {draft.error or draft.status})"
    for feature in plan.rules:
        yield f"(feature {feature} is not asked about: it is labeled by a rule)"
    for feature, own in plan.twins.items():
        yield f"(feature {feature} is not asked about: a twin of {own})"
