"""The collector again, by brute force: one feature, one context, one token at a time."""

from dataclasses import dataclass

import numpy as np

_WORD = (1 << 64) - 1


def mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) & _WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
    return x ^ (x >> 31)


def hashed(seed: int, *parts: int) -> int:
    state = mix(seed)
    for part in parts:
        state = mix(state ^ mix(part))
    return state >> 1


def sample_draw(seed: int, feature: int, context: int, position: int) -> int:
    token = mix(mix(mix(seed ^ 0x70C) ^ mix(context)) ^ mix(position))
    return mix(mix(mix(seed ^ 0x5A3) ^ mix(feature)) ^ token) >> 1


def hash_of(token_ids) -> int:
    """Of tokens in a row, by its polynomial; signed."""
    total = 0
    for i, token in enumerate(token_ids):
        total += mix(int(token) & _WORD) * pow(0x9E3779B97F4A7C15, i, 1 << 64)
    return signed(total)


def signed(value: int) -> int:
    value &= _WORD
    return value - (1 << 64) if value >> 63 else value


def text_key(context: int, token_ids, repeats: str):
    """What windows of one text have in common."""
    if repeats == "none":
        return context
    if repeats == "exact":
        return tuple(token_ids)
    run = len(token_ids) - len(token_ids) // 8
    if run == len(token_ids) or min(token_ids) < 0:
        return tuple(token_ids)
    runs = {tuple(token_ids[i : i + run]) for i in range(len(token_ids) - run + 1)}
    return min(signed(mix(hash_of(r) & _WORD)) for r in runs)


def jaccard(one, other) -> float:
    """Of the distinct runs of four tokens, but for those of padding alone."""
    n = min(4, len(one))
    first, second = (
        {ids[i : i + n] for i in range(len(ids) - n + 1) if max(ids[i : i + n]) >= 0}
        for ids in (tuple(one), tuple(other))
    )
    return len(first & second) / len(first | second)


def is_similar(one, other, repeats: str) -> bool:
    if repeats == "near":
        return jaccard(one.token_ids, other.token_ids) >= 0.5
    return repeats == "exact" and one.token_ids == other.token_ids


def choose(specs, found, repeats):
    """Of one feature: for every selection the windows to be written, from the best ones on."""
    chosen = []
    for spec, windows in zip(specs, found, strict=True):
        earlier = [
            w
            for other, kept in zip(specs, chosen, strict=False)
            if other.split != spec.split
            for w in kept
        ]
        kept = []
        for window in windows:
            if not any(is_similar(window, w, repeats) for w in [*earlier, *kept]):
                kept.append(window)
        chosen.append(kept[: spec.k])
    return chosen


def split_of(context: int, seed: int) -> str:
    percent = hashed(seed ^ 0x5B117, context) % 100
    return "label" if percent < 50 else "validate" if percent < 60 else "score"


@dataclass(frozen=True)
class Found:
    priority: int
    context: int
    start: int
    token_ids: tuple[int, ...]
    activations: tuple[float, ...]


def select(
    kind: str,
    split: str,
    k: int,
    feature: int,
    values: np.ndarray,  # float32 [contexts, length], already masked
    token_ids: np.ndarray,  # [contexts, length], -1 where not valid
    length: int,
    before: int,
    seed: int,
    repeats: str = "near",
    others: np.ndarray | None = None,  # float32 [contexts, length, similar features]
    sides: list[str] | None = None,  # of each context, by its hash where not given
) -> list[Found]:
    candidates = []
    contexts, context_length = token_ids.shape
    length = min(length, context_length)
    before = min(before, length - 1)
    for context in range(contexts):
        if (split_of(context, seed) if sides is None else sides[context]) != split:
            continue
        valid = [p for p in range(context_length) if token_ids[context, p] >= 0]
        if not valid:
            continue
        low, high = valid[0], valid[-1] + 1
        firing = [p for p in range(context_length) if values[context, p] > 0]
        if kind == "negative":
            token = low + hashed(seed ^ 0x57A, context) % (high - low)
            start = max(min(token - before, high - length), low)
            start = min(max(start, 0), context_length - length)
            if any(start <= p < start + length for p in firing):
                continue
            priority = hashed(seed ^ 0x2E6, feature, context)
        elif kind == "near_miss":
            places = [
                (float(others[context, p, g]), -p)
                for p in range(context_length)
                for g in range(others.shape[2])
                if others[context, p, g] > 0
            ]
            if not places:
                continue
            start = max(min(-max(places)[1] - before, high - length), low)
            start = min(max(start, 0), context_length - length)
            if any(start <= p < start + length for p in firing):
                continue
            priority = hashed(seed ^ 0x3E7, feature, context)
        else:
            if not firing:
                continue
            if kind == "top":
                priorities = {
                    p: (int(values[context, p].view(np.int32)) << 32) + (1 << 32) - 1 - context
                    for p in firing
                }
            else:
                priorities = {p: sample_draw(seed, feature, context, p) for p in firing}
            peak = max(firing, key=lambda p: (priorities[p], -p))
            priority = priorities[peak]
            start = max(min(peak - before, high - length), low)
            start = min(max(start, 0), context_length - length)
        span = slice(start, start + length)
        shown = values[context, span] if kind in ("top", "sample") else np.zeros(length, np.float32)
        candidates.append(
            Found(
                priority,
                context,
                start,
                tuple(token_ids[context, span].tolist()),
                tuple(shown.tolist()),
            )
        )
    candidates.sort(key=lambda f: (-f.priority, f.context))
    kept: dict[object, Found] = {}
    for candidate in candidates:
        kept.setdefault(text_key(candidate.context, candidate.token_ids, repeats), candidate)
    return list(kept.values())[:k]
