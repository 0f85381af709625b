"""Fuzzing and intruder: what is marked, in which windows, and what comes of the answers."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.evidence.window_text import is_marked
from autointerp.llm.numbering import Miscounted
from autointerp.prompting.prompts import BUNDLED, load_prompt
from autointerp.scoring import SCORERS
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.scorer import FIRES, Judged, Judgment, Material
from autointerp.scoring.scorers import fuzzing, intruder
from autointerp.scoring.strata import strata_of
from autointerp.vocabulary import Vocabulary
from tests.support.samples import corpus_of, evidence, window

LENGTH, SPECIAL = 16, 0
VOCABULARY = Vocabulary(tuple(f" w{i}".encode() for i in range(60)), frozenset({SPECIAL}))


def material(share: float = 0.1, windows: int = 30, seed: int = 0, lengths=(LENGTH,)) -> Material:
    """Random windows, each token active with the probability `share`, and a random corpus."""
    rng = np.random.default_rng(seed)

    def one(context: int):
        length = int(rng.choice(lengths))
        strengths = rng.uniform(1, 10, length) * (rng.random(length) < share)
        strengths[rng.integers(length)] = rng.uniform(10, 20)
        ids = rng.integers(1, 60, length)
        quantile = rng.random()
        return window(
            ids, strengths, kind="sample", split="score", context=context, quantile=quantile
        )

    ids = {i: rng.integers(0, 60, rng.choice(lengths)).tolist() for i in range(150)}
    corpus = corpus_of({i: [3] for i in range(10)}, ids, windows=150)
    known = evidence(3, [one(i) for i in range(windows)])
    return Material(known, corpus, strata_of(corpus, known), seed, VOCABULARY.special_ids)


def patterns(items, stratum):
    kept = [i for i in items if i.stratum == stratum]
    return sorted(tuple(i.marks[i.part].tolist()) for i in kept)


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 0.6), st.integers(0, 1000), st.sampled_from([(16,), (9, 16, 20)]))
def test_wrong_marks_stand_where_right_ones_do_on_silent_tokens(share, seed, lengths):
    plan = fuzzing.plan(
        material(share, seed=seed, lengths=lengths), fuzzing.FuzzingSettings(windows=10)
    )
    right = patterns(plan.items, FIRES)
    assert patterns(plan.items, "within") == patterns(plan.items, "elsewhere") == right
    contexts = [i.window.context for i in plan.items]
    assert len(set(contexts)) == len(contexts)
    for item in plan.items:
        activations, part = item.window.activations, item.part
        assert not item.marks[: part.start].any()
        assert not item.marks[part.stop :].any()
        assert len(item.marks) == len(activations)
        if item.stratum == FIRES:
            assert (item.marks[part] == is_marked(activations)[part]).all()
        else:
            assert (activations[item.marks] == 0).all()
            assert SPECIAL not in item.window.token_ids[item.marks]
        if item.stratum != "elsewhere":
            assert part.start <= item.window.peak < part.stop


def test_what_fires_everywhere_is_left_out():
    plan = fuzzing.plan(material(share=1.0), fuzzing.FuzzingSettings(windows=10))
    assert list(plan.items) == []
    found = fuzzing.reduce(Judged(plan, "fuzzing", 3, []), 0)
    assert all(np.isnan(e.value) and e.n == 0 for e in found.values())


def test_either_kind_of_wrong_marks_has_a_figure():
    plan = fuzzing.plan(material(), fuzzing.FuzzingSettings(windows=10))
    for wrong, expected in (
        ((), (1.0, 1.0, 1.0)),
        (("within",), (0.75, 0.5, 1.0)),
        (("elsewhere",), (0.75, 1.0, 0.5)),
        (("within", "elsewhere"), (0.5, 0.5, 0.5)),
    ):
        judgments = [
            Judgment(i, np.array([i.stratum in (FIRES, *wrong)], np.float32)) for i in plan.items
        ]
        found = fuzzing.reduce(Judged(plan, "fuzzing", 3, judgments), 0)
        names = ("balanced_accuracy", "within_balanced_accuracy", "elsewhere_balanced_accuracy")
        assert tuple(found[n].value for n in names) == pytest.approx(expected)


@settings(deadline=None, max_examples=25)
@given(st.floats(0, 0.6), st.integers(0, 1000))
def test_a_trial_has_four_windows_next_to_each_other_and_an_intruder(share, seed):
    given_ = material(share, seed=seed)
    plan = intruder.plan(given_, intruder.IntruderSettings(windows=6))
    strengths = sorted((float(w.activations.max()) for w in given_.evidence.windows), reverse=True)
    shown = [w for i in plan.items for w in (i.window, *i.beside)]
    assert len({w.context for w in shown}) == len(shown) == 5 * len(plan.items)
    for item in plan.items:
        assert not item.window.fires
        assert all(w.fires for w in item.beside)
        length = item.part.stop - item.part.start
        assert {len(w.token_ids) for w in item.beside} == {length}
        assert 1 <= item.truth[0] <= 5
        ranks = [strengths.index(float(w.activations.max())) for w in item.beside]
        assert max(ranks) - min(ranks) < 5
    assert len(plan.items) == 6


def test_intruders_stand_anywhere():
    places = [
        int(i.truth[0])
        for seed in range(40)
        for i in intruder.plan(material(seed=seed), intruder.IntruderSettings(windows=6)).items
    ]
    counts = np.bincount(places, minlength=6)[1:]
    assert counts.min() > 0.6 * counts.mean()


def test_accuracy_is_of_the_trials_that_could_be_read():
    plan = intruder.plan(material(), intruder.IntruderSettings(windows=6))
    assert len(plan.items) == 6
    said = [i.truth, i.truth, i.truth % 5 + 1, None] if (i := plan.items[0]) else []
    judgments = [Judgment(i, s) for s in said]
    found = intruder.reduce(Judged(plan, "intruder", 3, judgments), 0)["accuracy"]
    assert (found.value, found.n) == (pytest.approx(2 / 3), 3)
    assert found.ci_low < 2 / 3 < found.ci_high
    assert np.isnan(intruder.reduce(Judged(plan, "intruder", 3, []), 0)["accuracy"].value)


def test_too_few_windows_make_fewer_trials_or_none():
    assert len(intruder.plan(material(windows=14), intruder.IntruderSettings(windows=6)).items) == 2
    assert (
        list(intruder.plan(material(windows=4), intruder.IntruderSettings(windows=6)).items) == []
    )


@pytest.mark.parametrize("name", ["fuzzing", "intruder"])
def test_the_prompt_marks_what_the_items_mark(name):
    plan = SCORERS[name].plan(material(), SCORERS[name].settings(windows=5))
    todo = tuple(range(len(plan.items)))
    job = JudgeJob(
        scorer=SCORERS[name],
        plan=plan,
        label_of=3,
        label="a label",
        prompt=load_prompt(name, BUNDLED),
        vocabulary=VOCABULARY,
        settings=JudgeSettings("m", 0.0, 50),
        todo=todo,
    )
    system, user = (m["content"] for m in job.messages())
    assert "between << and >>" in user
    assert "<<" not in system
    for item in plan.items:
        marked_first = int(item.window.token_ids[item.marks][0])
        assert f"<< w{marked_first}" in user
    lines = [line for line in user.splitlines() if "<<" in line][1:]
    assert len(lines) == len(plan.items) * (5 if name == "intruder" else 1)


def test_replies_are_read_or_missing():
    items = [None] * 4
    text = json.dumps({"right": [1, 3], "wrong": [2, 3]})
    assert {k: v[0] for k, v in fuzzing.SCORER.task.read(text, items, False).items()} == {
        0: 1,
        1: 0,
    }
    sets = [{"n": 1, "intruder": 5}, {"n": 2, "intruder": 6}, {"n": "3"}]
    read = intruder.SCORER.task.read(json.dumps({"sets": sets}), items, False)
    assert {k: v[0] for k, v in read.items()} == {0: 5}
    for lost in ({"n": 9, "intruder": 1}, {"n": 3, "intruder": 0}, {"n": 0, "intruder": 1}):
        with pytest.raises(Miscounted):
            intruder.SCORER.task.read(json.dumps({"sets": [*sets, lost]}), items, False)
