"""What is captured as attn_out and mlp_out is what the layer adds to its residual stream.

For every architecture that transformers has: the sites add up, or the user is told that they do
not. All of them together take some 15 s of processor time.
"""

import pytest
import torch
from transformers import GraniteConfig, GraniteForCausalLM

from autointerp.activations.hooks import activations_at, decoder_layers, resolve_hook
from autointerp.activations.residual import check_residual_sums
from autointerp.errors import AutointerpError
from tests.support.registry import VOCABULARY, architectures, tiny_model_of
from tests.support.tiny import tiny_model

MUST_HOLD = {
    *("afmoe", "apertus", "arcee", "bitnet", "bloom", "codegen", "cohere", "cohere2"),
    *("deepseek_v2", "deepseek_v3", "ernie4_5", "exaone4", "falcon", "gemma", "gemma2"),
    *("gemma3_text", "glm", "glm4", "glm4_moe", "gpt2", "gpt_neo", "gpt_neox", "gpt_oss", "gptj"),
    *("granite", "granitemoe", "granitemoeshared", "helium", "hyperclovax", "jetmoe", "lfm2"),
    *("llama", "llama4_text", "minicpm3", "ministral", "mistral", "mixtral", "mpt", "nanochat"),
    *("nemotron", "olmo", "olmo2", "olmo3", "olmoe", "opt", "persimmon", "phi", "phi3", "qwen2"),
    *("qwen2_moe", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm", "starcoder2"),
    *("vaultgemma", "xglm"),
}
NOT_BUILT = {
    "blt": "its byte-level models cannot be made small by its own configuration",
    "kimi_linear": "its linear attention takes seconds on a processor at any size",
    "phi4_multimodal": "builds its vision and audio towers at full size",
}
SUMS = (
    ("resid_pre", "attn_out", "mlp_out", "residual"),
    ("resid_pre", "attn_out", "resid_mid"),
    ("resid_mid", "mlp_out", "residual"),
)
TOKENS = torch.randint(3, VOCABULARY, (2, 8), generator=torch.Generator().manual_seed(1))
VALID = torch.ones_like(TOKENS, dtype=torch.bool)


def built(architecture):
    if architecture in NOT_BUILT:
        pytest.skip(NOT_BUILT[architecture])
    try:
        model = tiny_model_of(architecture)
        model(TOKENS, use_cache=False)
        decoder_layers(model)
    except Exception as error:  # of whatever kind: architectures are not ours
        if architecture in MUST_HOLD:
            raise
        pytest.skip(f"cannot be built small, or has no decoder layers: {error}")
    return model


def values_of(model, layer):
    """Every site of a layer that can be had."""
    found = {}
    for site in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "residual"):
        try:
            hook = resolve_hook(model, f"{site}:{layer}")
            found[site] = activations_at(model, [hook], TOKENS, VALID)[0]
        except AutointerpError:
            continue
    return found


def adds_up(values, site):
    """Whether some sum with the site in it holds; None where none can be computed."""
    sums = [names for names in SUMS if site in names and values.keys() >= set(names)]
    return any(is_sum([values[name] for name in names]) for names in sums) if sums else None


def is_sum(values):
    *terms, total = values
    if any(term.shape != total.shape for term in terms):
        return False  # several residual streams beside each other
    return torch.allclose(sum(terms), total, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", architectures())
def test_sites_add_up_or_are_said_not_to(architecture):
    model = built(architecture)
    for layer in range(len(decoder_layers(model)[1])):
        values = values_of(model, layer)
        for site in ("attn_out", "mlp_out", "resid_mid"):
            holds = adds_up(values, site) if site in values else None
            if architecture in MUST_HOLD and site != "resid_mid":
                assert holds, (site, layer)
            if site not in values:
                continue
            hooks = [resolve_hook(model, f"{site}:{layer}")]
            if holds is False:
                with pytest.raises(AutointerpError, match=rf"{site}:{layer}: .* does not hold"):
                    check_residual_sums(model, hooks, TOKENS, VALID)
            else:
                unchecked = check_residual_sums(model, hooks, TOKENS, VALID)
                assert unchecked == ([f"{site}:{layer}"] if holds is None else [])


def test_what_does_not_add_up_can_be_read_by_its_module():
    model = tiny_model("llama")
    layer = model.model.layers[1]
    # An architecture whose layers weigh what they add, which nobody has told us of.
    layer.mlp.register_forward_hook(lambda _m, _args, out: out)
    layer.register_forward_hook(lambda _m, args, out: out + 0.1 * args[0])
    hook = resolve_hook(model, "mlp_out:1")
    with pytest.raises(AutointerpError, match=r"--hook model\.layers\.1\.mlp\.output"):
        check_residual_sums(model, [hook, hook], TOKENS % 7, VALID)
    named = resolve_hook(model, f"{hook.path}.{hook.side}")
    assert check_residual_sums(model, [named], TOKENS % 7, VALID) == []
    assert check_residual_sums(model, [resolve_hook(model, "mlp_out:0")], TOKENS % 7, VALID) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_multiplier_is_found_in_every_precision_and_its_absence_too(dtype):
    config = GraniteConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        residual_multiplier=0.22,
    )
    torch.manual_seed(0)
    model = GraniteForCausalLM(config).eval().to(dtype)
    hooks = [resolve_hook(model, f"{site}:2") for site in ("attn_out", "mlp_out", "resid_mid")]
    assert [hook.scale for hook in hooks] == [0.22, 0.22, 1.0]
    assert check_residual_sums(model, hooks, TOKENS, VALID) == []
    model.model.layers[2].residual_multiplier = None  # told nowhere where we look
    model.model.layers[2].forward = _scaled_by(model.model.layers[2], 0.22)
    with pytest.raises(AutointerpError, match="does not hold"):
        check_residual_sums(model, [resolve_hook(model, "mlp_out:2")], TOKENS, VALID)


def _scaled_by(layer, scale):
    """The layer's forward pass with its multiplier kept out of sight."""

    def forward(hidden_states, **kwargs):
        attention = layer.self_attn(layer.input_layernorm(hidden_states), **kwargs)[0]
        middle = hidden_states + attention * scale
        return middle + layer.mlp(layer.post_attention_layernorm(middle)) * scale

    return forward


def test_padding_is_not_looked_at():
    model = tiny_model("gemma2")
    valid = VALID.clone()
    valid[:, 5:] = False
    hooks = [resolve_hook(model, f"{site}:1") for site in ("attn_out", "mlp_out")]
    assert check_residual_sums(model, hooks, TOKENS % 7, valid) == []


def test_hooks_of_one_pass_are_not_written_over():
    """Falcon adds attention's output to the MLP's in place, after the MLP's hook has seen it."""
    model = tiny_model_of("falcon")
    names = [f"{site}:0" for site in ("attn_out", "mlp_out", "residual")]
    together = activations_at(model, [resolve_hook(model, n) for n in names], TOKENS, VALID)
    for name, values in zip(names, together, strict=True):
        alone = activations_at(model, [resolve_hook(model, name)], TOKENS, VALID)[0]
        torch.testing.assert_close(values, alone)
