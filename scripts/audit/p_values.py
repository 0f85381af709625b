"""P-values: uniform for useless labels at every density, and what q-values find."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

import autointerp
from audit.findings import Claim, Findings
from autointerp.evidence.corpus import Corpus
from autointerp.metrics.estimates import Counts
from autointerp.metrics.null_distribution import among_nulls
from autointerp.metrics.population import population
from autointerp.rules.lexical import LexicalLabeler
from autointerp.rules.rules import Rule
from autointerp.runs.directory import Run
from autointerp.tables.write import read_drafts
from autointerp.vocabulary import Vocabulary

_ALPHA = 0.05
_SHARES = {"similar": 0.1, "same_token": 0.1, "other": 0.8}
_QUOTAS = {"similar": 6, "same_token": 6, "other": 18}
_FIFTHS = tuple(f"fifth {i}" for i in range(1, 6))
_FOLDS = 10

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]  # n → density, values


def _place(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Densities from 1e-4 to 0.3, uniform in their logarithm, and where they lie in it."""
    place = rng.random(n)
    return 10 ** (3.5 * place - 4), place


def _level(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    density, _ = _place(rng, n)
    return density, 0.5 + 0.08 * rng.standard_normal(n)


def _wider(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    density, place = _place(rng, n)
    return density, 0.5 + (0.02 + 0.12 * place) * rng.standard_normal(n)


def _mostly_flat(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """As a simulation's correlation by rules: most predict nothing, the more so the rarer."""
    density, place = _place(rng, n)
    hit = rng.random(n) < 0.06 + 0.5 * place**2
    return density, np.where(hit, np.abs(rng.normal(0, 0.05 + 0.2 * place)), 0.0)


def _related(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Some other features' labels are nearly right."""
    density, place = _place(rng, n)
    right = rng.random(n) < 0.03 + 0.07 * place
    return density, np.where(right, 0.8, 0.5) + 0.05 * rng.standard_normal(n)


def _of_corpus(metric: str, seed: int, pool: int) -> Draw:
    """A population metric of labels that say yes at the same rate whatever the window."""
    rng = np.random.default_rng([seed, 1])
    density, _ = _place(rng, pool)
    yes = np.clip(2 * density * rng.lognormal(0, 1, pool), 1e-5, 0.9)
    counts = []
    for q, rate in zip(density.tolist(), yes.tolist(), strict=True):
        n = {"fires": 20, **_QUOTAS}
        said = {name: int(rng.binomial(k, rate)) for name, k in n.items()}
        counts.append(Counts(q, _SHARES, said, n))
    # As the product compares them: also where the table calls the value unknown.
    values = np.array([found[metric].value for found in population(counts, seed, 2.0)])

    def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = rng.integers(0, pool, n)
        return density[chosen], values[chosen]

    return draw


def _pooled(values: np.ndarray, nulls: np.ndarray) -> np.ndarray:
    """The share of all nulls that do as well, whatever the density."""
    below = np.searchsorted(np.sort(nulls), values, "left")
    return np.asarray((1 + len(nulls) - below) / (1 + len(nulls)))


def _by_fifth(density: np.ndarray, low: np.ndarray) -> np.ndarray:
    return np.array([low[part].mean() for part in np.array_split(np.argsort(density), 5)])


def _simulated(short: bool, seed: int) -> Findings:
    pool = 2000 if short else 20_000
    kinds: dict[str, Draw] = {
        "level": _level,
        "wider where dense": _wider,
        "mostly flat": _mostly_flat,
        "some nearly right": _related,
        "population F1": _of_corpus("f1", seed, pool),
        "population MCC": _of_corpus("mcc", seed, pool),
    }
    rows: list[tuple[object, ...]] = []
    claims = []
    for n, times in ((100, 30), (500, 12)) if short else ((50, 300), (100, 300), (500, 60)):
        rng = np.random.default_rng([seed, n])
        for name, draw in kinds.items():
            like, pooled = [], []
            for _ in range(times):
                null_density, nulls = draw(rng, n)
                density, values = draw(rng, 500)
                found = among_nulls(values, density, nulls, null_density).p_value
                like.append(_by_fifth(density, found <= _ALPHA))
                pooled.append(_by_fifth(density, _pooled(values, nulls) <= _ALPHA))
            shares = np.mean(like, axis=0)
            rows.append((name, n, "like density", *shares.tolist()))
            rows.append((name, n, "all pooled", *np.mean(pooled, axis=0).tolist()))
            if n >= 100:
                for what, value in (("least", shares.min()), ("largest", shares.max())):
                    claim = f"{what} P(p ≤ .05) of a fifth, {n} nulls, {name}"
                    # Thirty repetitions are off by .01 often, and one cell is at .07 itself.
                    low, high = (0.02, 0.09) if short else (0.03, 0.07)
                    claims.append(Claim(claim, float(value), low, high))
    return Findings(
        "P-values of useless labels",
        "P(p ≤ .05) of labels that say nothing, in fifths of density, from the rarest; against "
        "nulls of like density, and against all nulls alike.",
        ("metric", "nulls", "against", *_FIFTHS),
        rows,
        claims,
    )


def _good(rng: np.random.Generator, draw: Draw, n: int, share: float) -> tuple[np.ndarray, ...]:
    density, values = draw(rng, n)
    good = rng.random(n) < share
    return density, np.where(good, rng.beta(8, 2.5, n), values), good


def _discoveries(short: bool, seed: int) -> Findings:
    kinds: dict[str, Draw] = {
        "level": _level,
        "wider where dense": _wider,
        "population F1": _of_corpus("f1", seed, 2000 if short else 20_000),
    }
    rows: list[tuple[object, ...]] = []
    claims = []
    most = 0.08 if short else 0.05  # of few repetitions it is not known well
    for share in (0.6, 0.2):
        for n in (50, 100, 200, 500):
            for name, draw in kinds.items():
                rng = np.random.default_rng([seed, n])
                power, false = [], []
                for _ in range(6 if short else 60):
                    null_density, nulls = draw(rng, n)
                    density, values, good = _good(rng, draw, 500, share)
                    p_value = among_nulls(values, density, nulls, null_density).p_value
                    found = false_discovery_control(p_value) <= _ALPHA
                    power.append(found[good].mean())
                    false.append((found & ~good).sum() / max(found.sum(), 1))
                fdr, found_share = float(np.mean(false)), float(np.mean(power))
                rows.append((name, share, n, found_share, fdr))
                claims.append(Claim(f"FDR, {share:.0%} good, {n} nulls, {name}", fdr, 0, most))
                if share > 0.5 and n >= 100:
                    what = f"good labels found, {share:.0%} good, {n} nulls, {name}"
                    claims.append(Claim(what, found_share, 0.6, 1))
    return Findings(
        "Discoveries at an FDR of 5 %",
        "Of 500 features some have good labels (scores of Beta(8, 2.5) at any density), the rest "
        "useless ones: the share of good labels with q ≤ .05, and of false ones among all such.",
        ("metric", "good", "nulls", "found", "FDR"),
        rows,
        claims,
    )


def _exhaustive(run: Run) -> pd.DataFrame:
    """feature, balanced accuracy of its rule over all windows of the run's sample of the corpus."""
    corpus = Corpus.read(run.corpus)
    fires = pd.read_parquet(run.corpus, columns=["features"])["features"]
    windows = [corpus.silent_window(i) for i in range(len(fires))]
    pairs = fires.explode().dropna().astype(int)
    labeler = LexicalLabeler(Vocabulary.load(run.vocabulary))
    rows = []
    for draft in read_drafts(run.drafts):
        truth = np.zeros(len(windows), bool)
        truth[pairs.index[pairs == draft.feature]] = True
        if draft.rule is None or not truth.any() or truth.all():
            continue
        said = np.array(labeler.fires(Rule.from_json(draft.rule), windows))
        right = (said[truth].mean() + 1 - said[~truth].mean()) / 2
        rows.append((draft.feature, int(truth.sum()), right))
    return pd.DataFrame(rows, columns=["feature", "windows", "truth"])


def _demo(seed: int) -> list[Findings]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        autointerp.run(out=str(out), features="random:500", scorers="detection,simulation,fuzzing")
        run = Run(out)
        scores = autointerp.load_scores(out)
        labels = autointerp.load_labels(out)
        features = pd.read_parquet(run.features, columns=["feature", "window_density"])
        truths = _exhaustive(run).merge(labels, on="feature")
        return [
            _nulls_of_the_demo(scores.merge(features, on="feature"), seed),
            _one_recall(truths),
        ]


def _nulls_of_the_demo(scores: pd.DataFrame, seed: int) -> Findings:
    rows: list[tuple[object, ...]] = []
    claims = []
    for (scorer, metric), found in scores.groupby(["scorer", "metric"], observed=True):
        known = found[found["null_value"].notna()]
        if len(known) < 200:
            continue
        nulls = known["null_value"].to_numpy(np.float64)
        density = known["window_density"].to_numpy(np.float64)
        rng = np.random.default_rng(seed)
        low = []
        for _ in range(4):
            fold = rng.integers(0, _FOLDS, len(nulls))
            p_value = np.empty(len(nulls))
            for i in range(_FOLDS):
                own, other = fold == i, fold != i
                p_value[own] = among_nulls(
                    nulls[own], density[own], nulls[other], density[other]
                ).p_value
            low.append(_by_fifth(density, p_value <= _ALPHA))
        shares = np.mean(low, axis=0)
        pooled = _by_fifth(density, _pooled(nulls, nulls) <= _ALPHA)
        rows.append((scorer, metric, "like density", *shares.tolist()))
        rows.append((scorer, metric, "all pooled", *pooled.tolist()))
        what = f"P(p ≤ .05) of a fifth, {scorer} {metric}"
        claims.append(Claim(f"largest {what}", float(shares.max()), 0, 0.08))
        if pd.Series(nulls.round(6)).value_counts().iloc[0] < 0.3 * len(nulls):
            claims.append(Claim(f"least {what}", float(shares.min()), 0.025, 0.08))
    return Findings(
        "P-values of the demo's nulls",
        "Every null of 500 features against those of nine tenths of the others, in fifths of "
        "window density. Where most nulls have the same score (a rule that never fires), fewer can "
        "have p ≤ .05.",
        ("scorer", "metric", "against", *_FIFTHS),
        rows,
        claims,
    )


def _one_recall(found: pd.DataFrame) -> Findings:
    found = found[found["detection_balanced_accuracy"].notna()]
    rows: list[tuple[object, ...]] = []
    claims = []
    for name, part in (
        ("all", found),
        ("window density ≥ .2", found[found["window_density"] >= 0.2]),
    ):
        truth, said = part["truth"], part["detection_balanced_accuracy"]
        covered = (part["detection_ci_low"] <= truth) & (truth <= part["detection_ci_high"])
        bias = float((said - truth).mean())
        rows.append((name, len(part), float(truth.mean()), float(said.mean()), covered.mean()))
        claims.append(Claim(f"bias of balanced accuracy, {name}", bias, -0.01, 0.01))
        claims.append(Claim(f"coverage, {name}", float(covered.mean()), 0.9, 1))
    return Findings(
        "Balanced accuracy against every window",
        "Rules run over all windows of the demo's sample of the corpus, against what detection "
        "says of 20 and 30 of them. The truth, too, is of few windows where a feature is rare.",
        ("features", "n", "truth", "detection", "coverage"),
        rows,
        claims,
    )


def audit(short: bool, seed: int) -> list[Findings]:
    found = [_simulated(short, seed), _discoveries(short, seed)]
    return found if short else found + _demo(seed)
