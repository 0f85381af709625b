"""Each protocol against the other tool's own code, on the same windows and the same judge's words.

tests/data/protocols holds what their code chose, showed and scored, written by
scripts/peer_samples/protocol_samples.py; made_by.json says which commits were run.
"""

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autointerp.metrics import metrics
from autointerp.prompting.prompts import BUNDLED, load_prompt
from autointerp.scoring import SCORERS
from autointerp.scoring.judge import JudgeJob, JudgeSettings
from autointerp.scoring.protocols.peer_replies import numbers_said, read_ones_and_zeros
from autointerp.scoring.protocols.peer_windows import by_quantiles, interleaved, weighted
from autointerp.scoring.scorer import FIRES, Item, Judged, Judgment, Material, answer
from autointerp.scoring.scorers import bills, saebench
from autointerp.scoring.strata import strata_of
from autointerp.vocabulary import Vocabulary
from tests.support.samples import corpus_of, evidence, window

DATA = Path(__file__).parents[2] / "data" / "protocols"
EVIDENCE, DELPHI, SAEBENCH, BILLS, NEURONPEDIA = (
    json.loads((DATA / f"{name}.json").read_text())
    for name in ("evidence", "delphi", "saebench", "bills", "neuronpedia")
)
REPLIES = json.loads((DATA.parent / "metrics" / "saebench.json").read_text())
VOCABULARY = Vocabulary(tuple(f" w{i}".encode() for i in range(40)), frozenset())
NAMED = (7, 8)  # the words that the recorded judge looks for
FEATURE, EXACT = 3, 1e-6


def text_of(ids):
    return VOCABULARY.text(ids)


def material(silent, firing=()) -> Material:
    """The recorded windows: all activating ones as a sample, and so many silent ones."""
    shown = [
        window(w["ids"], w["activations"], kind="sample", split="score", context=i)
        for i, w in enumerate(EVIDENCE["activating"])
    ]
    shown = [replace(w, text=text_of(w.token_ids.tolist())) for w in shown]
    tokens = dict(enumerate(w["ids"] for w in EVIDENCE["silent"][:silent]))
    corpus = corpus_of({i: [FEATURE] for i in firing}, tokens, windows=silent)
    known = evidence(FEATURE, shown)
    return Material(known, corpus, strata_of(corpus, known), 0)


def shown_texts(plan, name):
    """Each item's text as the scorer shows it, the corpus's being made of their tokens."""
    items = [
        replace(item, window=replace(item.window, text=text_of(item.window.token_ids.tolist())))
        for item in plan.items
    ]
    task = SCORERS[name].task
    common = task.variables(items, VOCABULARY)
    return [task.render(1, item, VOCABULARY, **common)["text"] for item in items]


def same_texts(shown, recorded):
    """Whatever their order, and the space that they begin with."""
    return sorted(t.lstrip() for t in shown) == sorted(t.lstrip() for t in recorded)


def says(text):
    """The recorded judge, as scripts/peer_samples/protocol_samples.py has it."""
    runs = re.findall("<<(.*?)>>", text)
    return any(f" w{n} " in f"{part} " for part in runs or [text] for n in NAMED)


def scores(name, plan):
    judgments = [
        Judgment(item, answer(says(text)))
        for item, text in zip(plan.items, shown_texts(plan, name), strict=True)
    ]
    return SCORERS[name].reduce(Judged(plan, name, FEATURE, judgments), 0)


@pytest.mark.parametrize("recorded", DELPHI["choices"], ids=lambda one: str(one["windows"]))
def test_delphi_draws_these_windows_from_its_quantiles(recorded):
    chosen = by_quantiles(range(recorded["windows"]), 50, 10, random.Random(22))
    assert chosen == recorded["chosen"]


@pytest.mark.parametrize("kind", ["detection", "fuzzing"])
def test_delphi_shows_and_scores_the_same(kind):
    name = f"delphi_{kind}"
    plan = SCORERS[name].plan(material(50), SCORERS[name].settings())
    assert same_texts(shown_texts(plan, name), DELPHI["scored"][kind]["texts"])
    found, recorded = scores(name, plan), DELPHI["scored"][kind]["metrics"]
    assert found["balanced_accuracy"].value == pytest.approx(recorded["accuracy"], abs=EXACT)
    assert found["balanced_accuracy"].n == 100
    for ours, theirs in (("f1", "f1_score"), ("precision", "precision"), ("recall", "recall")):
        assert found[f"{name}_{ours}"].value == pytest.approx(recorded[theirs], abs=EXACT)


