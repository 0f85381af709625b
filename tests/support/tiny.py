"""Tiny random models of every architecture whose hooks are resolved by name."""

import torch
import transformers as hf

VOCABULARY = 7
LAYERS = 3
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
_GROUPED = _SIZES | {"num_key_value_heads": 1, "head_dim": 12}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
CONFIGS = {
    "llama": hf.LlamaConfig(**_GROUPED),
    "mistral": hf.MistralConfig(**_GROUPED, sliding_window=None),
    "qwen2": hf.Qwen2Config(**_SIZES, num_key_value_heads=1),
    "qwen3": hf.Qwen3Config(**_GROUPED),
    "qwen3_moe": hf.Qwen3MoeConfig(**_GROUPED, **_EXPERTS),
    "qwen3_5": hf.Qwen3_5TextConfig(
        **_GROUPED,
        layer_types=["full_attention", "linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    ),
    "gemma2": hf.Gemma2Config(**_GROUPED),
    "gemma3": hf.Gemma3TextConfig(**_GROUPED),
    "gpt2": hf.GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=LAYERS, n_head=2, bos_token_id=0, eos_token_id=0
    ),
    "neox": hf.GPTNeoXConfig(**_SIZES),
    "neox_serial": hf.GPTNeoXConfig(**_SIZES, use_parallel_residual=False),
    "gpt_oss": hf.GptOssConfig(**_GROUPED, num_local_experts=4, num_experts_per_tok=2),
}


def tiny_model(family: str) -> torch.nn.Module:
    """Random weights, norms and biases included, so that no place equals another by chance."""
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(CONFIGS[family]).eval().float()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    return model
