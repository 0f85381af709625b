"""What scorers ask of features: their plans, made of the evidence."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.evidence.corpus import Corpus, OwnSilentWindows
from autointerp.evidence.store import EvidenceStore
from autointerp.evidence.window import FeatureEvidence
from autointerp.scoring import SCORERS
from autointerp.scoring.scorer import Material, Plan, Scorer
from autointerp.scoring.scorers.choices import KnownLabels
from autointerp.scoring.strata import OTHER, Stratum, strata_of
from autointerp.vocabulary import Vocabulary


@dataclass(frozen=True)
class Planner:
    """`settings`: scorer → its own."""

    store: EvidenceStore
    corpus: Corpus
    vocabulary: Vocabulary
    seed: int
    settings: Mapping[str, ScorerSettings]

    def plans(
        self, features: Sequence[int], scorers: Iterable[str], labels: KnownLabels | None = None
    ) -> Iterator[tuple[Scorer, Plan]]:
        """The plans of the scorers for every feature; labels: those that one may choose between."""
        known, special = labels or KnownLabels(), self.vocabulary.special_ids
        for evidence in self.store.read(features):
            corpus, strata = self._silent(evidence)
            material = Material(evidence, corpus, strata, self.seed, special, known)
            for name in scorers:
                yield SCORERS[name], SCORERS[name].plan(material, self.settings[name])

    def _silent(self, evidence: FeatureEvidence) -> tuple[Corpus, list[Stratum]]:
        """Where non-activating windows come from, and their strata: none where there are none.

        Of imported records they are the feature's own, of which nobody knows how hard they are.
        """
        own = evidence.of("score", "negative")
        if not own:
            return self.corpus, strata_of(self.corpus, evidence)
        return OwnSilentWindows(own), [Stratum(OTHER, np.arange(len(own)), 1.0)]
