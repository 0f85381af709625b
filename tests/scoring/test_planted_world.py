"""Every scorer on a corpus with known firings, by judges with known errors: do scores tell them?

The judges answer items, not requests: what is tested is which windows are drawn, how answers are
weighed and what the intervals hold. 500 features times all scorers over HTTP would add only time;
that requests and replies carry the items is tested for each scorer by itself.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from scipy.stats import binom

from autointerp.evidence.corpus import Corpus
from autointerp.evidence.store import EvidenceStore
from autointerp.evidence.window import FeatureEvidence
from autointerp.metrics.confusion import Confusion
from autointerp.metrics.estimates import Estimate
from autointerp.metrics.metrics import auroc
from autointerp.metrics.population import METRICS, population
from autointerp.runs.directory import Run
from autointerp.scoring import SCORERS
from autointerp.scoring.null import Labeled, null_partners
from autointerp.scoring.scorebook import Scorebook
from autointerp.scoring.scorer import Judged, Material, Plan, Scorer
from autointerp.scoring.scorers.choices import KnownLabels
from autointerp.scoring.strata import Stratum, strata_of
from tests.conftest import run_command
from tests.support.planted_world import WINDOW, Judge, World, make_judge, make_world

KEPT, MANY = 25, 60  # activating windows a scorer may draw on, and those for what it estimates
SEED = 0
EXACT = ("detection", "discrimination")  # scorers whose truth `truth_of` has in closed form
BLIND = 0.3  # how often a judge that knows nothing says yes, where no chance is known


@dataclass
class Collected:
    world: World
    evidence: dict[int, FeatureEvidence]
    strata: dict[int, list[Stratum]]
    corpus: Corpus
    labels: KnownLabels
    nulls: dict[int, int]
    known_plans: dict[str, list[Plan]] = field(default_factory=dict)

    def material(self, feature: int, kept: int = KEPT) -> Material:
        evidence = self.evidence[feature]
        windows = [w for w in evidence.windows if w.split != "score" or w.rank < kept]
        evidence = replace(evidence, windows=windows)
        return Material(evidence, self.corpus, self.strata[feature], SEED, labels=self.labels)

    def plans(self, scorer: Scorer) -> list[Plan]:
        """Of all features, with as many windows as the settings have by default, or nearly."""
        if scorer.name not in self.known_plans:
            windows = 10 if scorer.per_token else 20
            plans = [
                scorer.plan(self.material(feature), scorer.settings(windows=windows))
                for feature in self.evidence
            ]
            self.known_plans[scorer.name] = plans
        return self.known_plans[scorer.name]


# FADE's ratings are of three steps, for which the planted judge has no error rates: test_fade.py.
JUDGED = [name for name in SCORERS if name != "fade"]


@pytest.fixture(scope="module")
def collected(tmp_path_factory) -> Collected:
    folder = tmp_path_factory.mktemp("world")
    world = make_world(folder)
    settings = {
        "cache": world.cache, "out": folder / "out", "window-length": WINDOW, "window-before": 11,
        "score-windows": MANY, "batch-contexts": 256, "top-windows": 5, "negative-windows": 5,
    }  # fmt: skip
    flags = [str(part) for name, value in settings.items() for part in (f"--{name}", value)]
    code, _, text = run_command("collect", *flags)
    assert code == 0, text
    run = Run(folder / "out")
    store = EvidenceStore(run.windows, run.features)
    evidence = {e.feature: e for e in store.read(world.alive())}
    labeled = [Labeled(f, f"label {f}", e.n_active) for f, e in evidence.items()]
    nulls = null_partners(labeled, SEED)
    corpus = Corpus.read(run.corpus)
    strata = {f: strata_of(corpus, e) for f, e in evidence.items()}
    return Collected(world, evidence, strata, corpus, KnownLabels(labeled), nulls)


def judged(plan: Plan, scorer: Scorer, judge: Judge, wrong: int | None = None) -> Judged:
    """By the feature's own label, or by that of the feature `wrong`."""
    blind = None if wrong is None else (scorer.chance or BLIND)
    judgments = judge.judge(plan.feature, plan.items, blind)
    return Judged(plan, scorer.name, plan.feature if wrong is None else wrong, judgments)


