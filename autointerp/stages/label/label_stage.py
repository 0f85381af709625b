"""label: evidence → drafts.parquet (every outcome) and the label table without scores."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from autointerp.errors import ConfigurationError
from autointerp.evidence.store import EvidenceStore
from autointerp.evidence.window import FeatureEvidence
from autointerp.identity import fingerprint, settings_values
from autointerp.labeling import no_label
from autointerp.labeling.candidates import Proposal, Proposed, views
from autointerp.labeling.excerpts import Shown
from autointerp.labeling.labeler import Draft, unlabelable
from autointerp.labeling.llm import LabelSettings, label_jobs
from autointerp.labeling.rule_drafts import rule_draft
from autointerp.progress import say, track
from autointerp.prompting.prompts import Prompt, keep, load_prompt
from autointerp.resources import language_model
from autointerp.resources.estimate import CostEstimate, labeling_tokenizer
from autointerp.rules import lexical
from autointerp.runs.session import Job
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


def labeler_name(job: Job) -> str:
    return language_model.model_name(job.config) if job.config.uses_model() else LEXICAL


def settings_of(job: Job) -> LabelSettings:
    config = job.config
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


def views_of(job: Job) -> list[Shown]:
    config = job.config
    return views(settings_of(job).shown, config.candidates, config.sample_windows)


def _prompts(job: Job) -> list[Prompt]:
    """The templates of labels and, where there are several to choose from, of judging them."""
    prompt = load_prompt(NAME, Path(job.config.prompts))
    return [prompt, judge_prompt(job)] if job.config.candidates > 1 else [prompt]


def _inputs(job: Job) -> str:
    config = job.config
    method: dict[str, object]
    if config.uses_model():
        method = {
            "model": language_model.identity(config),
            "prompt": load_prompt(NAME, Path(config.prompts)).hash,
            "settings": settings_values(settings_of(job)),
            "link_twins": config.link_twins,
            "tier": config.tier,
        }
        if config.tier == LEXICAL_FIRST:
            method[LEXICAL] = lexical.VERSION
        if config.candidates > 1:
            method["candidates"] = [settings_values(shown) for shown in views_of(job)]
            method["judge"] = [judge_prompt(job).hash, config.judge_items, config.seed]
            if config.judge_form != forms.LISTS:
                method["judge_form"] = config.judge_form
    else:
        method = {LEXICAL: lexical.VERSION}
    return fingerprint(
        evidence=evidence_identity(job.run),
        features=job.features,
        min_windows=config.min_windows,
        **method,
    )


def is_done(job: Job) -> bool:
    """The same inputs, and nothing failed that another try might mend."""
    files = job.run
    if not (files.drafts.is_file() and files.labels.is_file()):
        return False
    record = files.stage(NAME)
    if record.get("inputs") != _inputs(job) or record.get("unchosen", 0) > 0:
        return False
    return all(draft.status not in AGAIN for draft in read_drafts(files.drafts))


def failed(job: Job) -> int:
    """How many of the selected features failed."""
    selected = set(job.features)
    drafts = read_drafts(job.run.drafts) if job.run.drafts.is_file() else []
    return sum(draft.status == "failed" and draft.feature in selected for draft in drafts)


def _say_what_is_asked_again(job: Job) -> None:
    """What an earlier run paid for and got nothing of is paid for once more: say so before."""
    if not job.run.drafts.is_file() or job.run.stage(NAME).get("inputs") != _inputs(job):
        return
    lost = [draft for draft in read_drafts(job.run.drafts) if draft.status == "failed"]
    if lost:
        cost = sum(draft.cost_usd for draft in lost)
        spent = (
            f"${cost:,.4f} so far"
            if language_model.is_priced(job.config)
            else "at an unknown price"
        )
        say(f"label: {len(lost):,} features that failed are asked about again ({spent})")


def run(job: Job) -> None:
    """Draft a label for every selected feature, unless that is done from the same inputs."""
    if is_done(job):
        say(f"label: done already, {job.run.labels}")
        return
    if imported := job.run.stage(NAME).get("imported"):
        raise ConfigurationError(
            f"the labels in {job.run.path} were imported from {imported['from']}: score them with "
            "`autointerp score`; to label its features anew, name another --out"
        )
    store = EvidenceStore(job.run.windows, job.run.features)
    vocabulary = Vocabulary.load(job.run.vocabulary)
    if job.config.uses_model():
        check(job)
        _say_what_is_asked_again(job)
    else:
        say(
            "label: no model is named, so labels are lexical rules (--model NAME for a model, "
            "--labeler local for one on this machine)"
        )
    stopped: BaseException | None = None
    with job.recorded(NAME, _inputs(job)) as details:
        if job.config.uses_model():
            prompts = _prompts(job)
            keep(job.run, prompts)
            with _shown_meanwhile(job, store) as show:
                drafts, stopped = _draft_by_model(job, store, vocabulary, details, show)
            details["prompt_hash"] = prompts[0].hash
        else:
            with _shown_meanwhile(job, store) as show:
                drafts = _draft_by_rules(job, store, vocabulary, show)
        if not _are_written(job, drafts):
            # The table loses its scores, so they must come anew.
            job.run.forget_stages("score")
            write_drafts(drafts, job.run.drafts)
            _write_table(job, store, drafts)
        details["evidence"] = evidence_identity(job.run)
        details["labeler"] = labeler_name(job)
        details["outcomes"] = Counter(d.status for d in drafts)
        if stopped is not None:
            say(f"label: {_outcomes(drafts)} in {job.run.labels}; the same command goes on")
            raise stopped


def _write_table(job: Job, store: EvidenceStore, drafts: list[Draft]) -> None:
    priced = language_model.is_priced(job.config)
    write_labels(job.coder_name, drafts, store.statistics, {}, {}, priced, job.run.labels)


@contextmanager
def _shown_meanwhile(job: Job, store: EvidenceStore) -> Iterator[Callable[[Draft], None]]:
    """Takes drafts as they come; the label table has them now and then, the rest as `pending`.

    drafts.parquet is written at the end alone, and says what is done. A table with scores that the
    same drafts would keep stays as it is until then.
    """
    if _is_scored(job):
        yield lambda draft: None
        return
    job.run.forget_stages("score")
    name = labeler_name(job)
    pending = [Draft(f, "pending", name, error="it is not labeled yet") for f in job.features]
    with written_meanwhile(pending, lambda drafts: _write_table(job, store, drafts)) as show:
        yield show


def _is_scored(job: Job) -> bool:
    """Whether the run has labels of this evidence, and their scores."""
    files = job.run
    if not (files.drafts.is_file() and files.labels.is_file() and files.stage("score")):
        return False
    return bool(files.stage("score").get("evidence") == evidence_identity(files))


def _are_written(job: Job, drafts: list[Draft]) -> bool:
    """Whether the run has just these drafts, of this evidence: then its scores stay as well."""
    return _is_scored(job) and _said(drafts) == _said(read_drafts(job.run.drafts))


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
    job: Job, store: EvidenceStore, features: Sequence[int], on_draft: Callable[[Draft], None]
) -> Iterator[FeatureEvidence]:
    """The evidence of features that can be labeled; the drafts of the others go to `on_draft`."""
    name = labeler_name(job)
    for evidence in store.read(features):
        draft = unlabelable(evidence, job.config.min_windows, name)
        if draft is None:
            yield evidence
        else:
            on_draft(draft)


def _draft_by_rules(
    job: Job, store: EvidenceStore, vocabulary: Vocabulary, show: Callable[[Draft], None]
) -> list[Draft]:
    labeler = lexical.LexicalLabeler(vocabulary)
    drafts: list[Draft] = []
    with track(NAME, len(job.features), "features") as progress:

        def finish(draft: Draft) -> None:
            drafts.append(draft)
            show(draft)
            progress.advance()

        for evidence in _labelable(job, store, job.features, finish):
            rule = labeler.learn(evidence)
            if rule is None:
                why = "no firing in the labeling windows"
                finish(Draft(evidence.feature, "failed", LEXICAL, error=why))
                continue
            finish(rule_draft(evidence.feature, rule))
    return drafts


def _jobs(
    job: Job,
    store: EvidenceStore,
    vocabulary: Vocabulary,
    features: Sequence[int],
    on_draft: Callable[[Draft], None],
) -> Iterator[Proposal]:
    """Requests for the usual labels of all features, then for further candidates of them."""
    prompt = load_prompt(NAME, Path(job.config.prompts))
    settings, every = settings_of(job), views_of(job)
    for view, shown in enumerate(every):
        evidence = _labelable(job, store, features, on_draft)
        if view > 0:
            seen = every[: view + 1]
            evidence = (e for e in evidence if is_worth_another(job, e, seen))
        of_view = replace(settings, shown=shown)
        for one in label_jobs(evidence, prompt, vocabulary, of_view):
            yield Proposal(one, view)


def _draft_by_model(
    job: Job,
    store: EvidenceStore,
    vocabulary: Vocabulary,
    details: dict[str, Any],
    show: Callable[[Draft], None],
) -> tuple[list[Draft], BaseException | None]:
    """One draft for every selected feature, `pending` where asking ended before it; what ended it.

    What was asked and what was saved is put into `details`; drafts go to `show` as they come.
    """
    answering = language_model.check_endpoint(job.config)
    plan = triage(job, store, vocabulary)
    name = labeler_name(job)
    left = {f: Draft(f, "pending", name, error="the run was stopped") for f in job.features}
    candidates = LabelCandidates()
    # By feature: what is unlabelable is found in the thread that reads the evidence.
    skipped: dict[int, Draft] = {}
    for draft in plan.rules.values():
        show(draft)
    with track(NAME, len(job.features), "features") as progress:

        def skip(draft: Draft) -> None:
            skipped[draft.feature] = draft
            show(draft)

        def take(new: Proposed) -> None:
            if candidates.take(new):
                show(new.draft)
                progress.advance()

        def ask(features: Sequence[int]) -> language_model.Answered:
            return language_model.ask(
                job,
                answering,
                lambda: _jobs(job, store, vocabulary, features, skip),
                take,
                progress,
            )

        asked = ask(plan.asked)
        details["asked"] = asdict(asked.totals)
        # Where no label could be had for a feature, its twins are asked about themselves.
        drafts = left | skipped | candidates.drafts(left)
        lost = [f for f, own in plan.twins.items() if drafts[own].status in _NO_LABEL]
        if lost and asked.stopped is None:
            asked = ask(lost)
            details["asked_for_twins"] = asdict(asked.totals)
            drafts = left | skipped | candidates.drafts(left)
        progress.advance(len(skipped) + len(plan.twins) - len(lost) + len(plan.rules))
    stopped = asked.stopped
    if job.config.candidates > 1:
        choices = candidates.open()
        firsts = {f: drafts[f] for f in choices}
        drafts |= {f: uncompared(draft, "the run was stopped") for f, draft in firsts.items()}
        details["unchosen"] = candidates.unfinished()
        if choices and stopped is None:
            found = choose(job, answering, store, vocabulary, firsts, choices)
            drafts |= found.drafts
            stopped = found.asked.stopped
            details["asked_for_candidates"] = asdict(found.asked.totals)
            details["unchosen"] += found.unanswered
    for line in no_label.summary(drafts.values()):
        say(f"label: {line}")
    details["asked_again"] = no_label.counts(drafts.values())
    linked = {
        feature: twin_draft(feature, drafts[own])
        for feature, own in plan.twins.items()
        if feature not in lost
    }
    if plan.rules:
        saved = saving(len(plan.rules), drafts.values(), job.config)
        details["saved_by_rules"] = asdict(saved)
        say(f"label: {len(plan.rules):,} features are labeled by a rule, which {saved.words()}")
    if taken := sum(draft.label is not None for draft in linked.values()):
        saved = saving(taken, drafts.values(), job.config)
        details["saved_by_twins"] = asdict(saved)
        say(f"label: {taken:,} features take the label of a twin, which {saved.words()}")
    return list((drafts | linked | plan.rules).values()), stopped


def estimate(job: Job) -> CostEstimate:
    """What the stage would send, each request rendered and counted."""
    store = EvidenceStore(job.run.windows, job.run.features)
    vocabulary = Vocabulary.load(job.run.vocabulary)
    total = CostEstimate(labeling_tokenizer(job.config))
    reply = _REPLY_TOKENS_A_FEATURE
    reply += _TOKENS_OF_MEANINGS if job.config.label_meanings > 1 else 0
    features = triage(job, store, vocabulary).asked
    candidates: Counter[int] = Counter()
    for one in _jobs(job, store, vocabulary, features, lambda draft: None):
        total.add(one.request(), reply * len(one.job.group))
        candidates.update(e.feature for e in one.job.group)
    add_judging(total, job, store, vocabulary, candidates)
    return total


def prompts_shown(job: Job) -> Iterator[list[dict[str, str]] | str]:
    """The messages of each labeling request, as sent, then whom none is sent for, and why."""
    store = EvidenceStore(job.run.windows, job.run.features)
    vocabulary = Vocabulary.load(job.run.vocabulary)
    skipped: dict[int, Draft] = {}
    plan = triage(job, store, vocabulary)
    for one in _jobs(job, store, vocabulary, plan.asked, lambda d: skipped.update({d.feature: d})):
        yield one.job.messages()
    for draft in skipped.values():
        yield f"(feature {draft.feature} is not asked about: {draft.error or draft.status})"
    for feature in plan.rules:
        yield f"(feature {feature} is not asked about: it is labeled by a rule)"
    for feature, own in plan.twins.items():
        yield f"(feature {feature} is not asked about: a twin of {own})"
