"""What the summary says of a judge."""

import numpy as np
import pandas as pd
import pytest

from autointerp.metrics.estimates import mean_interval
from autointerp.report.judges import chance_line, replies_line
from autointerp.scoring.replies import (
    ALL_NO,
    ALL_YES,
    CHANGED,
    COPIED,
    NULL,
    OWN,
    RECEIVED,
    STRAYS,
    TELLING,
)


def scores(values, metric="balanced_accuracy"):
    return pd.DataFrame({"metric": metric, "value": values})


def test_one_answer_for_everything_counts_of_own_labels_slips_of_all():
    own = {RECEIVED: 50, TELLING: 40, ALL_YES: 30, ALL_NO: 2, CHANGED: 4, STRAYS: 3}
    null = {RECEIVED: 40, TELLING: 40, ALL_NO: 40, STRAYS: 2, COPIED: 1}
    assert replies_line({OWN: own, NULL: null}) == (
        "90 replies, 1 repeated the template's example, 5 answered for excerpts that do not "
        "exist, of 40 requests about a feature's own label, 75% got yes for every excerpt and 5% "
        "got no for every excerpt, for 4 of these the answers changed when fewer excerpts were "
        "sent per request"
    )
    assert replies_line({NULL: {RECEIVED: 3}}) == "3 replies"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.5] * 6, True),
        ([0.45, 0.55, 0.5, 0.48, 0.53], True),
        ([0.3, 0.35, 0.4, 0.32, 0.38], True),  # worse than a guess
        ([0.7, 0.8, 0.75, 0.9, 0.6], False),
        ([0.5] * 4, False),  # of so few nothing is said
        ([0.5] * 4 + [np.nan] * 4, False),
        ([], False),
    ],
)
def test_scores_that_do_not_differ_from_guesses_are_called_so(values, said):
    line = chance_line(scores(values), "balanced_accuracy")
    assert (line is not None) == said
    assert line is None or "so these scores mean nothing" in line


def test_probabilities_that_rank_are_named_beside_answers_that_are_guesses():
    both = pd.concat([scores([0.5] * 6), scores([0.8, 0.7, 0.9, 0.8, 0.75, 0.85], "auroc")])
    assert "do rank excerpts: mean AUROC 0.800" in chance_line(both, "balanced_accuracy")
    both = pd.concat([scores([0.5] * 6), scores([0.4, 0.6, 0.5, 0.45, 0.55, 0.5], "auroc")])
    assert "AUROC" not in chance_line(both, "balanced_accuracy")


@pytest.mark.parametrize("n", [5, 20])
def test_the_interval_of_a_mean_over_features_holds_it_as_often_as_it_says(n):
    rng = np.random.default_rng(n)
    drawn = [mean_interval(rng.normal(0.6, 0.1, n)) for _ in range(2000)]
    held = np.mean([one.ci_low <= 0.6 <= one.ci_high for one in drawn])
    assert 0.93 < held < 0.97
