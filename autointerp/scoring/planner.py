"""What scorers ask of features: their plans, made of the evidence."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.evidence.corpus import Corpus
from autointerp.evidence.store import EvidenceStore
from autointerp.scoring import SCORERS
from autointerp.scoring.scorer import Material, Plan, Scorer
from autointerp.scoring.scorers.choices import KnownLabels
from autointerp.scoring.strata import strata_of
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
            strata = strata_of(self.corpus, evidence)
            material = Material(evidence, self.corpus, strata, self.seed, special, known)
            for name in scorers:
                yield SCORERS[name], SCORERS[name].plan(material, self.settings[name])
