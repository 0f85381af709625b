"""Excerpts with a feature's activations that somebody has already, in a cache's place."""

from collections.abc import Iterator, Mapping, Sequence
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autointerp.activations.activation_batch import VALID
from autointerp.activations.cache import Origin, SparseCache
from autointerp.errors import InputError
from autointerp.held import name_held
from autointerp.tensors.digest import digest_of
from autointerp.tensors.firings import Firings
from autointerp.vocabulary import Vocabulary

COLUMNS = ("feature", "tokens", "activations")
# Feature → its excerpts, each the texts of its tokens and the feature's activation on each.
Evidence = Mapping[int, Sequence[tuple[Sequence[str], Sequence[float]]]]


def given_evidence(evidence: Any) -> tuple[SparseCache, list[int]]:
    """A cache in which each excerpt is a context, and the features that there is evidence of.

    Each is taken for a document of its own: those of a feature stand in a row, and in blocks all of
    them might lie on one side of the split.
    An excerpt of one feature is taken for one in which the others are not active, unless it is
    given for them as well. Raises InputError.
    """
    contexts: dict[tuple[str, ...], dict[int, list[float]]] = {}
    for feature, tokens, activations in _excerpts(evidence):
        contexts.setdefault(tokens, {})[feature] = activations
    if not contexts:
        raise InputError("the evidence has no excerpts: nothing can be collected from it")
    texts = {text: i for i, text in enumerate(dict.fromkeys(t for c in contexts for t in c))}
    length = max(2, *map(len, contexts))
    token_ids = torch.zeros(len(contexts), length, dtype=torch.int32)
    mask = torch.zeros(len(contexts), length, dtype=torch.uint8)
    found: list[tuple[int, int, float]] = []
    for row, (tokens, of_features) in enumerate(contexts.items()):
        token_ids[row, : len(tokens)] = torch.tensor([texts[t] for t in tokens])
        mask[row, : len(tokens)] = VALID
        for feature, activations in of_features.items():
            places = enumerate(activations, row * length)
            found += [(place, feature, value) for place, value in places if value > 0]
    found.sort()
    token, which = (torch.tensor([f[i] for f in found], dtype=torch.int64) for i in (0, 1))
    value = torch.tensor([f[2] for f in found], dtype=torch.float32)
    tensors = {"ids": token_ids, "mask": mask, "token": token, "feature": which, "value": value}
    digest = digest_of(tensors, texts=list(texts))

    def read(begin: int, end: int) -> Firings:
        low, high = torch.searchsorted(token, torch.tensor([begin * length, end * length])).tolist()
        return Firings(token[low:high] - begin * length, which[low:high], value[low:high])

    features = sorted({feature for each in contexts.values() for feature in each})
    cache = SparseCache(
        path=Path(name_held("evidence", digest)),
        format="memory",
        origin=Origin(),
        identity=digest,
        shape=(len(contexts), length),
        token_ids=token_ids,
        mask=mask,
        mask_is_whole=True,
        has_padding_mask=True,
        documents=torch.where(mask > 0, torch.arange(len(contexts))[:, None], -1).int(),
        vocabulary=Vocabulary(tuple(text.encode() for text in texts), frozenset()),
        features=features[-1] + 1,
        read=read,
    )
    return cache, features


def feature_number(value: Any) -> int:
    """A feature's index, which a whole number of any library may be. Raises InputError."""
    try:
        if not isinstance(value, bool):
            return index(value)
    except TypeError:
        pass
    raise InputError(f"feature {value!r} is not a whole number")


def _excerpt(feature: Any, excerpt: Any) -> tuple[Any, Any]:
    if isinstance(excerpt, str) or not isinstance(excerpt, Sequence) or len(excerpt) != 2:
        raise InputError(
            f"evidence of feature {feature}: an excerpt is its tokens and the activations on them"
        )
    return excerpt[0], excerpt[1]


def _excerpts(evidence: Any) -> Iterator[tuple[int, tuple[str, ...], list[float]]]:
    if hasattr(evidence, "to_dict") and hasattr(evidence, "columns"):
        if missing := [name for name in COLUMNS if name not in evidence.columns]:
            raise InputError(f"the evidence has no column {missing[0]!r}: {', '.join(COLUMNS)}")
        rows = [tuple(row[name] for name in COLUMNS) for row in evidence.to_dict("records")]
    elif isinstance(evidence, Mapping):
        rows = [(f, *_excerpt(f, one)) for f, each in evidence.items() for one in each]
    else:
        raise InputError(
            f"evidence is a {type(evidence).__name__}: give a mapping from each feature to its "
            "excerpts, or a frame with columns " + ", ".join(COLUMNS)
        )
    for feature, tokens, activations in rows:
        try:
            values = np.asarray(activations, dtype=np.float64).tolist()
        except (TypeError, ValueError):
            raise InputError(
                f"evidence of feature {feature}: activations are not a list of numbers"
            ) from None
        if isinstance(tokens, str) or not all(isinstance(token, str) for token in tokens):
            raise InputError(f"evidence of feature {feature}: tokens are not a list of texts")
        if len(tokens) != len(values) or len(tokens) == 0:
            raise InputError(
                f"evidence of feature {feature}: {len(tokens)} tokens and {len(values)} activations"
            )
        if not np.isfinite(values).all():
            raise InputError(f"evidence of feature {feature}: activations are not finite")
        yield feature_number(feature), tuple(tokens), values
