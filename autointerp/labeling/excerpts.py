"""The excerpts in a labeling prompt: which windows of a feature are shown, and how."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from autointerp.evidence.window import FeatureEvidence, Window
from autointerp.evidence.window_text import (
    HALF_CHARACTER,
    marked,
    marks_for,
    one_line,
    peak_text,
    quoted,
    strength,
    whole_line,
)
from autointerp.vocabulary import Vocabulary

_TOP_TOKENS = 5


@dataclass(frozen=True, slots=True)
class Shown:
    """Of each feature: windows in which it is active (top, and one of each of so many quantiles)
    or silent (contrast), tokens it makes likelier and less likely, and how strengths are shown."""

    top: int
    quantiles: int
    activations: Literal["marks", "numbers"] = "marks"
    contrast: int = 0
    output_tokens: int = 0


def shown_windows(evidence: FeatureEvidence, shown: Shown) -> list[Window]:
    """Top windows, those of the largest activations, then one of each quantile.

    Labels from top windows alone come out too narrow (Paulo et al. 2024, section 4). Quantiles
    hold equal shares of the feature's firings and come strongest first; where one has no window,
    others give a second one, and where all are used up, further top windows fill up. No two are
    from one context.
    """
    largest = evidence.of("label", "top")
    n = shown.top + shown.quantiles
    chosen = largest[: shown.top]
    contexts = {w.context for w in chosen}
    sample = [w for w in evidence.of("label", "sample") if w.context not in contexts]
    chosen = chosen + _stratified(sample, max(shown.quantiles, 1), n - len(chosen))
    contexts = {w.context for w in chosen}
    rest = [w for w in largest if w.context not in contexts]
    return chosen + rest[: n - len(chosen)]


def _stratified(windows: Sequence[Window], strata: int, n: int) -> list[Window]:
    """`n` of the windows, as evenly over the strata of their quantiles as they allow.

    Within a stratum the order of the windows, which in a sample is random, decides.
    """
    taken: Counter[int] = Counter()
    turns = []
    for window in windows:
        stratum = min(int(strata * _quantile(window)), strata - 1)
        turns.append((taken[stratum], -stratum))
        taken[stratum] += 1
    places = sorted(range(len(windows)), key=turns.__getitem__)[:n]
    return sorted((windows[i] for i in places), key=lambda w: (-_quantile(w), w.context))


def _quantile(window: Window) -> float:
    """One that is not known counts as the weakest."""
    return window.quantile or 0.0


def shown_text(evidence: FeatureEvidence, shown: Shown) -> str:
    """The words that the model sees of a feature's windows."""
    windows = shown_windows(evidence, shown) + contrast_windows(evidence, shown.contrast)
    return "\n".join(one_line(window.text) for window in windows)


def shown_tokens(evidence: FeatureEvidence, vocabulary: Vocabulary, shown: Shown) -> list[str]:
    """The tokens that the model sees by themselves, without their quotes."""
    peaks = [peak_text(window, vocabulary) for window in shown_windows(evidence, shown)]
    return [token[1:-1] for token in [*_top_token_texts(evidence, vocabulary), *peaks]]


def top_tokens(evidence: FeatureEvidence) -> list[int]:
    """The tokens that windows to label peak on most often, in a sample of firings.

    The feature's own counts are of the whole corpus, of what it is scored on as well.
    """
    windows = evidence.of("label", "sample") or evidence.of("label", "top")
    counts = Counter(int(w.token_ids[w.peak]) for w in windows)
    return [token for token, _ in counts.most_common(_TOP_TOKENS)]


def _top_token_texts(evidence: FeatureEvidence, vocabulary: Vocabulary) -> list[str]:
    """The top tokens in quotes; for part of a character, the whole of one that it is part of."""
    peaks: dict[int, Window] = {}
    for window in evidence.of("label", "sample") + evidence.of("label", "top"):
        peaks.setdefault(int(window.token_ids[window.peak]), window)
    found = (peak_text(peaks[token], vocabulary) for token in top_tokens(evidence))
    return list(dict.fromkeys(found))


def contrast_windows(evidence: FeatureEvidence, n: int) -> list[Window]:
    """Up to `n` windows in which the feature is inactive: near misses first, then negatives."""
    if n == 0:
        return []
    near = evidence.of("label", "near_miss")[:n]
    contexts = {w.context for w in near}
    others = [w for w in evidence.of("label", "negative") if w.context not in contexts]
    return near + others[: n - len(near)]


def shown_variables(
    group: Sequence[FeatureEvidence],
    vocabulary: Vocabulary,
    shown: Shown,
    numbers: Sequence[int],
    heading: str | None = None,
) -> dict[str, object]:
    """What the label template is given of a group of features, known by these numbers.

    `heading` takes the place of the density and the top tokens, if it is given.
    """
    active = [shown_windows(evidence, shown) for evidence in group]
    silent = [contrast_windows(evidence, shown.contrast) for evidence in group]
    marks = marks_for([w for windows in (*active, *silent) for w in windows], vocabulary)
    strengths, n = shown.activations == "numbers", shown.output_tokens
    features = [
        {
            "number": number,
            "density_percent": heading or density_percent(evidence),
            "top_tokens": [heading] if heading else _top_token_texts(evidence, vocabulary),
            "raised_tokens": _whole(evidence.raised_tokens, n),
            "lowered_tokens": _whole(evidence.lowered_tokens, n),
            "windows": [
                _window(i, window, vocabulary, marks, evidence.max_activation, strengths)
                for i, window in enumerate(fires, 1)
            ],
            "near_misses": [whole_line(w.text) for w in not_there if w.kind == "near_miss"],
            "negatives": [whole_line(w.text) for w in not_there if w.kind == "negative"],
        }
        for number, evidence, fires, not_there in zip(numbers, group, active, silent, strict=True)
    ]
    return {
        "features": features,
        "open_mark": marks[0],
        "close_mark": marks[1],
        "numbers": strengths,
    }


def density_percent(evidence: FeatureEvidence) -> str:
    """As templates show it: "active on … % of tokens"."""
    return "an unknown" if math.isnan(evidence.density) else f"{100 * evidence.density:.2g}"


def _whole(tokens: Sequence[str], n: int) -> list[str]:
    """`n` of the tokens in quotes; parts of characters, which say nothing alone, are left out."""
    return [quoted(token) for token in tokens if HALF_CHARACTER not in token][:n]


def _window(
    number: int,
    window: Window,
    vocabulary: Vocabulary,
    marks: tuple[str, str],
    maximum: float,
    numbers: bool,
) -> dict[str, object]:
    return {
        "number": number,
        "text": marked(window, vocabulary, marks, maximum if numbers else None),
        "peak": peak_text(window, vocabulary),
        "strength": strength(float(window.activations.max()), maximum),
    }
