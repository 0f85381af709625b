"""The checks on the demo's own coder and model: real weights, real activations, real mistakes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from autointerp import demo
from autointerp.activations.contexts import TextSettings
from autointerp.activations.stream import StreamSettings, SubjectStream
from autointerp.coders import load_coder
from autointerp.coders.check import CHECK_TOKENS, check_coder, reconstruction

LAYERS, RIGHT = 4, 2


@pytest.fixture(scope="module")
def residuals():
    """float32 [CHECK_TOKENS, d_in] after every layer."""
    hooks = tuple(f"residual:{layer}" for layer in range(LAYERS))
    text = TextSettings("demo", 128)
    stream = SubjectStream(
        StreamSettings(str(demo.SUBJECT), hooks, text, 4096, 32), torch.device("cpu")
    )
    captured = next(stream.captured())
    batches = [captured.batch(i, norms.median) for i, norms in enumerate(stream.norm_samples)]
    return [b.activations[b.eligible()][:CHECK_TOKENS].float() for b in batches]


@pytest.fixture(scope="module")
def topk():
    return load_coder(demo.CODER)


@pytest.fixture(scope="module")
def jumprelu(topk, residuals):
    """The demo's coder with one threshold for all, as BatchTopK coders are saved."""
    before = torch.addmm(topk.bias, residuals[RIGHT], topk.encoder.T).flatten()
    threshold = before.topk(topk.k * CHECK_TOKENS).values.min()
    return replace(topk, activation="jumprelu", k=None, threshold=threshold.expand(topk.features))


def without_b_dec(coder):
    return replace(coder, bias=coder.bias + coder.encoder @ coder.read_decoder().bias)


def test_what_fits_gives_no_warning(topk, jumprelu, residuals):
    for coder in (topk, jumprelu):
        check = check_coder(coder, residuals[RIGHT])
        assert check.warnings == ()
        assert check.tokens == CHECK_TOKENS
        assert check.fvu < 0.15
        assert check.l0 == pytest.approx(32, rel=0.01)


@pytest.mark.parametrize("layer", [0, 3])
def test_a_wrong_layer_trips(jumprelu, residuals, layer):
    check = check_coder(jumprelu, residuals[layer])
    assert not 16 <= check.l0 <= 64
    assert "the SAE declares 32" in check.warnings[0]
    assert "another hook point or layer" in check.warnings[0]
    assert "its files name blocks.2.hook_resid_post" in check.warnings[0]


def test_a_missing_b_dec_trips(topk, jumprelu, residuals):
    assert check_coder(without_b_dec(jumprelu), residuals[RIGHT]).l0 > 64
    for coder in (topk, jumprelu):
        (warning,) = check_coder(without_b_dec(coder), residuals[RIGHT]).warnings
        assert "worse than predicting the mean" in warning
        assert "scale or bias (b_dec)" in warning


@pytest.mark.parametrize("scale", [5, 1 / 5, 1 / 10.4])  # 10.4: √d_in / mean norm of this layer
def test_an_unscaled_input_trips(topk, jumprelu, residuals, scale):
    for coder in (topk, jumprelu):
        (warning,) = check_coder(coder, residuals[RIGHT] * scale).warnings
        assert "missing input normalization, scale or bias" in warning


def test_reconstruction_is_that_of_the_formula(topk, residuals):
    x = residuals[RIGHT][:64]
    l0, fvu = reconstruction(topk, x)
    decoder = topk.read_decoder()
    h = (x.double() @ topk.encoder.double().T + topk.bias.double()).numpy()
    a = np.zeros_like(h)
    for row, values in enumerate(h):
        kept = np.argsort(-values)[: topk.k]
        a[row, kept] = np.maximum(values[kept], 0)
    rec = a @ decoder.weight.double().numpy() + decoder.bias.double().numpy()
    y = x.double().numpy()
    expected = ((y - rec) ** 2).sum() / ((y - y.mean(0)) ** 2).sum()
    assert fvu == pytest.approx(expected, rel=1e-4)
    assert l0 == (a > 0).sum(1).mean()


def test_a_transcoder_has_an_l0_and_no_reconstruction(topk, residuals):
    check = check_coder(replace(topk, read_decoder=None), residuals[RIGHT])
    assert check.fvu is None
    assert check.l0 == pytest.approx(32, rel=0.01)


def test_a_batch_without_tokens_says_so(topk):
    check = check_coder(topk, torch.empty(0, topk.d_in))
    assert check.l0 == 0
    assert check.warnings == (
        "every token of the first contexts is masked, so nothing could be checked",
    )
