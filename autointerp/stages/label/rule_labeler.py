"""Labels by rules, which are learned from the evidence of each feature."""

from collections.abc import Sequence
from dataclasses import dataclass

from autointerp.evidence.store import EvidenceStore
from autointerp.labeling.labeler import Draft
from autointerp.labeling.rule_drafts import rule_draft
from autointerp.progress import track
from autointerp.rules import lexical
from autointerp.runs.record import LabelRecord
from autointerp.stages.label.labelers import Drafted, Show, labelable
from autointerp.vocabulary import Vocabulary


@dataclass(frozen=True)
class RuleLabeler:
    store: EvidenceStore
    vocabulary: Vocabulary
    features: Sequence[int]
    min_windows: int

    def draft(self, details: LabelRecord, show: Show) -> Drafted:
        labeler = lexical.LexicalLabeler(self.vocabulary)
        drafts: list[Draft] = []
        with track("label", len(self.features), "features") as progress:

            def finish(draft: Draft) -> None:
                drafts.append(draft)
                show(draft)
                progress.advance()

            for evidence in labelable(
                self.store, self.features, self.min_windows, lexical.NAME, finish
            ):
                rule = labeler.learn(evidence)
                if rule is None:
                    why = "no firing in the labeling windows"
                    finish(Draft(evidence.feature, "failed", lexical.NAME, error=why))
                    continue
                finish(rule_draft(evidence.feature, rule))
        return Drafted(drafts)
