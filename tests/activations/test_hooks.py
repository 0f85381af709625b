import re

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from autointerp.activations.hooks import (
    SITES,
    activations_at,
    canonical_place,
    lens_name,
    resolve_hook,
    site_of,
)
from autointerp.errors import AutointerpError
from tests.support import layouts
from tests.support.tiny import CONFIGS, LAYERS, VOCABULARY, tiny_model

PARALLEL = ("neox",)
TOKENS = torch.randint(0, VOCABULARY, (2, 5), generator=torch.Generator().manual_seed(1))
VALID = torch.ones_like(TOKENS)


def at(model, *names):
    hooks = [resolve_hook(model, name) for name in names]
    return activations_at(model, hooks, TOKENS, VALID)


def attention_of(layer):
    for name, last in (("self_attn", "o_proj"), ("attn", "c_proj"), ("attention", "dense")):
        if hasattr(layer, name):
            return getattr(getattr(layer, name), last)
    raise AssertionError("no attention")


def layers_of(model):
    inner = getattr(model, model.base_model_prefix)
    return inner.h if hasattr(inner, "h") else inner.layers


@pytest.mark.parametrize("family", CONFIGS)
def test_residuals_are_the_hidden_states_and_nothing_after_the_last_hook_runs(family):
    model = tiny_model(family)
    with torch.no_grad():
        states = model(TOKENS, output_hidden_states=True).hidden_states
    reached = []
    layers_of(model)[2].register_forward_hook(lambda *_: reached.append(1))
    found = at(model, "residual:1", "blocks.1.hook_resid_pre", "resid_pre:0")
    for tensor, state in zip(found, (states[2], states[1], states[0]), strict=True):
        torch.testing.assert_close(tensor, state)
    assert not reached


@pytest.mark.parametrize("family", CONFIGS)
def test_places_in_a_layer_add_up_to_its_residual_stream(family):
    model = tiny_model(family)
    number = 2
    layer = layers_of(model)[number]
    names = [f"{site}:{number}" for site in ("resid_pre", "attn_out", "mlp_out", "residual")]
    before, attention, mlp, after = at(model, *names)
    torch.testing.assert_close(before + attention + mlp, after)
    z, mlp_in = at(model, f"hook_z:{number}", f"mlp_in:{number}")
    with torch.no_grad():
        written = attention_of(layer)(z)
        through = layer.mlp(mlp_in)
        through = through[0] if isinstance(through, tuple) else through
        if hasattr(layer, "post_feedforward_layernorm"):
            written = layer.post_attention_layernorm(written)
            through = layer.post_feedforward_layernorm(through)
    torch.testing.assert_close(written, attention)
    torch.testing.assert_close(through, mlp)


@pytest.mark.parametrize("family", [f for f in CONFIGS if f not in PARALLEL])
def test_between_attention_and_mlp(family):
    model = tiny_model(family)
    layer = layers_of(model)[1 if family != "qwen3_5" else 2]
    number = list(layers_of(model)).index(layer)
    before, attention, middle, mlp_in, normalized = at(
        model,
        *(f"{site}:{number}" for site in ("resid_pre", "attn_out", "resid_mid", "mlp_in")),
        f"blocks.{number}.ln2.hook_normalized",
    )
    torch.testing.assert_close(before + attention, middle)
    norm = getattr(layer, "pre_feedforward_layernorm", None)
    norm = norm or getattr(layer, "post_attention_layernorm", None) or layer.ln_2
    with torch.no_grad():
        torch.testing.assert_close(norm(middle), mlp_in)
    # The normalized residual is the norm's output with its gain and bias taken out again.
    one_plus = "gemma" in family or family == "qwen3_5"  # whose norms store their gain less one
    gain = norm.weight + one_plus
    bias = getattr(norm, "bias", None)
    restored = (mlp_in - (0 if bias is None else bias)) / gain
    torch.testing.assert_close(normalized, restored, rtol=1e-3, atol=1e-4)


def test_the_lens_the_short_and_the_module_name_mean_the_same_place():
    model = tiny_model("llama")
    same = [
        ("residual:1", "blocks.1.hook_resid_post", "model.layers.1", "layers.1", "layers.1.output"),
        ("hook_z:1", "blocks.1.attn.hook_z", "model.layers.1.self_attn.o_proj.input"),
        ("mlp_in:1", "blocks.1.mlp.hook_in", "layers.1.mlp.input"),
        ("mlp_out:1", "blocks.1.hook_mlp_out", "model.layers.1.mlp"),
        ("mlp_post:1", "blocks.1.mlp.hook_post", "layers.1.mlp.down_proj.input"),
        ("attn_out:1", "blocks.1.hook_attn_out", "layers.1.self_attn"),
        ("resid_mid:1", "blocks.1.hook_mlp_in", "layers.1.post_attention_layernorm.input"),
    ]
    for names in same:
        first, *others = at(model, *names)
        for other in others:
            assert torch.equal(first, other)
        for name in names:
            place = canonical_place(name)
            assert place in (None, canonical_place(names[0]))
    assert canonical_place("model.layers.1") == canonical_place("blocks.1.hook_resid_post")
    assert canonical_place("transformer.h.3.mlp") == ("mlp_out", 3)
    assert canonical_place("model.layers.2.input_layernorm") is None


def test_one_pass_serves_several_hooks_in_any_order():
    model = tiny_model("qwen3")
    passes = []
    model.model.embed_tokens.register_forward_hook(lambda *_: passes.append(1))
    names = ["residual:2", "mlp_out:0", "resid_pre:1", "attn_out:2"]
    together = at(model, *names)
    assert len(passes) == 1
    for name, tensor in zip(names, together, strict=True):
        assert torch.equal(at(model, name)[0], tensor)


@pytest.mark.parametrize(
    ("family", "name", "said"),
    [
        ("llama", f"residual:{LAYERS}", "layers 0 to 2"),
        ("llama", "model.nothing", "is not a hook point of"),
        ("llama", "blocks.1.hook_pattern", "is not a hook point of"),
        ("neox", "resid_mid:1", "has no resid_mid"),
        ("qwen3_5", "hook_z:1", "has no hook_z"),
        ("qwen3_5", "attn_out:1", "has no attn_out .it has linear_attn"),
    ],
)
def test_places_that_are_not_there_are_said(family, name, said):
    with pytest.raises(AutointerpError, match=said):
        resolve_hook(tiny_model(family), name)


def test_a_module_that_gives_no_activations_or_is_not_reached_is_said():
    model = tiny_model("llama")
    with pytest.raises(AutointerpError, match="is not activations of tokens"):
        at(model, "model.rotary_emb")
    with pytest.raises(AutointerpError, match="never reached"):
        activations_at(tiny_model("gpt2"), [resolve_hook(model, "residual:0")], TOKENS, VALID)


@pytest.fixture(scope="module")
def deep():
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=24,
        num_attention_heads=1,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


@pytest.mark.parametrize("made", layouts.LAYOUTS, ids=lambda made: made.__name__)
def test_the_hooks_that_coders_name_are_places_of_a_model(deep, made, tmp_path):
    hook = made(tmp_path).hook
    if hook is not None:
        number = re.search(r"\d+", hook)[0]
        assert resolve_hook(deep, hook).path.startswith(f"model.layers.{number}")


@pytest.mark.parametrize("site", SITES)
def test_the_lens_name_of_a_place_means_that_place(site):
    assert site_of(lens_name(f"{site}:3")) == (site, 3)
    assert lens_name("model.layers.3.mlp") == "model.layers.3.mlp"