@pytest.mark.parametrize("recorded", DELPHI["replies"], ids=lambda one: one["reply"])
def test_delphi_reads_the_same_in_a_reply(recorded):
    items = [Item(window([0], [1]), FIRES, answer(True))] * 5
    found = read_ones_and_zeros(recorded["reply"], items, False)
    assert [bool(found[i][0]) for i in sorted(found)] == (recorded["read"] or [])


@pytest.mark.parametrize("recorded", REPLIES, ids=lambda one: one["reply"] or "empty")
def test_saebench_reads_the_same_in_a_reply(recorded):
    assert numbers_said(recorded["reply"]) == recorded["read"]


def test_saebench_scores_the_same_windows_the_same():
    texts, active = SAEBENCH["texts"], SAEBENCH["active"]
    items = [
        Item(window([0], [1], text=text), FIRES if fires else saebench.RANDOM, answer(fires))
        for text, fires in zip(texts, active, strict=True)
    ]
    assert [i for i, text in enumerate(texts, 1) if says(text)] == numbers_said(SAEBENCH["reply"])
    read = saebench.read(SAEBENCH["reply"], items, False)
    judgments = [Judgment(item, read[i]) for i, item in enumerate(items)]
    plan = material(10).plan(items)
    found = saebench.reduce(Judged(plan, "saebench", FEATURE, judgments), 0)
    assert found["accuracy"].value == pytest.approx(SAEBENCH["score"], abs=EXACT)
    assert found["accuracy"].n == SAEBENCH["windows"] == 14


def test_saebench_judges_each_window_as_often():
    """2 of the first 12, and 2 of 7 that are drawn by the square of their activation."""
    one = material(10)
    ranked = sorted(one.evidence.windows, key=lambda w: -w.activations.max())
    place = {w.context: i for i, w in enumerate(ranked)}
    judged, seeds = np.zeros(len(ranked)), 1000
    for seed in range(seeds):
        plan = saebench.plan(replace(one, seed=seed), saebench.SAEBenchSettings())
        places = [place[i.window.context] for i in plan.items if i.stratum == FIRES]
        assert sum(p < 12 for p in places) == SAEBENCH["top"]
        assert sum(p >= 12 for p in places) == SAEBENCH["weighted"]
        assert len(plan.items) == SAEBENCH["windows"]
        judged[places] += 1 / seeds
    recorded = np.array(SAEBENCH["judged"])
    # Either is a share of hundreds of draws: 4 of its standard errors, and all of them together.
    error = np.sqrt(recorded.clip(0.01) * (1 / 400 + 1 / seeds))
    assert (np.abs(judged - recorded) < 4 * error).all()
    assert ((judged - recorded) ** 2 / error**2).sum() < 1.6 * len(recorded)


def test_weights_are_squares():
    """The first that is drawn: 9 times as often where the activation is 3 times as large."""
    pair = [window([0], [3.0], context=0), window([0], [1.0], context=1)]
    first = [weighted(pair, 1, np.random.default_rng(i))[0].context for i in range(2000)]
    assert np.mean(first) == pytest.approx(0.1, abs=0.03)


def test_saebench_counts_random_windows_as_silent_and_looks_them_up_beside():
    plan = saebench.plan(material(10, firing=[2, 5]), saebench.SAEBenchSettings())
    assert sorted(i.stratum for i in plan.items).count(saebench.RANDOM_FIRING) == 2
    assert sum(i.truth[0] > 0 for i in plan.items) == 4
    fires = [i.stratum in (FIRES, saebench.RANDOM_FIRING) for i in plan.items]
    judgments = [Judgment(i, answer(f)) for i, f in zip(plan.items, fires, strict=True)]
    found = saebench.reduce(Judged(plan, "saebench", FEATURE, judgments), 0)
    assert found["accuracy"].value == pytest.approx(12 / 14)
    assert found["saebench_checked_accuracy"].value == 1


