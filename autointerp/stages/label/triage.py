"""Before a model is asked for labels: which features need not be asked about."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from autointerp.config.settings import RunConfig
from autointerp.errors import NotDoneError
from autointerp.evidence.store import EvidenceStore
from autointerp.labeling.labeler import Draft, unlabelable
from autointerp.labeling.rule_drafts import rule_draft
from autointerp.labeling.twins import alike, find_twins
from autointerp.metrics.estimates import Counts, balanced_accuracy
from autointerp.plain_text import counted
from autointerp.progress import say, track
from autointerp.resources import model_facts
from autointerp.resources.session import Session
from autointerp.rules import lexical
from autointerp.runs.directory import Run
from autointerp.scoring.scorer import FIRES
from autointerp.stages.collect import collect_stage

LEXICAL_FIRST = "lexical-first"
_SILENT = "silent"
_BOUND = 0.95  # of the balanced accuracy of a rule that is kept, at least


@dataclass(frozen=True)
class Triage:
    """`asked`, ascending, are those a model is asked about: all that are in neither of the others.

    `rules` are the drafts of features that a rule explains; `twins` has for each feature that takes
    another one's label that other feature, which is among the asked. All follows from the evidence
    alone, so a run that goes on has the same.
    """

    asked: list[int]
    rules: dict[int, Draft]
    twins: dict[int, int]


def check(run: Run, tier: str) -> None:
    """Raises AutointerpError where the evidence has too few windows to try rules on."""
    collected = run.stages().collect
    kept = collected.validate_windows if collected else 0
    if tier == LEXICAL_FIRST and kept < collect_stage.TRIED_WINDOWS:
        raise NotDoneError(
            f"the evidence in {run.path} was collected without --tier {LEXICAL_FIRST} and has too "
            "few windows to test rules on: run `autointerp collect` with it"
        )


def triage(session: Session) -> Triage:
    """What follows from the settings and the evidence. Raises AutointerpError as `check` does."""
    config, store = session.config, session.store
    check(session.run, config.tier)
    rules: dict[int, Draft] = {}
    if config.tier == LEXICAL_FIRST:
        labeler = lexical.LexicalLabeler(session.vocabulary)
        rules = _by_rules(labeler, store, session.features, config.min_windows)
    features = [f for f in session.features if f not in rules]
    twins: dict[int, int] = {}
    if config.link_twins is not None:
        twins = _twins(store, features, config.link_twins, config.min_windows)
    return Triage([f for f in features if f not in twins], rules, twins)


def _by_rules(
    labeler: lexical.LexicalLabeler,
    store: EvidenceStore,
    features: Sequence[int],
    min_windows: int,
) -> dict[int, Draft]:
    """The drafts of features that a rule explains, by windows it was not learned from.

    Those are of the validation split: what scores the labels has no say in how they come about.
    """
    drafts: dict[int, Draft] = {}
    with track("label: rules", len(features), "features") as progress:
        for evidence in store.read(features):
            progress.advance()
            if unlabelable(evidence, min_windows, lexical.NAME) is not None:
                continue
            windows = evidence.of("validate", "sample", "negative")
            fires = [window.fires for window in windows]
            # Where not even a faultless rule could show what it is worth none is looked for.
            if not is_good(fires, fires):
                continue
            rule = labeler.learn(evidence)
            if rule is None:
                continue
            if is_good(fires, labeler.fires(rule, windows)):
                drafts[evidence.feature] = rule_draft(evidence.feature, rule)
    return drafts


def is_good(fires: Sequence[bool], said: Sequence[bool]) -> bool:
    """Whether what a rule said of windows shows that it explains the feature."""
    counts = Counts(density=0.5, shares={_SILENT: 1.0})
    for fired, yes in zip(fires, said, strict=True):
        counts.add(FIRES if fired else _SILENT, yes)
    return balanced_accuracy(counts).ci_low >= _BOUND


def _twins(
    store: EvidenceStore, features: Sequence[int], cosine: float, min_windows: int
) -> dict[int, int]:
    rows = {feature: store.statistics[feature] for feature in features}
    if rows and all(row["similar"] is None for row in rows.values()):
        say("label: twins cannot be linked: the evidence does not say which features are similar")
    similar = (
        (feature, other["feature"], other["cosine"])
        for feature, row in rows.items()
        for other in row["similar"] or ()
        if other["feature"] in rows
    )
    neighbors = alike(similar, cosine)
    contexts = {
        evidence.feature: {window.context for window in evidence.of("label", "top")}
        for evidence in store.read(list(neighbors))
        if unlabelable(evidence, min_windows, "") is None
    }
    return find_twins(neighbors, contexts, {f: row["n_active"] for f, row in rows.items()})


def twin_draft(feature: int, own: Draft) -> Draft:
    """The draft of a feature that takes the label of `own`, for nothing.

    Where that has none yet, because of a budget or an interruption, the feature waits for it.
    """
    if own.label is None:
        waiting = f"waiting for the label of feature {own.feature}, its twin"
        return Draft(feature, own.status, own.labeler, error=waiting)
    return replace(
        own,
        feature=feature,
        label_of=own.feature,
        candidates=None,
        asked_again=None,
        prompt_tokens=0,
        completion_tokens=0,
        cost_usd=0.0,
        error=None,
    )


@dataclass(frozen=True)
class Saving:
    """What asking about so many more `features` would have taken, by the average of those asked.

    None where it is not known: nothing was asked, or the model has no price.
    """

    features: int
    requests: int
    tokens: int | None
    cost_usd: float | None

    def describe(self) -> str:
        tokens = "" if self.tokens is None else f", {self.tokens:,} tokens"
        cost = "" if self.cost_usd is None else f", ${self.cost_usd:,.4f}"
        return f"saves about {counted(self.requests, 'labeling request')}{tokens}{cost}"


def saving(features: int, drafts: Iterable[Draft], config: RunConfig) -> Saving:
    """What it saves not to ask about `features` features, where `drafts` came of the others."""
    asked = [draft for draft in drafts if draft.prompt_tokens > 0]
    tokens = sum(draft.prompt_tokens + draft.completion_tokens for draft in asked)
    cost = sum(draft.cost_usd for draft in asked)
    share = features / max(1, len(asked))
    requests = config.candidates * math.ceil(features / config.features_per_request)
    if config.candidates > 1:  # each is judged by itself
        requests += config.candidates * features
    return Saving(
        features=features,
        requests=requests,
        tokens=round(share * tokens) if asked else None,
        cost_usd=share * cost if asked and model_facts.is_priced(config) else None,
    )