def test_evidence_is_as_planted(collected):
    world = collected.world
    for feature, evidence in collected.evidence.items():
        assert evidence.n_active == world.fires[feature].sum()
        for window in evidence.of("score", "top", "sample"):
            place = slice(window.start, window.start + WINDOW)
            assert (window.token_ids == world.token_ids[window.context, place]).all()
            assert ((window.activations > 0) == world.fires[feature, window.context, place]).all()
        silent = np.concatenate([s.windows for s in collected.strata[feature]])
        for number in silent[::100]:
            window = collected.corpus.silent_window(int(number))
            assert world.firings_in[feature, window.context, window.start] == 0


def truth_of(collected: Collected, scorer: Scorer, judge: Judge, feature: int) -> float:
    """What the scorer's metric is without sampling: exact, or of all the windows there are."""
    world = collected.world
    if scorer.name == "detection":
        silent = world.firings_in[feature] == 0
        tempted = (world.tempts[feature] & silent).sum() / silent.sum()
        alarms = tempted * judge.tempted[feature] + (1 - tempted) * judge.alarm[feature]
        return float(judge.hit[feature] + 1 - alarms) / 2
    if scorer.name == "discrimination":
        return float(judge.hit[feature])
    material = collected.material(feature, kept=MANY)
    available = len(material.evidence.of("score", "sample"))
    windows = 2 * available if scorer.per_token else available
    plan = scorer.plan(material, scorer.settings(windows=windows))
    # The judge's own chance is averaged out: an estimate of so few windows would not do for truth.
    again = [judged(plan, scorer, replace(judge, seed=judge.seed + 100 + i)) for i in range(4)]
    return float(np.mean([scorer.reduce(one, SEED)[scorer.metric].value for one in again]))


def holds(estimate: Estimate, truth: float) -> bool:
    return estimate.ci_low - 1e-9 <= truth <= estimate.ci_high + 1e-9


@pytest.mark.parametrize("name", JUDGED)
def test_the_interval_holds_the_truth(collected, name):
    scorer, judge = SCORERS[name], make_judge(collected.world)
    held = []
    # Where the truth is not known in closed form a part of the features has to do.
    for plan in collected.plans(scorer)[:: 2 if scorer.name in EXACT else 6]:
        estimate = scorer.reduce(judged(plan, scorer, judge), SEED)[scorer.metric]
        held.append(holds(estimate, truth_of(collected, scorer, judge, plan.feature)))
    # 24 of 240 intervals may miss, 11 of 80: more would come once in a thousand times.
    assert sum(held) >= binom.ppf(0.001, len(held), 0.95)


