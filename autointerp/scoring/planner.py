"""What scorers ask of features: their plans, made of the evidence."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.evidence.corpus import Corpus, OwnSilentWindows
from autointerp.evidence.store import EvidenceStore
from autointerp.evidence.window import FeatureEvidence
from autointerp.scoring import SCORERS
from autointerp.scoring.label_windows import LabelWindows
from autointerp.scoring.scorer import Material, Plan, Scorer
from autointerp.scoring.scorers.choices import KnownLabels
from autointerp.scoring.strata import OTHER, Stratum, strata_of
from autointerp.vocabulary import Vocabulary


@dataclass(frozen=True)
class Planner:
    """`settings`: scorer → its own. `like_label`: windows that are like a label; None: labels do
    not decide which windows are judged, and how many does not depend on the density."""

    store: EvidenceStore
    corpus: Corpus
    vocabulary: Vocabulary
    seed: int
    settings: Mapping[str, ScorerSettings]
    like_label: LabelWindows | None = None

    def plans(
        self,
        features: Sequence[int],
        scorers: Iterable[str],
        label_of: Callable[[int], str | None],
        labels: KnownLabels | None = None,
    ) -> Iterator[tuple[Scorer, Plan]]:
        """The plans of the scorers for every feature; labels: those that one may choose between.

        label_of: a feature's own label, where it is known.
        """
        known, special = labels or KnownLabels(), self.vocabulary.special_ids
        for evidence in self.store.read(features):
            label = label_of(evidence.feature)
            like_label = self.like_label(label) if self.like_label and label else ()
            corpus, strata = self._silent(evidence, like_label)
            material = Material(
                evidence,
                corpus,
                strata,
                self.seed,
                special,
                known,
                by_density=self.like_label is not None and isfinite(evidence.window_density),
            )
            for name in scorers:
                yield SCORERS[name], SCORERS[name].plan(material, self.settings[name])

    def _silent(
        self, evidence: FeatureEvidence, like_label: Iterable[np.ndarray]
    ) -> tuple[Corpus, list[Stratum]]:
        """Where non-activating windows come from, and their strata: none where there are none.

        Of imported records they are the feature's own, of which nobody knows how hard they are.
        """
        own = evidence.of("score", "negative")
        if not own:
            return self.corpus, strata_of(self.corpus, evidence, like_label)
        return OwnSilentWindows(own), [Stratum(OTHER, np.arange(len(own)), 1.0)]
