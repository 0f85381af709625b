import re

import numpy as np
import pytest

from autointerp.scoring.scorer import FIRES
from autointerp.trial.concepts import (
    concepts,
    detection_plan,
    evidence,
    fuzzing_plan,
    simulation_plan,
    vocabulary,
)


def test_texts_have_their_own_concept_and_no_other():
    every = concepts()
    assert len(every) == 12
    for concept in every:
        assert concept.is_named_by(concept.label)
        assert [other.label for other in every if concept.is_named_by(other.label)] == [
            concept.label
        ]
        assert (len(concept.texts), len(concept.near)) == (12, 4)
        for other in every:
            for text in (*other.texts, *other.near):
                has = re.search(concept.pattern, text) is not None
                assert has == (other is concept and text in concept.texts), (concept.label, text)
    texts = [text for concept in every for text in (*concept.texts, *concept.near)]
    assert len(set(texts)) == len(texts)


def test_windows_are_their_texts_and_fire_where_the_concept_is():
    for feature, concept in enumerate(concepts()):
        for window in evidence(feature).windows:
            pieces = vocabulary().pieces(window.token_ids.tolist())
            assert "".join(pieces) == window.text
            active = "".join(p for p, a in zip(pieces, window.activations, strict=True) if a > 0)
            found = "".join(re.findall(r"\S", "".join(
                match[0] for match in re.finditer(concept.pattern, window.text)
            )))  # fmt: skip
            assert re.sub(r"\s", "", active) == found
            assert window.fires == (window.text in concept.texts)


@pytest.mark.parametrize("feature", range(12))
def test_half_of_what_is_judged_is_so_and_nothing_is_asked_twice(feature):
    for plan, fires in (
        (detection_plan(feature, 10, 5, 0), 5),
        (detection_plan(feature, 24, 12, 1), 12),
        (detection_plan(feature, 1, 0, 2), 0),
        (fuzzing_plan(feature, 12, 0), 6),
        (simulation_plan(feature, 4, 0), 2),
    ):
        assert sum(item.stratum == FIRES for item in plan.items) == fires
        assert len({item.window.text for item in plan.items}) == len(plan.items)
    for item in fuzzing_plan(feature, 12, 0).items:
        marked = item.window.activations[item.marks] > 0
        assert marked.all() if item.stratum == FIRES else not marked.any()
        assert item.marks.any()


def test_the_order_says_nothing_of_the_truth():
    places = [
        np.flatnonzero([item.truth[0] > 0 for item in detection_plan(f, 10, 5, s).items]).mean()
        for f in range(12)
        for s in range(10)
    ]
    assert abs(np.mean(places) - 4.5) < 0.3
