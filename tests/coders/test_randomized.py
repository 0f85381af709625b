"""Random coders in place of real ones of every family."""

import numpy as np
import pytest
import torch

from autointerp.coders import load_coder
from autointerp.coders.randomized import randomized
from tests.support.layouts import LAYOUTS, D


def activations(tokens=4000):
    """With a mean and unequal variances, as those of models."""
    generator = torch.Generator().manual_seed(9)
    return torch.randn(tokens, D, generator=generator) * torch.linspace(0.5, 3, D) + 0.7


def counts(coder, x):
    return np.bincount(coder.encode(x).feature, minlength=coder.features)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda f: f.__name__)
def test_features_of_every_family_are_as_dense_as_the_real_ones(tmp_path, layout):
    x = activations()
    coder = load_coder(layout(tmp_path).path).calibrated(float(x.norm(dim=1).mean()))
    made = randomized(coder, x, seed=3)
    real, random = counts(coder, x), counts(made, x)
    assert abs(random.sum() / real.sum() - 1) < 0.02
    if coder.independent:
        assert abs(random - real).max() <= 1
    else:
        assert np.quantile(abs(random - real), 0.9) <= 0.2 * real.mean()
    assert bool((made.encode(x).value > 0).all())
    assert (made.activation, made.k, made.input_norm) == (
        coder.activation,
        coder.k,
        coder.input_norm,
    )
    torch.testing.assert_close(made.encoder.norm(dim=1), coder.encoder.norm(dim=1))
    cosine = torch.nn.functional.cosine_similarity(made.encoder, coder.encoder)
    assert float(cosine.abs().mean()) < 0.5
    assert (made.read_decoder is None) == (coder.read_decoder is None)
    if made.read_decoder is not None:
        torch.testing.assert_close(
            made.read_decoder().weight, torch.nn.functional.normalize(made.encoder, dim=1)
        )


def test_it_is_made_by_the_seed(tmp_path):
    coder, x = load_coder(LAYOUTS[0](tmp_path).path), activations(500)
    one, same, other = (randomized(coder, x, seed) for seed in (0, 0, 1))
    assert torch.equal(one.encoder, same.encoder)
    assert torch.equal(one.bias, same.bias)
    assert not torch.equal(one.encoder, other.encoder)


def test_features_that_never_fire_or_always_do_stay_so(tmp_path):
    relu = next(
        coder
        for number, layout in enumerate(LAYOUTS)
        if (coder := load_coder(layout(_folder(tmp_path, number)).path)).activation == "relu"
        and coder.gain is None
        and coder.input_norm == "none"
    )
    x = activations(500)
    relu.bias[0], relu.bias[1] = -1e4, 1e4
    found = counts(randomized(relu, x, 0), x)
    assert found[0] == 0
    assert found[1] >= len(x) - 1


def _folder(root, number):
    path = root / str(number)
    path.mkdir()
    return path
