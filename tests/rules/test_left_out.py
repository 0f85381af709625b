"""A rule's confidence is what it gets on text it was not learned from."""

import json
from dataclasses import replace

import numpy as np
import pytest

from autointerp.evidence.window import FeatureEvidence, Window
from autointerp.rules.left_out import documents_of
from autointerp.rules.lexical import LexicalLabeler
from autointerp.rules.literals import Tables, build_stream
from autointerp.rules.rules import FOLDS, LeftOut, Rule
from autointerp.rules.search import Search
from autointerp.vocabulary import Vocabulary

WORDS = 60
LENGTH = 16
VOCABULARY = Vocabulary(tuple(f" w{i}".encode() for i in range(WORDS)), frozenset())
LABELER = LexicalLabeler(VOCABULARY)
APART = 100  # contexts between windows, so that each is a document


def window(context, split, rng, chances):
    """A window whose tokens fire with the chances of their words [words]."""
    ids = rng.integers(0, WORDS, LENGTH)
    activations = np.where(rng.random(LENGTH) < chances[ids], rng.uniform(1, 4, LENGTH), 0)
    fires = bool(activations.any())
    return Window(
        *("sample" if fires else "negative", split, 0, context, 0, int(activations.argmax())),
        *(ids.astype(np.int32), activations.astype(np.float32), ""),
    )


def evidence(windows):
    return FeatureEvidence(0, 100, 0.01, 2.0, 4.0, window_density=0.3, windows=windows)


def feature(seed, label=30, score=60):
    """Some words fire often, all others now and then: a rule is tempted to name chance ones."""
    rng = np.random.default_rng(seed)
    chances = np.full(WORDS, rng.uniform(0, 0.08))
    chances[: rng.integers(1, 4)] = rng.uniform(0.3, 1)
    splits = ["label"] * label + ["score"] * score
    return evidence([window(APART * i, s, rng, chances) for i, s in enumerate(splits)])


def unseen_f1(rule, windows):
    said = np.concatenate(LABELER.predict(rule, windows)) > 0
    fired = np.concatenate([w.activations for w in windows]) > 0
    return 2 * (said & fired).sum() / (said.sum() + fired.sum())


def test_confidence_is_f1_on_unseen_windows_on_average():
    found = []
    for seed in range(40):
        made = feature(seed)
        rule = LABELER.learn(made)
        seen = replace(rule, left_out=None).confidence
        found.append((seen, rule.confidence, unseen_f1(rule, made.of("score"))))
    seen, confidence, unseen = np.array(found).T
    assert np.mean(seen - unseen) > 0.05
    # A little low where documents have nothing in common; on the demo's 100,000 tokens, whose
    # documents are few and alike, it is as much too high.
    assert -0.04 < np.mean(confidence - unseen) < 0.01
    assert np.std(confidence - unseen) < np.std(seen - unseen)
    assert np.corrcoef(confidence, unseen)[0, 1] > np.corrcoef(seen, unseen)[0, 1]


def test_counts_are_those_of_rules_learned_without_each_fold():
    """By the windows alone: the fold cut out, and a search anew."""
    made = feature(3)
    windows = made.of("label", "top", "sample", "negative")
    fires = np.array([w.fires for w in windows])
    # Each window is a document here, and the firing ones are dealt out first.
    order = np.argsort(~fires, kind="stable")
    fold = np.empty(len(windows), dtype=int)
    fold[order] = np.arange(len(windows)) % FOLDS
    hits = matched = 0
    for k in range(FOLDS):
        rest = [w for w, of in zip(windows, fold, strict=True) if of != k]
        out = [w for w, of in zip(windows, fold, strict=True) if of == k]
        rule = LABELER.learn(evidence(rest))
        said = np.concatenate(LABELER.predict(rule, out)) > 0
        fired = np.concatenate([w.activations for w in out]) > 0
        hits, matched = hits + (said & fired).sum(), matched + said.sum()
    counts = LABELER.learn(made).left_out
    firing = sum(int((w.activations > 0).sum()) for w in windows)
    assert (counts.firing, counts.documents) == (firing, fires.sum())
    # Weights of silent windows are those of all windows there, and candidates those of all.
    assert counts.hits == pytest.approx(hits, abs=0.1 * firing)
    assert counts.matched == pytest.approx(matched, abs=0.1 * firing)


def test_leaving_a_part_out_does_not_touch_the_search_itself():
    windows = feature(1).of("label")
    stream = build_stream(Tables(VOCABULARY), windows)
    target = np.concatenate([w.activations for w in windows])
    search = Search(stream, target, np.ones(len(target)))
    before = [(one.current, one.context) for one in search.literals()]
    parts = [np.arange(len(target)) % 3 == k for k in range(3)]
    for part, other in zip(parts, search.without(parts), strict=True):
        assert any(part)
        assert list(other.literals())
    assert [(one.current, one.context) for one in search.literals()] == before


def test_text_of_one_document_cannot_be_left_out():
    made = feature(0)
    together = [replace(w, context=w.context // APART % 8) for w in made.windows]
    assert len(set(documents_of(together, np.ones(len(together), bool)).tolist())) == 1
    rule = LABELER.learn(evidence(together))
    assert rule.left_out.documents == 0
    seen = replace(rule, left_out=None).confidence
    assert rule.confidence == pytest.approx(0.65 * seen)


def test_windows_of_one_document_are_left_out_together():
    """A word that fires in one document alone teaches nothing about the others."""
    rng = np.random.default_rng(0)
    chances = np.zeros(WORDS)
    windows = [window(APART * i, "label", rng, chances) for i in range(20)]
    chances[0] = 1.0
    windows += [window(APART * 50 + i % 8, "label", rng, chances) for i in range(60)]
    fires = [w for w in windows if w.fires]
    assert len(set(documents_of(fires, np.ones(len(fires), bool)).tolist())) == 1
    rule = LABELER.learn(evidence(windows))
    assert replace(rule, left_out=None).confidence > 0.85
    assert (rule.left_out.hits, rule.left_out.documents) == (0, 1)
    assert rule.confidence < 0.7


def test_a_rule_of_an_earlier_version_is_read_and_keeps_its_confidence():
    rule = LABELER.learn(feature(0))
    assert Rule.from_json(rule.to_json()) == rule
    written = json.loads(rule.to_json())
    assert written.pop("left_out")
    old = Rule.from_json(json.dumps(written))
    assert old.left_out is None
    assert old.confidence == pytest.approx(
        2 * rule.precision * rule.recall / (rule.precision + rule.recall)
    )


def test_more_documents_count_for_more():
    rule = LABELER.learn(feature(0))
    few, many = (
        replace(rule, precision=1.0, recall=1.0, left_out=LeftOut(20, 100, 100, n)).confidence
        for n in (2, 200)
    )
    assert few > many
    assert many == pytest.approx(0.2 + 0.8 / (2 * FOLDS - 1), abs=0.02)
