"""Is a rule's confidence its F1 on unseen windows, and do intervals of expected F1 hold?"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import autointerp
from audit.findings import Claim, Findings
from autointerp.evidence.corpus import Corpus
from autointerp.evidence.store import EvidenceStore
from autointerp.metrics.expectation import MIN_MEASURED, expected
from autointerp.rules.lexical import LexicalLabeler
from autointerp.rules.rules import Rule
from autointerp.runs.directory import Run
from autointerp.scoring.scorer import Score
from autointerp.tables.collisions import shares_label
from autointerp.tables.expected_f1 import expected_columns
from autointerp.tables.write import read_drafts, read_scores
from autointerp.vocabulary import Vocabulary

_BINS = 10
_THIRDS = ("rarest third", "middle third", "most frequent third")


def audit(short: bool, seed: int) -> list[Findings]:
    found = [simulated(20 if short else 200, seed)]
    # A third of a few hundred features may be off by so much more by chance.
    most = 0.08 if short else 0.05
    with tempfile.TemporaryDirectory() as folder:
        sizes = [(100_000, 400)] if short else [(100_000, 1500), (400_000, 1500)]
        for tokens, features in sizes:
            out = Path(folder) / str(tokens)
            autointerp.run(
                out=out,
                tokens=tokens,
                features=f"random:{features}",
                seed=seed,
                scorers="detection",
            )
            found += [calibration(Run(out), tokens, most), held(Run(out), tokens, seed)]
    return found


@dataclass(frozen=True)
class Rules:
    """By feature: firings, F1 of tokens on the windows a rule was learned from, its confidence, and
    F1 on unseen windows, as many of them silent for each that fires; float64 [features] each."""

    n: np.ndarray
    seen: np.ndarray
    confidence: np.ndarray
    unseen: np.ndarray


def rules_of(run: Run) -> Rules:
    store = EvidenceStore(run.windows, run.features)
    labeler = LexicalLabeler(Vocabulary.load(run.vocabulary))
    rules = {d.feature: Rule.from_json(d.rule) for d in read_drafts(run.drafts) if d.rule}
    # Scoring windows in which a feature is silent are those of the sample of the corpus.
    corpus, rng = Corpus.read(run.corpus), np.random.default_rng(0)
    rows = []
    for evidence in store.read(sorted(rules)):
        rule = rules[evidence.feature]
        windows = evidence.of("score", "top", "sample")
        silent = np.setdiff1d(np.arange(len(corpus)), corpus.firing(evidence.feature))
        wanted = round(len(windows) * rule.silent_windows / rule.active_windows)
        drawn = rng.choice(silent, min(wanted, len(silent)), replace=False)
        windows = windows + [corpus.silent_window(int(number)) for number in drawn]
        said = np.concatenate(labeler.predict(rule, windows)) > 0
        fired = np.concatenate([w.activations for w in windows]) > 0
        unseen = 2 * (said & fired).sum() / max(1, said.sum() + fired.sum())
        seen = replace(rule, left_out=None).confidence
        rows.append((evidence.n_active, seen, rule.confidence, unseen))
    return Rules(*np.array(rows).T)


def calibration(run: Run, tokens: int, most: float) -> Findings:
    rules = rules_of(run)
    third = np.argsort(np.argsort(rules.n, kind="stable")) * 3 // len(rules.n)
    rows: list[tuple[object, ...]] = []
    claims = []
    for name, part in (
        ("all", third >= 0),
        *((_THIRDS[k], third == k) for k in range(3)),
        ("at most 40 firings", rules.n <= 40),
    ):
        if not part.any():
            continue
        unseen = rules.unseen[part]
        cells: list[object] = []
        for values in (rules.seen[part], rules.confidence[part]):
            rank = float(spearmanr(values, unseen)[0])
            cells += [float(values.mean()), calibration_error(values, unseen), rank]
        rows.append((name, int(part.sum()), float(unseen.mean()), *cells))
        if name != "at most 40 firings":
            what = f"calibration error of confidence, {name}"
            claims.append(Claim(what, calibration_error(rules.confidence[part], unseen), 0, most))
    better = [float(spearmanr(v, rules.unseen)[0]) for v in (rules.confidence, rules.seen)]
    claims.append(Claim("its rank correlation less that of F1 seen", better[0] - better[1], 0, 1))
    return Findings(
        f"Confidence of rules, {tokens:,} tokens of the demo",
        "F1 of tokens on scoring windows, a third of them silent, as among the windows that rules "
        "were learned from, beside F1 on those, and confidence. Calibration error: between means "
        f"of {_BINS} bins, root mean square, less what chance gives where there is none (Kumar et "
        "al. 2019).",
        (
            *("features", "n", "F1 unseen", "F1 seen", "its error", "its rank correlation"),
            *("confidence", "its error", "its rank correlation"),
        ),
        rows,
        claims,
    )


def calibration_error(confidence: np.ndarray, f1: np.ndarray) -> float:
    """Debiased root mean square over bins (Kumar, Liang and Ma 2019, section 4.1); NaN for few."""
    parts = np.array_split(np.argsort(confidence, kind="stable"), _BINS)
    if min(map(len, parts)) < 2:
        return float("nan")
    squares = 0.0
    for part in parts:
        gaps = confidence[part] - f1[part]
        squares += len(part) * (gaps.mean() ** 2 - gaps.var(ddof=1) / len(part))
    return float(np.sqrt(max(0.0, squares / len(f1))))


def held(run: Run, tokens: int, seed: int) -> Findings:
    """Score a tenth of the demo, and see whether the others' F1 is in the intervals."""
    drafts = sorted(read_drafts(run.drafts), key=lambda d: d.feature)
    store = EvidenceStore(run.windows, run.features)
    statistics = [store.statistics[d.feature] for d in drafts]
    shared = shares_label([d.label for d in drafts])
    scores, rng = read_scores(run.scores), np.random.default_rng(seed)
    truth = np.array([_f1(scores.get(d.feature, [])) for d in drafts])
    known = np.flatnonzero(~np.isnan(truth))
    covered, widths, ranks, errors = [], [], [], []
    for _ in range(20):
        chosen = rng.choice(known, max(MIN_MEASURED, len(known) // 10), replace=False)
        some = {drafts[i].feature: scores[drafts[i].feature] for i in chosen}
        columns = expected_columns(drafts, statistics, shared, some)
        value, low, high = (c.to_numpy(zero_copy_only=False) for c in columns.values())
        rest = np.setdiff1d(known, chosen)
        covered.append(np.mean((low[rest] <= truth[rest]) & (truth[rest] <= high[rest])))
        widths.append(np.mean(high[rest] - low[rest]))
        ranks.append(spearmanr(value[rest], truth[rest])[0])
        errors.append(np.mean(value[rest] - truth[rest]))
    row = (len(known), len(chosen), *(float(np.mean(v)) for v in (covered, widths, ranks, errors)))
    return Findings(
        f"Expected F1 where a tenth was scored, {tokens:,} tokens of the demo",
        "20 draws of a tenth; the population F1 of the others against what is expected of them.",
        ("labels", "scored", "coverage", "width", "rank correlation", "bias"),
        [row],
        [
            Claim("coverage of 95 % intervals", float(np.mean(covered)), 0.92, 1),
            Claim("bias", float(np.mean(errors)), -0.03, 0.03),
        ],
    )


def _f1(scores: list[Score]) -> float:
    values = [s.estimate.value for s in scores if s.metric == "population_f1"]
    return values[0] if values else float("nan")


def simulated(runs: int, seed: int) -> Findings:
    rows: list[tuple[object, ...]] = []
    claims = []
    for n in (MIN_MEASURED, 100):
        for kind in ("useless", "informative", "falling", "density", "uneven", "two kinds"):
            found = np.array([list(_one(kind, n, seed + i)) for i in range(runs)])
            coverage, width, bias = found.mean(axis=0).tolist()
            rows.append((kind, n, coverage, width, bias))
            claims.append(Claim(f"coverage, {kind}, {n} scored", coverage, 0.92, 1))
    return Findings(
        "Expected F1 in simulated runs of 1,000 labels",
        f"{runs} runs each. Confidence says nothing of F1, or much, or the opposite of it; F1 "
        "depends on density, or is spread the wider the higher it is, or labels are good or bad.",
        ("what F1 depends on", "scored", "coverage", "width", "bias"),
        rows,
        claims,
    )


def _one(kind: str, n: int, seed: int) -> Iterator[float]:
    """Coverage, mean width and bias over the labels that were not scored."""
    rng, size = np.random.default_rng(seed), 1000
    density, confidence = rng.uniform(-5, -1, size), np.round(20 * rng.beta(8, 2, size)) / 20
    noise = rng.normal(size=size)
    f1 = {
        "useless": rng.beta(2, 2, size),
        "informative": confidence - 0.3 + 0.1 * noise,
        "falling": 1.2 - confidence + 0.1 * noise,
        "density": 0.5 + 0.18 * (density + 3) + 0.1 * noise,
        "uneven": 0.4 + 0.5 * (confidence - 0.8) + (0.05 + 0.05 * (density + 5)) * noise,
        "two kinds": np.where(
            rng.random(size) < 0.2 + 0.6 * confidence,
            rng.beta(20, 4, size),
            rng.beta(1.5, 15, size),
        ),
    }[kind].clip(0, 1)
    measured = np.full(size, np.nan)
    chosen = rng.permutation(size)[:n]
    measured[chosen] = f1[chosen]
    others = np.column_stack([density, np.maximum(density + 3, 0), rng.random(size) < 0.05])
    found = expected(measured, confidence, others)
    assert found is not None
    rest = np.isnan(measured)
    inside = (found.ci_low <= f1) & (f1 <= found.ci_high)
    for values in (inside, found.ci_high - found.ci_low, found.value - f1):
        yield float(values[rest].mean())
