"""The labels that are judged: on their own feature's windows and, for nulls, on another's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from autointerp.labeling.labeler import Draft
from autointerp.resources.estimate import PLACEHOLDER_LABEL
from autointerp.scoring.null import Labeled, null_partners, null_sample, scored_sample
from autointerp.scoring.scorer import Scorer
from autointerp.scoring.scorers.choices import KnownLabels

# Features with a null, so that p is small enough to survive correction: with 100 nulls it is about
# 1 / 101 where a label beats them all, which is a discovery at 5 % where a fifth of all labels do.
_MIN_NULLS = 100
_FORMER_MIN_NULLS = 50


@dataclass(frozen=True)
class JudgedLabels:
    """`features` are scored: they have a label, or are to have one, as others may.

    `nulls`: feature → whose label is its null.

    statistics: what is known of each feature in the corpus, `n_active` among it.
    """

    drafts: Mapping[int, Draft]
    features: list[int]
    nulls: Mapping[int, int]
    statistics: Mapping[int, Mapping[str, Any]]

    def text(self, feature: int) -> str:
        """The feature's label, or one that stands in for it before there are labels."""
        draft = self.drafts.get(feature)
        return (draft.label if draft else None) or PLACEHOLDER_LABEL

    def own_text(self, feature: int) -> str | None:
        """The feature's label; None where it is still to come."""
        draft = self.drafts.get(feature)
        return draft.label if draft else None

    def whose(self, scorer: Scorer, feature: int) -> list[int]:
        """Whose labels are judged on a feature's windows: its own and, for the null, another's."""
        if scorer.needs_label and feature in self.nulls:
            return [feature, self.nulls[feature]]
        return [feature]

    def judged(self, scorer: Scorer, feature: int) -> list[tuple[int, str | None]]:
        """As `whose`, each with its label where it is known."""
        return [(label_of, self.own_text(label_of)) for label_of in self.whose(scorer, feature)]

    def known(self, features: Iterable[int]) -> KnownLabels:
        """Their labels, to choose between."""
        return KnownLabels(with_label((self.drafts[f] for f in features), self.statistics))

    def all_known(self) -> KnownLabels:
        """Those of all features, the ones to come among them."""
        to_come = [
            Draft(f, "pending", "", PLACEHOLDER_LABEL)
            for f in self.features
            if f not in self.drafts
        ]
        return KnownLabels(with_label([*self.drafts.values(), *to_come], self.statistics))


def with_label(
    drafts: Iterable[Draft], statistics: Mapping[int, Mapping[str, Any]]
) -> list[Labeled]:
    """The features that have a label."""
    return [
        Labeled(d.feature, d.label, statistics[d.feature]["n_active"], d.rule)
        for d in drafts
        if d.label is not None
    ]


def judged_labels(
    drafts: Mapping[int, Draft],
    statistics: Mapping[int, Mapping[str, Any]],
    score_share: float,
    null_share: float,
    seed: int,
    *,
    former: bool = False,
) -> JudgedLabels:
    """The labels that are scored, and nulls for some of them: a rule's null is another rule."""
    labeled = with_label(drafts.values(), statistics)
    partners: dict[int, int] = {}
    for by_rule in (False, True):
        alike = [one for one in labeled if bool(one.rule) == by_rule]
        partners |= null_partners(alike, seed)
    scored = scored_sample([one.feature for one in labeled], score_share, seed)
    drawn = with_null([f for f in scored if f in partners], null_share, seed, former=former)
    nulls = {feature: other for feature, other in partners.items() if feature in drawn}
    return JudgedLabels(drafts, scored, nulls, statistics)


def with_null(features: list[int], share: float, seed: int, *, former: bool = False) -> set[int]:
    """Those of the features that get a null; former: as runs that were begun before drew them."""
    fewest = _FORMER_MIN_NULLS if former else _MIN_NULLS
    return null_sample(features, share, fewest if share > 0 else 0, seed, former=former)
