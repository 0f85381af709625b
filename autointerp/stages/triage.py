"""Before a model is asked for labels: which features need not be asked about."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from autointerp.config import RunConfig
from autointerp.evidence.store import EvidenceStore
from autointerp.job import Job
from autointerp.labeling.labeler import Draft, unlabelable
from autointerp.labeling.twins import alike, find_twins
from autointerp.progress import say
from autointerp.stages import model


@dataclass(frozen=True)
class Triage:
    """`asked`, ascending, are those a model is asked about: all others but the twins.

    `twins` has for each feature that takes another one's label that other feature, which is among
    the asked. It follows from the evidence alone, so a run that goes on has the same twins.
    """

    asked: list[int]
    twins: dict[int, int]


def triage(job: Job, store: EvidenceStore) -> Triage:
    twins = {} if job.config.link_twins is None else _twins(job, store, job.config.link_twins)
    return Triage([f for f in job.features if f not in twins], twins)


def _twins(job: Job, store: EvidenceStore, cosine: float) -> dict[int, int]:
    rows = {feature: store.statistics[feature] for feature in job.features}
    if all(row["similar"] is None for row in rows.values()):
        say("label: no twins can be linked: the evidence does not say which features are similar")
    similar = (
        (feature, other["feature"], other["cosine"])
        for feature, row in rows.items()
        for other in row["similar"] or ()
        if other["feature"] in rows
    )
    neighbours = alike(similar, cosine)
    contexts = {
        evidence.feature: {window.context for window in evidence.of("label", "top")}
        for evidence in store.read(list(neighbours))
        if unlabelable(evidence, job.config.min_windows, "") is None
    }
    return find_twins(neighbours, contexts, {f: row["n_active"] for f, row in rows.items()})


def twin_draft(feature: int, own: Draft) -> Draft:
    """The draft of a feature that takes the label of `own`, for nothing.

    Where that has none yet, because of a budget or an interruption, the feature waits for it.
    """
    if own.label is None:
        waiting = f"waits for the label of feature {own.feature}"
        return Draft(feature, own.status, own.labeler, error=waiting)
    return replace(
        own,
        feature=feature,
        label_of=own.feature,
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

    def words(self) -> str:
        tokens = "" if self.tokens is None else f", {self.tokens:,} tokens"
        cost = "" if self.cost_usd is None else f", ${self.cost_usd:,.4f}"
        return f"saves about {self.requests:,} requests{tokens}{cost} of labeling"


def saving(features: int, drafts: Iterable[Draft], config: RunConfig) -> Saving:
    """What it saves not to ask about `features` features, where `drafts` came of the others."""
    asked = [draft for draft in drafts if draft.prompt_tokens > 0]
    tokens = sum(draft.prompt_tokens + draft.completion_tokens for draft in asked)
    cost = sum(draft.cost_usd for draft in asked)
    share = features / max(1, len(asked))
    return Saving(
        features=features,
        requests=math.ceil(features / config.features_per_request),
        tokens=round(share * tokens) if asked else None,
        cost_usd=share * cost if asked and model.is_priced(config) else None,
    )