def test_saebench_s_example_is_no_answer_and_never_the_right_one():
    plan = saebench.plan(material(10), saebench.SAEBenchSettings())
    shown = saebench.example(plan.items)
    right = [i for i, item in enumerate(plan.items, 1) if item.truth[0] > 0]
    assert len(shown) == len(right) == 4
    assert shown != right
    assert saebench.read(", ".join(map(str, shown)), plan.items, False) == {}
    assert len(saebench.read(", ".join(map(str, right)), plan.items, False)) == 14


def test_bills_takes_these_places_among_the_strongest():
    assert interleaved(range(20), 5, 4, 2) == BILLS["places"]


def predicted(ids):
    """The recorded simulator: 8 on the words of the label and 1 on the word after them."""
    hits = [i in NAMED for i in ids]
    return np.array([8.0 if h else float(b) for h, b in zip(hits, [False, *hits], strict=False)])


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("correlation", "top and random"),
        ("bills_top_correlation", "top"),
        ("bills_random_correlation", "random"),
    ],
)
def test_bills_scores_the_same_windows_the_same(metric, kind):
    strongest = sorted(EVIDENCE["activating"], key=lambda w: -max(w["activations"]))
    silent = [w | {"activations": [0.0] * len(w["ids"])} for w in EVIDENCE["silent"][:4]]
    records = [(w, FIRES) for w in strongest[:5]]
    records += [(w, bills.RANDOM) for w in (*silent, strongest[30])]
    items = [
        Item(window(w["ids"], w["activations"]), kind, np.array(w["activations"], np.float32))
        for w, kind in records
    ]
    plan = material(10).plan(items)
    judgments = [
        Judgment(i, predicted(i.window.token_ids.tolist()).astype(np.float32)) for i in plan.items
    ]
    found = bills.reduce(Judged(plan, "bills", FEATURE, judgments), 0)[metric]
    assert found.value == pytest.approx(BILLS["scores"][kind], abs=EXACT)


def test_bills_has_every_other_of_the_strongest_and_the_corpus_as_it_comes():
    one = material(40, firing=range(20))
    plan = bills.plan(one, bills.BillsSettings())
    ranked = sorted(one.evidence.windows, key=lambda w: -w.activations.max())
    top = [i.window.context for i in plan.items if i.stratum == FIRES]
    assert sorted(top) == sorted(w.context for w in ranked[1:10:2])
    drawn = [i for i in plan.items if i.stratum == bills.RANDOM]
    assert len(drawn) == 5
    assert not {i.window.context for i in drawn} & set(top)
    fires = []
    for seed in range(200):
        items = bills.plan(replace(one, seed=seed), bills.BillsSettings()).items
        fires += [i.window.fires for i in items if i.stratum == bills.RANDOM]
    assert np.mean(fires) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("kind", ["recall", "fuzz"])
def test_neuronpedia_shows_and_scores_the_same(kind):
    name = f"neuronpedia_{kind}"
    plan = SCORERS[name].plan(material(5), SCORERS[name].settings())
    recorded = NEURONPEDIA[kind]
    assert same_texts(shown_texts(plan, name), recorded["texts"])
    found = scores(name, plan)["balanced_accuracy"]
    assert found.value == pytest.approx(recorded["score"], abs=EXACT)
    assert found.n == 25


def test_neuronpedia_alt_is_right_for_two_thirds_where_all_match():
    scorer = SCORERS["neuronpedia_alt"]
    plan = scorer.plan(material(5), scorer.settings())
    kinds = [item.stratum for item in plan.items]
    assert [kinds.count(kind) for kind in (FIRES, "silent", "decoy")] == [20, 5, 5]
    judgments = [Judgment(item, answer(True)) for item in plan.items]
    found = scorer.reduce(Judged(plan, scorer.name, FEATURE, judgments), 0)
    assert found["accuracy"].value == pytest.approx(2 / 3)
    assert found["neuronpedia_alt_balanced_accuracy"].value == pytest.approx(0.5)
    read = scorer.task.read
    for reply, said in (
        ('{"match": true, "reason": "yes"}', True),
        ('{"match": false, "reason": "no {"}', False),
        ('```json\n{"match": false, "reason": "x"}\n```', False),
        ('{"match": "true"}', None),
        ("true", None),
    ):
        found = read(reply, plan.items[:1], False)
        assert (bool(found[0][0]) if found else None) == said, reply


