"""A tiny random model of every architecture that transformers has for causal language modeling."""

import torch
import transformers as hf
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

LAYERS = 2
VOCABULARY = 64
# By the names that configurations give them; those that a configuration has are set.
_SIZES = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim"), 16),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "d_ff", "ffn_hidden_size"), 24),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim"), 24),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), LAYERS),
    **dict.fromkeys(("decoder_layers", "encoder_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), 2),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 2),
    "num_key_value_heads": 1,
    **dict.fromkeys(("head_dim", "v_head_dim", "qk_rope_head_dim", "qk_nope_head_dim"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "moe_intermediate_size"), 8),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    "num_experts_per_tok": 2,
    "rotary_dim": 4,
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_LATENT = {"num_key_value_heads": 2}  # multi-head latent attention shares no keys
_MORE = {
    "axk1": _LATENT,
    "axk2": _LATENT,
    "bloom": {"n_layer": LAYERS, "n_head": 2},
    "deepseek_v2": _LATENT | {"num_experts_per_tok": 2, "topk_method": "greedy"},
    "deepseek_v3": _LATENT,
    "diffllama": {"num_key_value_heads": 2, "num_attention_heads": 4, "head_dim": 4},
    "dots1": {"n_routed_experts": 4},
    "gemma4_text": {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0},
    "glm4_moe_lite": _LATENT,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {
        "layer_types": ["mamba", "attention"],
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_d_state": 4,
    },
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8, "moe_topk": 2},
    "longcat_flash": _LATENT,
    "minicpm3": _LATENT,
    "ministral": {"head_dim": 8},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 1},
    "olmo_hybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "opt": {"word_embed_proj_dim": 16},
    "reformer": {"is_decoder": True},
    "sarvam_mla": _LATENT,
    "youtu": _LATENT,
    "zaya": {"num_experts_per_tok": 1},
}


def architectures() -> list[str]:
    return list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def tiny_model_of(architecture: str) -> torch.nn.Module:
    """With random weights, norms and biases included, and every multiplier other than 1."""
    default = hf.AutoConfig.for_model(architecture).get_text_config(decoder=True)
    kind = type(default)

    def can_be_set(name: str) -> bool:
        found = getattr(kind, name, None)
        return not (isinstance(found, property) and found.fset is None)

    def has(name: str) -> bool:
        try:
            return getattr(default, name, None) is not None
        except AttributeError:
            raise
        except Exception:  # it has one for each layer
            return True

    settings = {name: size for name, size in _SIZES.items() if can_be_set(name) and has(name)}
    if hasattr(default, "residual_multiplier"):
        settings["residual_multiplier"] = 0.22
    for name in ("layer_types", "mlp_layer_types"):
        if isinstance(getattr(default, name, None), list) and can_be_set(name):
            settings[name] = getattr(default, name)[:LAYERS]
    config = kind(**settings | {"pad_token_id": 0} | _MORE.get(architecture, {}))
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model
