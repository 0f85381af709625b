import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from autointerp import demo
from autointerp.coders import SparseCoder, coder_identity, load_coder
from autointerp.errors import AutointerpError

D, FEATURES = 6, 11


def write_saelens(path, architecture, *, transposed=False, drop=(), d_in=D, **config):
    torch.manual_seed(0)
    tensors = {
        "W_enc": torch.randn(d_in, FEATURES),
        "W_dec": torch.randn(FEATURES, d_in),
        "b_enc": torch.randn(FEATURES),
        "b_dec": torch.randn(d_in),
        "threshold": torch.rand(FEATURES),
    }
    stored = {name: t for name, t in tensors.items() if name not in drop}
    if transposed:
        stored["W_enc"] = stored["W_enc"].T.contiguous()
    path.mkdir(parents=True)
    save_file(stored, path / "sae_weights.safetensors")
    entries = {"architecture": architecture, "normalize_activations": "none"} | config
    (path / "cfg.json").write_text(json.dumps(entries))
    return {name: t.double().numpy() for name, t in tensors.items()}


def published(architecture, w, x, subtract, k):
    """The formulas of the papers, in float64 numpy: dense activations [tokens, features]."""
    before = (x - w["b_dec"] * subtract) @ w["W_enc"] + w["b_enc"]
    if architecture == "jumprelu":
        return np.where(before > w["threshold"], np.maximum(before, 0), 0)
    if architecture == "topk":
        kept = np.zeros_like(before)
        for row, values in enumerate(before):
            for i in np.argsort(-values)[:k]:
                kept[row, i] = max(values[i], 0)
        return kept
    return np.maximum(before, 0)


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "topk"])
@pytest.mark.parametrize("subtract", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
def test_saelens_directories_encode_as_published(tmp_path, architecture, subtract, transposed):
    weights = write_saelens(
        tmp_path / "sae", architecture, transposed=transposed, k=4, apply_b_dec_to_input=subtract
    )
    coder = load_coder(tmp_path / "sae")
    x = torch.randn(50, D, generator=torch.Generator().manual_seed(1))
    firings = coder.encode(x)
    dense = np.zeros((50, FEATURES))
    dense[firings.token, firings.feature] = firings.value
    expected = published(architecture, weights, x.double().numpy(), subtract, 4)
    assert ((dense > 0) == (expected > 0)).all()
    np.testing.assert_allclose(dense, expected, atol=1e-5)
    assert bool((firings.token.diff() >= 0).all())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, FEATURES))
def test_topk_never_counts_what_is_not_positive(seed, k):
    generator = torch.Generator().manual_seed(seed)
    encoder = torch.randn(FEATURES, D, generator=generator)
    coder = SparseCoder("c", encoder, torch.full((FEATURES,), -1.0), "topk", k=k)
    firings = coder.encode(torch.randn(20, D, generator=generator))
    assert bool((firings.value > 0).all())
    assert int(torch.bincount(firings.token, minlength=20).max()) <= k


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "temporal"}, "is a temporal SAE"),
        ({"architecture": ["relu"]}, "architecture .* is not supported"),
        ({"normalize_activations": "batch"}, "'batch' is not supported"),
        ({"normalize_activations": "covariance_whitening"}, "is not supported"),
        ({"architecture": "topk", "k": 0}, "k=0 for 11 features"),
        ({"architecture": "topk", "k": "abc"}, "k='abc' for 11 features"),
        ({"drop": ("b_dec",)}, "has no tensor 'b_dec'"),
    ],
)
def test_what_cannot_be_loaded_is_said(tmp_path, change, said):
    settings = {"architecture": "standard"} | change
    write_saelens(tmp_path / "sae", **settings)
    with pytest.raises(AutointerpError, match=said):
        load_coder(tmp_path / "sae")


def test_damaged_and_missing_files_are_said(tmp_path):
    with pytest.raises(AutointerpError, match="no such file"):
        load_coder(tmp_path / "none")
    with pytest.raises(AutointerpError, match="the format was not recognized"):
        load_coder(tmp_path)
    write_saelens(tmp_path / "sae", "standard")
    config = tmp_path / "sae" / "cfg.json"
    good = config.read_text()
    for text, said in (("[]", "does not hold a JSON object"), ("{", "cannot be read")):
        config.write_text(text)
        with pytest.raises(AutointerpError, match=said):
            load_coder(tmp_path / "sae")
    config.write_text(good)
    weights = tmp_path / "sae" / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(AutointerpError, match="cannot be read"):
        load_coder(tmp_path / "sae")


def test_identity_follows_the_files(tmp_path):
    write_saelens(tmp_path / "sae", "standard")
    before = coder_identity(tmp_path / "sae")
    assert coder_identity(tmp_path / "sae") == before
    config = tmp_path / "sae" / "cfg.json"
    config.write_text(config.read_text() + " ")
    assert coder_identity(tmp_path / "sae") != before


def test_the_demo_coder_loads():
    coder = load_coder(demo.CODER)
    assert (coder.features, coder.d_in, coder.k) == (3072, 256, 32)
    assert coder.hook == "blocks.2.hook_resid_post"


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated"])
def test_some_features_of_an_independent_coder_are_encoded_alone(tmp_path, architecture):
    write_saelens(tmp_path / "sae", "jumprelu" if architecture == "gated" else architecture)
    coder = load_coder(tmp_path / "sae")
    if architecture == "gated":
        coder = replace(coder, gain=torch.rand(FEATURES) + 0.5, shift=torch.randn(FEATURES))
    x = torch.randn(50, D, generator=torch.Generator().manual_seed(1))
    chosen = torch.tensor([1, 4, 5, 10])
    whole, some = coder.encode(x), coder.restricted(chosen).encode(x)
    wanted = torch.isin(whole.feature, chosen)
    assert bool(wanted.any())
    assert torch.equal(some.token, whole.token[wanted])
    assert torch.equal(chosen[some.feature], whole.feature[wanted])
    torch.testing.assert_close(some.value, whole.value[wanted])