@pytest.mark.parametrize("name", [n for n, s in SCORERS.items() if s.protocol])
def test_what_is_not_defined_is_missing(name):
    """Without any answer, and of yes-or-no questions without one of the two classes."""
    scorer = SCORERS[name]
    plan = scorer.plan(material(10), scorer.settings())
    assert plan.items
    unread = Judged(plan, name, FEATURE, [Judgment(item, None) for item in plan.items])
    assert all(np.isnan(e.value) for e in scorer.reduce(unread, 0).values())
    if not scorer.per_token:
        yes = [Judgment(i, answer(True)) for i in plan.items if i.truth[0] > 0]
        found = scorer.reduce(Judged(plan, name, FEATURE, yes), 0)
        assert all(np.isnan(e.value) for m, e in found.items() if m.endswith("balanced_accuracy"))


@pytest.mark.parametrize("name", [n for n, s in SCORERS.items() if s.protocol])
def test_too_little_evidence_is_no_error(name):
    few = material(0)
    for shown in (few.evidence.windows[:1], []):
        less = replace(few, evidence=replace(few.evidence, windows=list(shown)))
        plan = SCORERS[name].plan(less, SCORERS[name].settings())
        found = SCORERS[name].reduce(Judged(plan, name, FEATURE, []), 0)
        assert all(e.n == 0 for e in found.values())


@pytest.mark.parametrize("name", ["neuronpedia_recall", "neuronpedia_fuzz", "delphi_fuzzing"])
def test_an_example_in_a_prompt_has_texts_and_answers_in_number(name):
    prompt = load_prompt(name, BUNDLED)
    plan = SCORERS[name].plan(material(5), SCORERS[name].settings())
    job = JudgeJob(
        scorer=SCORERS[name],
        plan=plan,
        label_of=FEATURE,
        label="w7 or w8",
        prompt=prompt,
        vocabulary=VOCABULARY,
        settings=JudgeSettings("m", 0.0, SCORERS[name].protocol.items),
        todo=tuple(range(len(plan.items))),
    )
    request = job.request()
    assert request.schema is None
    system, user = (m["content"] for m in request.messages)
    assert len(re.findall(r"^Example \d: ", user, re.MULTILINE)) == 5
    parts = re.findall(r"((?:^Example \d: .*\n)+)Reply: (.*)$", system, re.MULTILINE)
    assert [len(texts.splitlines()) for texts, _ in parts] == [5, 5, 5]
    assert [len(json.loads(reply)) for _, reply in parts] == [5, 5, 5]


def test_f1_has_the_value_of_the_field_s_and_an_interval_around_it():
    rng = np.random.default_rng(1)
    for _ in range(20):
        truth, said = rng.random(60) < 0.5, rng.random(60) < 0.4
        items = [Item(window([0], [1]), FIRES, answer(bool(t))) for t in truth]
        judgments = [Judgment(i, answer(bool(s))) for i, s in zip(items, said, strict=True)]
        plan = material(10).plan(items)
        found = SCORERS["delphi_detection"].reduce(
            Judged(plan, "delphi_detection", FEATURE, judgments), 0
        )["delphi_detection_f1"]
        assert found.value == pytest.approx(float(metrics.BINARY["f1"](truth, said)))
        assert found.ci_low < found.value < found.ci_high


def test_the_page_names_every_scorer_and_what_was_run():
    page = (Path(__file__).parents[3] / "docs" / "protocols.md").read_text()
    for name, scorer in SCORERS.items():
        if scorer.protocol is not None:
            assert f"`{name}`" in page
            assert f"`{scorer.protocol.name}`" in page
    for repository, commit in json.loads((DATA / "made_by.json").read_text()).items():
        assert repository in page
        assert commit[:7] in page
