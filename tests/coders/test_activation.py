"""Selecting what fires, against a sort of every row."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autointerp.coders import SparseCoder
from autointerp.coders.activation import above, largest, largest_of_groups


def values(seed, tokens, features, ties):
    rng = np.random.default_rng(seed)
    drawn = rng.integers(-3, 4, (tokens, features)) if ties else rng.normal(size=(tokens, features))
    return torch.from_numpy(drawn.astype(np.float32))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    tokens=st.integers(0, 20),
    features=st.sampled_from([1, 7, 16, 96, 256, 500, 512]),
    k=st.integers(1, 12),
    ties=st.booleans(),
)
def test_the_largest_of_every_token(seed, tokens, features, k, ties):
    k = min(k, features)
    before = values(seed, tokens, features, ties)
    token, feature, value = largest(before, k)
    assert torch.equal(before[token, feature], value)
    assert (token.diff() >= 0).all()
    assert len(set(zip(token.tolist(), feature.tolist(), strict=True))) == len(token)
    for row in range(tokens):
        expected = before[row].sort(descending=True).values[:k]
        mine = value[token == row].sort(descending=True).values
        # Of equal ones any may be meant; their values are the same.
        assert mine.tolist() == expected[expected > 0].tolist()


def test_values_that_are_no_numbers_do_not_fire():
    before = torch.randn(3, 64)
    before[1] = float("nan")
    for select in (
        lambda b: largest(b, 3),
        lambda b: above(b, 0),
        lambda b: largest_of_groups(b, 4),
    ):
        token, _, value = select(before)
        assert set(token.tolist()) == {0, 2}
        assert (value > 0).all()


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "topk", "groupmax"])
@pytest.mark.parametrize("norm", ["none", "layer_norm"])
def test_what_fires_does_not_depend_on_how_tokens_come(activation, norm):
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator)

    coder = SparseCoder(
        "c", drawn(96, 40), drawn(96), activation, threshold=drawn(96), k=8, input_norm=norm
    )
    x = drawn(2500, 40)
    whole = coder.encode(x)
    assert len(whole.token) > 2500
    assert set(whole.token.tolist()) == set(range(2500))
    order = (whole.token * 96 + whole.feature).argsort()
    for size in (1, 500, 1024, 1300):
        begins = range(0, 1500 if size > 1 else 50, size)
        for begin in begins:
            part = coder.encode(x[begin : begin + size])
            place = (part.token * 96 + part.feature).argsort()
            mine = (whole.token[order] >= begin) & (whole.token[order] < begin + size)
            mine &= whole.token[order] < 2500
            assert torch.equal(part.token[place] + begin, whole.token[order][mine])
            assert torch.equal(part.feature[place], whole.feature[order][mine])
            assert torch.equal(part.value[place], whole.value[order][mine])
