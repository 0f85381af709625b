"""What all labelers share: which features can be labeled, and the result for each."""

from dataclasses import dataclass
from typing import Literal

from autointerp.evidence.window import FeatureEvidence, Split

Status = Literal["labeled", "dead", "too_few", "refused", "failed", "over_budget", "pending"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of several labels that a feature could have, and how well it did on `n` windows.

    Both numbers are None where it was not judged, the first also where no judgment could be read.
    """

    label: str
    balanced_accuracy: float | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """The label stage's outcome for one feature; `rule` is set for lexical labels.

    `meanings` are those of a polysemantic feature, the most common first; of another one there
    are none, and None says that they are not known. `label_of` is the feature that the label was
    made for, where that is another one. `candidates` are the labels it was chosen from, in the
    order they were proposed; None where but one was. `asked_again` are the kinds of replies for it
    that were not labels (see `no_label.KINDS`), `flags` what is doubtful of the label it has.
    `request` is short for the key of the request that the label came from: labels that have the
    same one came in one reply. A rule and an imported label have none.
    """

    feature: int
    status: Status
    labeler: str
    label: str | None = None
    label_of: int | None = None
    reason: str | None = None
    confidence: float | None = None
    polysemantic: bool | None = None
    meanings: list[str] | None = None
    candidates: list[Candidate] | None = None
    prompt_hash: str | None = None
    request: str | None = None
    rule: str | None = None
    asked_again: list[str] | None = None
    flags: list[str] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    error: str | None = None


def unlabelable(evidence: FeatureEvidence, min_windows: int, labeler: str) -> Draft | None:
    """The draft of a feature that fires too little to be labeled and scored, else None."""
    if evidence.n_active == 0:
        return Draft(evidence.feature, "dead", labeler)
    splits: tuple[Split, ...] = ("label",) if evidence.label_only else ("label", "score")
    for split in splits:
        contexts = {w.context for w in evidence.of(split, "top", "sample")}
        if len(contexts) < min_windows:
            reason = f"{len(contexts)} activating windows to {split}, but {min_windows} are needed"
            return Draft(evidence.feature, "too_few", labeler, error=reason)
    return None
