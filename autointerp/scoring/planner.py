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
        judged: Callable[[Scorer, int], Sequence[tuple[int, str | None]]],
        labels: KnownLabels | None = None,
    ) -> Iterator[tuple[Scorer, int, Plan]]:
        """Scorer, whose label, and the plan for it, of every feature.

        judged: the features whose labels are judged on a feature's windows, its own first, each
        with the label where it is known. Windows like a label are like the one that is judged, so
        that a null's alarms are looked for where its label deceives. labels: those that one may
        choose between.
        """
        known, special = labels or KnownLabels(), self.vocabulary.special_ids
        for evidence in self.store.read(features):
            materials: dict[str | None, Material] = {}
            for name in scorers:
                scorer = SCORERS[name]
                for label_of, label in judged(scorer, evidence.feature):
                    if self.like_label is None:
                        label = None  # all are judged on the same windows
                    if label not in materials:
                        materials[label] = self._material(evidence, label, special, known)
                    yield scorer, label_of, scorer.plan(materials[label], self.settings[name])

    def _material(
        self,
        evidence: FeatureEvidence,
        label: str | None,
        special: frozenset[int],
        known: KnownLabels,
    ) -> Material:
        like_label = self.like_label(label) if self.like_label and label else ()
        corpus, strata = self._silent(evidence, like_label)
        by_label = self.like_label is not None and isfinite(evidence.window_density)
        return Material(evidence, corpus, strata, self.seed, special, known, by_label)

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