@pytest.mark.parametrize("name", [n for n in JUDGED if SCORERS[n].needs_label])
def test_right_labels_score_over_wrong_ones_which_score_at_chance(collected, name):
    scorer, judge = SCORERS[name], make_judge(collected.world, seed=1)
    other = replace(judge, seed=2)
    book = Scorebook(collected.nulls, SEED, None)
    shuffled = Scorebook(collected.nulls, SEED, None)
    nulls = collected.nulls
    plans = collected.plans(scorer)[:: 4 if scorer.per_token else 2]
    for plan in plans:
        null = judged(plan, scorer, other, wrong=nulls[plan.feature])
        book.take(judged(plan, scorer, judge))
        book.take(null)
        wrong = judged(plan, scorer, judge, wrong=nulls[plan.feature])
        shuffled.take(replace(wrong, label_of=plan.feature))
        shuffled.take(null)

    def of(scores):
        found = [s for each in scores.values() for s in each if s.metric == scorer.metric]
        values = np.array([s.estimate.value for s in found])
        return values, np.array([s.p_value for s in found], dtype=float)

    right, p_right = of(book.scores())
    wrong, p_wrong = of(shuffled.scores())
    assert len(right) == len(wrong) == len(plans)
    both = np.concatenate([right, wrong])
    area = auroc(np.arange(len(both)) < len(right), both)
    chance = scorer.chance if scorer.chance is not None else 0.0 if scorer.per_token else 0.5
    if scorer.metric == "accuracy" and scorer.chance is None:
        # Of classes that are not of equal size, a judge who knows nothing is right more often.
        fires = np.array([bool(item.truth[0]) for plan in plans for item in plan.items])
        chance = float(np.where(fires, BLIND, 1 - BLIND).mean())
    error = wrong.std(ddof=1) / np.sqrt(len(wrong))
    # Where p values are as discrete as the scores, they are uniform on the values they take.
    taken = np.unique(p_wrong)
    distance = np.abs([(p_wrong <= p).mean() - p for p in taken]).max()
    assert area >= 0.99
    assert abs(wrong.mean() - chance) < 3 * error
    assert distance < 1.949 * np.sqrt(2 / len(wrong))  # Kolmogorov–Smirnov, two samples, .001
    assert np.median(p_right) <= 0.01


def of_corpus(collected: Collected, judge: Judge, feature: int) -> dict[str, float]:
    """The judge's metrics over every window of the corpus."""
    fires = collected.world.firings_in[feature] > 0
    said = judge.everywhere(feature)
    found = Confusion(
        (fires & said).sum(), (~fires & said).sum(), (fires & ~said).sum(), (~fires & ~said).sum()
    )
    return {name: float(getattr(found, name)) for name in METRICS}


@pytest.mark.parametrize("by_count", [False, True])
def test_population_metrics_are_those_of_all_windows(collected, by_count):
    """Weighted strata of a few dozen windows against the judge's word on every window there is."""
    scorer = SCORERS["detection"]
    judge = make_judge(collected.world, seed=3, by_count=by_count)
    answers = [scorer.counts(judged(plan, scorer, judge)) for plan in collected.plans(scorer)]
    estimates = population(answers, SEED, max_width=1.0)
    truths = [of_corpus(collected, judge, feature) for feature in collected.evidence]
    for metric in METRICS:
        pairs = [(e[metric], t[metric]) for e, t in zip(estimates, truths, strict=True)]
        held = [holds(estimate, truth) for estimate, truth in pairs]
        assert sum(held) >= binom.ppf(0.001, len(held), 0.95), metric
        errors = np.array([estimate.value - truth for estimate, truth in pairs])
        assert abs(errors.mean()) < 0.05, metric
        truth = np.array([truth for _, truth in pairs])
        assert np.corrcoef(truth, truth + errors)[0, 1] > 0.7


def test_recall_is_that_of_windows_not_of_firings(collected):
    """Windows with several firings are drawn more often, and here are found more often as well.

    Counted alike they put the recall .05 too high for the tenth of the features that fire most
    often in a window; weighed, .02 too low.
    """
    scorer = SCORERS["detection"]
    judge = make_judge(collected.world, seed=3, by_count=True)
    plans = collected.plans(scorer)

    def firings(plan: Plan) -> float:
        windows = [item.window for item in plan.items if item.truth[0] > 0]
        return float(np.mean([(window.activations > 0).sum() for window in windows]))

    alike, weighed = [], []
    for plan in sorted(plans, key=firings)[-len(plans) // 10 :]:
        truth = of_corpus(collected, judge, plan.feature)["recall"]
        again = [judged(plan, scorer, replace(judge, seed=seed)) for seed in range(4, 10)]
        found = [scorer.counts(each) for each in again]
        alike.append(np.mean([hits / n for hits, n in (c.firing() for c in found)]) - truth)
        weighed.append(np.mean([h / n for h, n in (c.firing_windows() for c in found)]) - truth)
    assert abs(np.mean(weighed)) < 0.03 < np.mean(alike)
