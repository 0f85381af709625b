"""Coders that the peers' own code wrote, against what the peers' own code makes of them.

scripts/peer_samples/ has written tests/data/. Activations agree to 1e-5, active sets exactly.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from autointerp.coders import load_coder

DATA = Path(__file__).parent.parent / "data"
SAELENS = sorted(p.parent for p in (DATA / "saelens").glob("*/cfg.json"))
DICTIONARY_LEARNING = sorted(p.parent for p in (DATA / "dictionary_learning").glob("*/ae.pt"))


def dense(coder, x):
    firings = coder.encode(x)
    found = torch.zeros(len(x), coder.features)
    found[firings.token, firings.feature] = firings.value
    return found


def assert_agrees(coder, expected):
    x, activations = expected["x"], expected["activations"]
    coder = coder.calibrated(float(x.norm(dim=-1).mean()))
    found = dense(coder, x)
    assert torch.equal(found > 0, activations > 0)
    assert bool((activations > 0).any())
    torch.testing.assert_close(found, activations, rtol=1e-5, atol=1e-5)
    return coder


def test_there_is_a_sample_of_every_architecture():
    architectures = {json.loads((p / "cfg.json").read_text())["architecture"] for p in SAELENS}
    assert architectures == {
        "standard",
        "gated",
        "jumprelu",
        "topk",
        "transcoder",
        "skip_transcoder",
        "jumprelu_transcoder",
    }
    assert len(DICTIONARY_LEARNING) == 7


@pytest.mark.parametrize("folder", SAELENS, ids=lambda p: p.name)
def test_saelens(folder):
    expected = load_file(folder / "expected.safetensors")
    coder = load_coder(folder)
    assert coder.hook == "blocks.1.hook_resid_post"
    norm = coder.input_norm
    coder = assert_agrees(coder, expected)
    assert (coder.read_decoder is None) == ("transcoder" in folder.name)
    # SAELens decodes to the input as it was before a norm of each token; we to the normed one.
    if coder.read_decoder is not None and norm in ("none", "mean_norm"):
        firings = coder.encode(expected["x"])
        rebuilt = coder.read_decoder().reconstruct(firings, len(expected["x"]))
        scale = expected["x"].norm(dim=-1).mean() / 8**0.5 if norm == "mean_norm" else 1
        torch.testing.assert_close(rebuilt, expected["decoded"] * scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("folder", DICTIONARY_LEARNING, ids=lambda p: p.name)
def test_dictionary_learning(folder):
    expected = load_file(folder / "expected.safetensors")
    coder = assert_agrees(load_coder(folder), expected)
    firings = coder.encode(expected["x"])
    rebuilt = coder.read_decoder().reconstruct(firings, len(expected["x"]))
    torch.testing.assert_close(rebuilt, expected["decoded"], rtol=1e-4, atol=1e-4)


def test_sparsify_on_the_subject_that_delphi_read(tmp_path):
    from autointerp.activations.hooks import activations_at, resolve_hook
    from autointerp.activations.subject import load_subject

    expected = load_file(DATA / "delphi" / "expected.safetensors")
    coder = load_coder(DATA / "delphi" / "coder" / "layers.1")
    model = load_subject(str(DATA / "delphi" / "subject"), torch.device("cpu")).model
    hook = resolve_hook(model, coder.hook)
    tokens = expected["tokens"]
    (found,) = activations_at(model, [hook], tokens, torch.ones_like(tokens))
    encoded = dense(coder, found.flatten(0, 1))
    latents = expected["latents"].flatten(0, 1)
    assert torch.equal(encoded > 0, latents > 0)
    torch.testing.assert_close(encoded, latents, rtol=1e-5, atol=1e-5)
