"""Small windows and features for tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from autointerp.evidence.corpus import Corpus
from autointerp.evidence.window import FeatureEvidence, Kind, Split, TokenCount, Window


def window(
    token_ids: Sequence[int],
    activations: Sequence[float],
    *,
    kind: Kind = "top",
    split: Split = "label",
    rank: int = 0,
    context: int = 0,
    start: int = 0,
    text: str = "",
    quantile: float | None = None,
) -> Window:
    values = np.array(activations, dtype=np.float32)
    return Window(
        kind=kind,
        split=split,
        rank=rank,
        context=context,
        start=start,
        peak=int(values.argmax()),
        token_ids=np.array(token_ids, dtype=np.int32),
        activations=values,
        text=text,
        quantile=quantile,
    )


def corpus_of(
    features: Mapping[int, Sequence[int]], tokens: Mapping[int, Sequence[int]], windows: int
) -> Corpus:
    """Numbered windows with the features that fire in them and their tokens (else token 0)."""
    table = pa.table(
        {
            "context": pa.array([10_000 + i for i in range(windows)], pa.int64()),
            "start": pa.array([0] * windows, pa.int32()),
            "token_ids": pa.array(
                [tokens.get(i, [0]) for i in range(windows)], pa.list_(pa.int32())
            ),
            "text": [f"text {i}" for i in range(windows)],
            "features": pa.array(
                [sorted(set(features.get(i, []))) for i in range(windows)], pa.list_(pa.int32())
            ),
        }
    )
    return Corpus(table)


def evidence(
    feature: int,
    windows: list[Window],
    n_active: int = 100,
    similar: Sequence[tuple[int, float]] = (),
) -> FeatureEvidence:
    largest = max((float(w.activations.max()) for w in windows), default=0.0)
    return FeatureEvidence(
        feature=feature,
        n_active=n_active,
        density=0.01,
        window_density=0.1,
        mean_activation=largest / 2,
        max_activation=largest,
        top_tokens=[TokenCount("a", 3, 1.0)],
        windows=windows,
        similar=list(similar),
    )


# A label template that shows an example, as a user's own may.
WITH_EXAMPLE = (
    Path(__file__).parents[2] / "scripts" / "prompt_variants" / "label" / "one_example.jinja"
)
