"""How much of a score is the document: rules on the demo, split by context and by document.

A document's contexts are alike: where some of them label and others score, a label is scored on
text that is like what it was made of.
"""

import tempfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

import autointerp
from audit.findings import Claim, Findings
from autointerp.plain_text import counted

SPLITS = ("context", "document")
_NEAR = "share scored in a document that labels"
_METRICS = ("balanced_accuracy", "population_recall", "population_precision", "population_f1")


def audit(short: bool, seed: int) -> list[Findings]:
    if short:
        return [_found(50_000, 40, [seed])]
    return [_found(50_000, 100, range(seed, seed + 3)), _found(400_000, 150, range(seed, seed + 3))]


def _found(tokens: int, features: int, seeds: Collection[int]) -> Findings:
    """Both splits of the demo's first tokens, the same features in both."""
    runs: dict[str, list[pd.DataFrame]] = {split: [] for split in SPLITS}
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "cache"
        autointerp.capture(
            subject="demo",
            text="demo",
            sae="demo",
            out=Path(folder) / "capture",
            cache=cache,
            tokens=tokens,
            store="sparse",
        )
        for seed in seeds:
            for split in SPLITS:
                out = Path(folder) / f"{split}-{seed}"
                autointerp.run(
                    sae="demo",
                    cache=cache,
                    out=out,
                    features=f"random:{features}",
                    scorers="detection",
                    seed=seed,
                    split=split,
                )
                runs[split].append(_of_features(out).add_prefix(f"{seed}-", axis=0))
    by_context, by_document = (pd.concat(runs[split]) for split in SPLITS)
    by_context, by_document = by_context.align(by_document, join="inner", axis=0)
    rows = [_row(str(name), by_context[name], by_document[name]) for name in by_context]
    before, after = (float(found[_NEAR].mean()) for found in (by_context, by_document))
    fall = float((by_context["balanced_accuracy"] - by_document["balanced_accuracy"]).mean())
    claims = [
        Claim("share of scored windows in a document that labels, by document", after, 0, 0.6),
        Claim("how much smaller it is than by context", before - after, 0.1, 1),
        Claim("mean fall of balanced accuracy", fall, -0.05 if len(seeds) == 1 else 0, 0.1),
    ]
    about = (
        f"{features} features, {counted(len(seeds), 'seed')}; rules label and judge. Medians over "
        "features; mean difference, document less context, with its 95 % interval. Documents that "
        "make up much of the text so far are split in blocks of contexts: of the first 400,000 "
        "tokens one is half."
    )
    columns = ("of a feature", "by context", "by document", "difference", "±", "features")
    title = f"What a score owes to the document: the demo's first {tokens:,} tokens"
    return Findings(title, about, columns, rows, claims)


def _row(name: str, by_context: pd.Series, by_document: pd.Series) -> tuple[object, ...]:
    both = pd.concat([by_context, by_document], axis=1).dropna()
    first, second = both.iloc[:, 0], both.iloc[:, 1]
    apart = second - first
    half = 1.96 * float(apart.std()) / np.sqrt(len(apart))
    return name, float(first.median()), float(second.median()), float(apart.mean()), half, len(both)


def _of_features(out: Path) -> pd.DataFrame:
    """A row a feature: what its label scored, and how many of its scored windows are near it."""
    scores = pd.read_parquet(out / "scores.parquet")
    values = scores.pivot_table(index="feature", columns="metric", values="value")[list(_METRICS)]
    judged = pd.read_parquet(out / "predictions.parquet")
    own = judged[(judged["label_of"] == judged["feature"]) & judged["parsed"]]
    rates = own.groupby(["feature", own["truth"].astype(bool)])["prediction"].mean().unstack()
    windows = pd.read_parquet(out / "windows.parquet")
    firing = windows[windows["kind"].isin(("top", "sample"))]
    label, score = (firing[firing["split"] == split] for split in ("label", "score"))
    labels = pd.MultiIndex.from_frame(label[["feature", "document"]])
    near = pd.MultiIndex.from_frame(score[["feature", "document"]]).isin(labels)
    values.insert(0, _NEAR, _mean_by(score["feature"], near))
    return values.assign(recall=rates[True], false_alarms=rates[False])


def _mean_by(feature: pd.Series, values: np.ndarray) -> pd.Series:
    return pd.Series(values, feature.to_numpy()).groupby(level=0).mean()
