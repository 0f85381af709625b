"""Coders in the exact layouts of their families, against the published formulas in numpy."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from autointerp.coders import load_coder
from autointerp.errors import UserError

D, FEATURES, K = 6, 40, 5


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "W_enc": torch.randn(D, FEATURES, generator=generator),
        "W_dec": torch.randn(FEATURES, D, generator=generator),
        "b_enc": torch.randn(FEATURES, generator=generator),
        "b_dec": torch.randn(D, generator=generator),
        "threshold": torch.rand(FEATURES, generator=generator) + 0.5,
    }


def encoded(coder, x):
    firings = coder.encode(x)
    dense = np.zeros((len(x), FEATURES))
    dense[firings.token, firings.feature] = firings.value
    return dense


def samples():
    return torch.randn(60, D, generator=torch.Generator().manual_seed(9))


def write_qwen(folder, layer=7, **changes):
    w = weights()
    stored = {
        "W_enc": w["W_enc"].T.contiguous(),
        "W_dec": w["W_dec"].T.contiguous(),
        "b_enc": w["b_enc"],
        "b_dec": w["b_dec"],
    } | changes
    folder.mkdir(parents=True)
    torch.save(stored, folder / f"layer{layer}.sae.pt")
    return folder / f"layer{layer}.sae.pt"


def test_qwen_scope_takes_the_k_largest_and_then_what_is_positive(tmp_path):
    coder = load_coder(write_qwen(tmp_path / f"SAE-Res-Qwen3-8B-Base-W64K-L0_{K}"))
    w = {name: t.double().numpy() for name, t in weights().items()}
    x = samples()
    before = x.double().numpy() @ w["W_enc"] + w["b_enc"]
    expected = np.zeros_like(before)
    for row, values in enumerate(before):
        for i in np.argsort(-values)[:K]:
            expected[row, i] = max(values[i], 0)
    found = encoded(coder, x)
    assert ((found > 0) == (expected > 0)).all()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (coder.k, coder.hook) == (K, "residual:7")


def test_qwen_scope_without_a_k_in_its_name_is_refused(tmp_path):
    with pytest.raises(UserError, match="k is not in the file"):
        load_coder(write_qwen(tmp_path / "somewhere"))


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("upper", [True, False])
def test_gemma_scope_is_jumprelu_without_a_pre_bias(tmp_path, generation, upper):
    folder = tmp_path / "gemma-scope-2b-pt-res" / "layer_20" / "width_16k" / "average_l0_71"
    folder.mkdir(parents=True)
    w = weights()
    named = {n if upper and generation == 1 else n.lower(): t for n, t in w.items()}
    if generation == 1:
        np.savez(folder / "params.npz", **{n: t.numpy() for n, t in named.items()})
    else:
        save_file(named, folder / "params.safetensors")
        config = {"hf_hook_point_in": "model.layers.22.output", "architecture": "jump_relu"}
        (folder / "config.json").write_text(json.dumps(config))
    coder = load_coder(folder)
    exact = {name: t.double().numpy() for name, t in w.items()}
    before = samples().double().numpy() @ exact["W_enc"] + exact["b_enc"]
    expected = np.where(before > exact["threshold"], np.maximum(before, 0), 0)
    found = encoded(coder, samples())
    assert ((found > 0) == (expected > 0)).all()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert coder.hook == ("residual:20" if generation == 1 else "model.layers.22")


def test_damaged_files_are_said(tmp_path):
    file = write_qwen(tmp_path / "L0_5")
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be read"):
        load_coder(file)
    nan = write_qwen(tmp_path / "nan-L0_5", b_enc=torch.full((FEATURES,), float("nan")))
    with pytest.raises(UserError, match="not finite"):
        load_coder(nan)
    missing = tmp_path / "gemma"
    missing.mkdir()
    np.savez(missing / "params.npz", W_enc=np.zeros((D, FEATURES), np.float32))
    with pytest.raises(UserError, match="has no tensor 'b_enc'"):
        load_coder(missing)
    (missing / "params.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UserError, match="cannot be read"):
        load_coder(missing)


def test_an_encoder_that_may_lie_either_way_is_refused(tmp_path):
    square = torch.randn(D, D)
    file = write_qwen(tmp_path / "L0_2", W_enc=square, b_enc=torch.zeros(D), b_dec=torch.zeros(D))
    with pytest.raises(UserError, match="either way round"):
        load_coder(file)


def test_pickles_that_hold_code_are_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    folder = tmp_path / "L0_5"
    folder.mkdir()
    torch.save({"W_enc": Evil()}, folder / "layer0.sae.pt")
    with pytest.raises(UserError, match="holds more than tensors"):
        load_coder(folder / "layer0.sae.pt")
