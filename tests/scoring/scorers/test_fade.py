"""FADE's formulas against sums written out, and what is missing."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm.wire.reply import CallFailure, ChatReply, Usage
from autointerp.prompting.prompts import BUNDLED, load_prompt
from autointerp.scoring.scorer import FIRES, Item, Judged, Judgment, Plan
from autointerp.scoring.scorers import fade, fade_measures
from autointerp.scoring.scorers.concept_texts import TextJob, Written, read_texts
from tests.support.samples import window

# Activation, rating; then silent windows of two strata, whose shares of the silent ones are these.
FIRING = [(5.0, 2), (4.0, 2), (3.0, 0), (1.0, 1), (2.0, None)]
SILENT = {"similar": [2, 0], "other": [0, 0, None]}
SHARES = {"similar": 0.1, "other": 0.9}
DENSITY = 0.02


def one(value):
    return None if value is None else np.array([value], dtype=np.float32)


def judged(firing=FIRING, silent=SILENT):
    rows = [(FIRES, a, r) for a, r in firing]
    rows += [(stratum, 0.0, r) for stratum, ratings in silent.items() for r in ratings]
    judgments = [Judgment(Item(window([1], [a]), s, one(a)), one(r)) for s, a, r in rows]
    plan = Plan(3, [j.item for j in judgments], DENSITY, SHARES)
    return Judged(plan, fade_measures.NAME, 3, judgments)


def by_hand(firing):
    """Responsiveness and purity by the pairs of texts, `firing` the weight of activating ones."""
    each = {FIRES: firing / 4, "similar": (1 - firing) * 0.1 / 2, "other": (1 - firing) * 0.9 / 2}
    rows = [(a, r, each[FIRES]) for a, r in FIRING]
    rows += [(0.0, r, each[s]) for s, ratings in SILENT.items() for r in ratings]
    shown = [(a, w) for a, r, w in rows if r == 2]
    absent = [(a, w) for a, r, w in rows if r == 0]
    won = sum(u * v * ((a > b) + (a == b) / 2) for (a, u), (b, v) in product(shown, absent))
    auroc = won / sum(u * v for (_, u), (_, v) in product(shown, absent))
    total = sum(w for _, w in shown)
    precision = sum(
        w
        * sum(v for b, v in shown if b >= a)
        / (sum(v for b, v in shown if b >= a) + sum(v for b, v in absent if b >= a))
        for a, w in shown
    )
    return abs(2 * auroc - 1), precision / total


def test_responsiveness_and_purity_equal_sums_over_pairs():
    found = fade.reduce(judged(), seed=0)
    for prefix, firing in (("", 0.5), ("fade_population_", DENSITY)):
        responsiveness, purity = by_hand(firing)
        name = "fade_population_responsiveness" if prefix else fade.RESPONSIVENESS
        assert found[name].value == pytest.approx(responsiveness)
        assert found[f"{prefix}purity"].value == pytest.approx(purity)
        assert found[f"{prefix}purity"].n == 7  # neither unread nor rated 1
        assert found[name].ci_low <= found[name].value <= found[name].ci_high
    assert found["purity"].value > found["fade_population_purity"].value


@pytest.mark.parametrize(
    "case",
    [
        judged([(3.0, 2)], {"other": [None]}),
        judged([(3.0, None)], {"other": [2, 0]}),
        judged([(3.0, 0)], {"other": [0, 0]}),
        judged([(3.0, 2)], {"other": [2, 2]}),
        judged([(3.0, 1)], {"other": [1]}),
        judged([], {}),
    ],
    ids=["a side unread", "the other", "no 2", "no 0", "only 1", "nothing"],
)
def test_what_cannot_be_told_is_missing(case):
    found = fade.reduce(case, seed=0)
    assert len(found) == 4
    assert all(np.isnan(e.value) and e.n == 0 for e in found.values())


@pytest.mark.parametrize(("shown", "alarms"), [(0.9, 0.01), (0.3, 0.3)])
def test_intervals_hold_what_many_windows_say(shown, alarms):
    # Of 150 runs a coverage is known to ±3.5 points. Resampling the windows as they are covers 72 %
    # for purity and 33 % for the corpus's where a judge makes few errors.
    rng = np.random.default_rng(0)

    def drawn(firing, similar, other):
        rates = {"similar": (similar, 2 * alarms), "other": (other, alarms)}
        return judged(
            [(rng.uniform(0.1, 1), 2 * (rng.random() < shown)) for _ in range(firing)],
            {s: [2 * (rng.random() < rate) for _ in range(n)] for s, (n, rate) in rates.items()},
        )

    truth = fade.reduce(drawn(4000, 1500, 6000), seed=0)
    covered = dict.fromkeys(truth, 0)
    for _ in range(150):
        found = fade.reduce(drawn(20, 6, 24), seed=0)
        for name, e in found.items():
            covered[name] += e.n == 0 or e.ci_low <= truth[name].value <= e.ci_high
    assert min(covered.values()) >= 0.9 * 150, covered


floats = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=6)


@given(floats, floats)
def test_clarity_equals_the_share_of_pairs(concept, natural):
    auroc = np.mean([(a > b) + (a == b) / 2 for a, b in product(concept, natural)])
    found = fade_measures.clarity(np.array(concept), np.array(natural), seed=0)
    assert found.value == pytest.approx(abs(2 * auroc - 1))
    assert found.n == len(concept)
    assert np.isnan(fade_measures.clarity(np.array([]), np.array(natural), 0).value)


rated = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from([0.0, -1.0, 10.0]), st.sampled_from([0, 1, 2, None])
    ),
    max_size=14,
)


@given(rated)
def test_faithfulness_equals_its_formula(rows):
    judgments = [
        Judgment(Item(window([1], [0.0], rank=start), "steered", one(factor)), one(rating))
        for start, factor, rating in rows
    ]
    found = fade_measures.faithfulness(judgments, seed=0)

    def share(m):
        ratings = [r for _, factor, r in rows if factor == m and r is not None]
        return sum(r == 2 for r in ratings) / len(ratings) if ratings else None

    plain, steered = share(0.0), [p for p in (share(-1.0), share(10.0)) if p is not None]
    if plain in (None, 1.0) or not steered:
        assert np.isnan(found.value)
        return
    assert found.value == pytest.approx(max(max(steered) - plain, 0) / (1 - plain))
    assert found.n == sum(r is not None for _, _, r in rows)


def test_draws_of_a_bootstrap_are_reckoned_at_once():
    rng = np.random.default_rng(0)
    truth, factor = rng.random(12) < 0.5, rng.choice([0.0, 1.0, 5.0], 12)
    weights = rng.integers(0, 3, (20, 12)).astype(float)
    together = fade_measures.raised_share(truth, factor, weights)
    singly = [float(fade_measures.raised_share(truth, factor, w)) for w in weights]
    np.testing.assert_allclose(together, singly)
    assert np.isfinite(together).sum() > 0


@pytest.mark.parametrize(
    ("reply", "ratings"),
    [
        ('{"clear": [1], "partly": [3], "none": [2, 4]}', {0: 2, 1: 0, 2: 1, 3: 0}),
        ('{"clear": [1, 2], "partly": [2], "none": []}', {0: 2}),
        ('{"clear": [2], "none": ["3"]}', {1: 2, 2: 0}),
        ('so: {"clear": [1], "partly": [], "none": [2, 3', {0: 2, 1: 0}),
        ("I cannot", {}),
    ],
)
def test_ratings_are_read_without_guessing(reply, ratings):
    items = judged().plan.items[:4]
    found = fade.SCORER.task.read(reply, items, False)
    assert {place: float(value[0]) for place, value in found.items()} == ratings


def reply(text, finish="stop"):
    return ChatReply(text, finish, False, Usage(10, 5), cost_usd=0.5)


def job():
    return TextJob(4, "cats", 3, load_prompt("fade_texts", BUNDLED), "m", 0.0)


def test_texts_that_are_missing_are_asked_for_once_more():
    step = job().reduce(reply('{"texts": [{"text": "a"}, {"text": "a"}, {"text": " "}]}'))
    [again] = step.follow_ups
    assert "Texts to write: 2" in again.messages()[1]["content"]
    assert again.request().attempt == 1
    [done] = again.reduce(reply('{"texts": [{"text": "b"}, {"text": "c"}, {"text": "d"}]}')).results
    assert done == Written(4, ("a", "b", "c"), 3, 20, 10, 1.0)
    [short] = again.reduce(reply("no")).results
    assert short.texts == ("a",)
    assert short.parse_rate() == pytest.approx(1 / 3)
    assert short.error == "2 of 3 texts were not written"


def test_texts_that_could_not_be_had_are_told_from_those_refused():
    [failed] = job().reduce(CallFailure("server", "status 500")).results
    assert failed.unanswered
    [declined] = job().reduce(CallFailure("content_filter", "filtered")).results
    assert not declined.unanswered
    assert declined.error == "filtered"
    [longer] = job().reduce(reply("<think>", "length")).follow_ups
    assert longer.request().max_tokens > job().request().max_tokens
    assert read_texts('{"texts": [{"text": 3}, {"other": "x"}]}') == []


def test_the_example_of_the_template_is_not_a_text():
    """SmolLM2-135M gives it back in 42 % of its texts."""
    given_back = '{"texts": [{"text": "The first  text"}, {"text": "cats sleep"}]}'
    [again] = job().reduce(reply(given_back)).follow_ups
    assert again.texts == ("cats sleep",)
    assert "Texts to write: 2" in again.messages()[1]["content"]
    [short] = again.reduce(reply('{"texts": [{"text": "the second text"}]}')).results
    assert short.texts == ("cats sleep",)
    assert short.error == "2 of 3 texts were not written"
