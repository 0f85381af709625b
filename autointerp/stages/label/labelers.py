"""What labels the features of a run: a language model, or rules that are learned."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from autointerp.evidence.store import EvidenceStore
from autointerp.evidence.window import FeatureEvidence
from autointerp.labeling.labeler import Draft, unlabelable
from autointerp.runs.record import LabelRecord

Show = Callable[[Draft], None]


@dataclass(frozen=True)
class Drafted:
    """One draft for every selected feature; what ended the labeling before its end."""

    drafts: list[Draft]
    stopped: BaseException | None = None


class Labeler(Protocol):
    """Drafts a label for every selected feature."""

    def draft(self, details: LabelRecord, show: Show) -> Drafted:
        """What was asked and what was saved goes into `details`, drafts to `show` as they come."""


def labelable(
    store: EvidenceStore, features: Sequence[int], min_windows: int, labeler: str, skip: Show
) -> Iterator[FeatureEvidence]:
    """The evidence of features that can be labeled; the drafts of the others go to `skip`."""
    for evidence in store.read(features):
        draft = unlabelable(evidence, min_windows, labeler)
        if draft is None:
            yield evidence
        else:
            skip(draft)
