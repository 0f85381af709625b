"""A small coder of every family in its exact layout, with the published formula in numpy.

Each function writes one and returns what to load and the formulas, which know nothing of our code:
`encode` and `decode` in float64, `decode` in the space the coder reconstructs (None where it
reconstructs something else than its input).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

D, FEATURES, K = 6, 40, 5


@dataclass(frozen=True)
class Layout:
    path: Path
    encode: Callable[[np.ndarray], np.ndarray]  # [tokens, D] → [tokens, FEATURES]
    decode: Callable[[np.ndarray], np.ndarray] | None = None
    target: Callable[[np.ndarray], np.ndarray] = lambda x: x  # what `decode` should come near
    hook: str | None = None
    l0: float | None = None


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "W_enc": normal(D, FEATURES),
        "W_dec": normal(FEATURES, D),
        "b_enc": normal(FEATURES),
        "b_dec": normal(D),
        "threshold": torch.rand(FEATURES, generator=generator) + 0.5,
        "r_mag": normal(FEATURES) / 3,
        "b_mag": normal(FEATURES),
    }


def exact(seed: int = 0) -> dict[str, np.ndarray]:
    return {name: t.double().numpy() for name, t in weights(seed).items()}


def relu(h: np.ndarray) -> np.ndarray:
    return np.maximum(h, 0)


def jumprelu(h: np.ndarray, threshold: np.ndarray | float) -> np.ndarray:
    return np.where(h > threshold, relu(h), 0)


def topk(h: np.ndarray, k: int = K) -> np.ndarray:
    kept = np.zeros_like(h)
    for row, values in enumerate(h):
        for i in np.argsort(-values)[:k]:
            kept[row, i] = max(values[i], 0)
    return kept


def row_norms() -> np.ndarray:
    return np.sqrt((exact()["W_dec"] ** 2).sum(1))


def layer_norm(x: np.ndarray) -> np.ndarray:
    centered = x - x.mean(1, keepdims=True)
    return centered / (centered.std(1, ddof=1, keepdims=True) + 1e-5)


def unit_rms(x: np.ndarray) -> np.ndarray:
    return x * np.sqrt(D) / np.sqrt((x**2).sum(1, keepdims=True))


def plain(subtract: bool = False) -> Callable[[np.ndarray], np.ndarray]:
    w = exact()
    return lambda x: (x - w["b_dec"] * subtract) @ w["W_enc"] + w["b_enc"]


def plain_decode(acts: np.ndarray) -> np.ndarray:
    return acts @ exact()["W_dec"] + exact()["b_dec"]


def _stored(*names: str, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    found = {n: t for n, t in weights().items() if n in names} | changes
    return {name: t.contiguous() for name, t in found.items()}


def _folder(root: Path, *parts: str) -> Path:
    folder = root.joinpath(*parts)
    folder.mkdir(parents=True)
    return folder


def qwen_scope(root: Path) -> Layout:
    folder = _folder(root, f"SAE-Res-Qwen3-8B-Base-W64K-L0_{K}")
    w = weights()
    turned = {"W_enc": w["W_enc"].T, "W_dec": w["W_dec"].T}
    torch.save(_stored("b_enc", "b_dec", **turned), folder / "layer7.sae.pt")
    h = plain()
    return Layout(
        folder / "layer7.sae.pt", lambda x: topk(h(x)), plain_decode, hook="residual:7", l0=K
    )


def gemma_scope_1(root: Path) -> Layout:
    folder = _folder(root, "gemma-scope-2b-pt-res", "layer_20", "width_16k", "average_l0_71")
    stored = _stored("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
    np.savez(folder / "params.npz", **{n: t.numpy() for n, t in stored.items()})
    h, threshold = plain(), exact()["threshold"]
    return Layout(
        folder, lambda x: jumprelu(h(x), threshold), plain_decode, hook="residual:20", l0=71
    )


def gemma_scope_1_lower_case(root: Path) -> Layout:
    folder = _folder(root, "gemma-scope-9b-pt-att", "layer_3", "width_16k", "average_l0_34")
    stored = _stored("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
    np.savez(folder / "params.npz", **{n.lower(): t.numpy() for n, t in stored.items()})
    h, threshold = plain(), exact()["threshold"]
    return Layout(folder, lambda x: jumprelu(h(x), threshold), plain_decode, hook="hook_z:3", l0=34)


def gemma_scope_1_transcoder(root: Path) -> Layout:
    folder = _folder(root, "gemma-scope-2b-pt-transcoders", "layer_4", "width_16k", "average_l0_9")
    stored = _stored("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
    np.savez(folder / "params.npz", **{n: t.numpy() for n, t in stored.items()})
    h, threshold = plain(), exact()["threshold"]
    hook = "blocks.4.ln2.hook_normalized"
    return Layout(folder, lambda x: jumprelu(h(x), threshold), hook=hook, l0=9)


def gemma_scope_2(root: Path) -> Layout:
    folder = _folder(root, "resid_post", "layer_22_width_16k_l0_medium")
    stored = _stored("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
    save_file({n.lower(): t for n, t in stored.items()}, folder / "params.safetensors")
    point = "model.layers.22.output"
    config = {"hf_hook_point_in": point, "hf_hook_point_out": point, "width": FEATURES, "l0": 60}
    (folder / "config.json").write_text(json.dumps(config | {"architecture": "jump_relu"}))
    h, threshold = plain(), exact()["threshold"]
    return Layout(folder, lambda x: jumprelu(h(x), threshold), plain_decode, hook=point, l0=60)


def gemma_scope_2_affine_transcoder(root: Path) -> Layout:
    folder = _folder(root, "transcoder", "layer_9_width_16k_l0_small_affine")
    skip = torch.randn(D, D)
    stored = _stored("W_enc", "W_dec", "b_enc", "b_dec", "threshold", affine_skip_connection=skip)
    save_file({n.lower(): t for n, t in stored.items()}, folder / "params.safetensors")
    h, threshold = plain(), exact()["threshold"]
    return Layout(folder, lambda x: jumprelu(h(x), threshold), hook="mlp_in:9")


def _dictionary_learning(root: Path, dict_class: str, stored: dict, **trainer: object) -> Path:
    folder = _folder(root, dict_class, "resid_post_layer_9", "trainer_0")
    torch.save(stored, folder / "ae.pt")
    entries = {
        "dict_class": dict_class,
        "activation_dim": D,
        "dict_size": FEATURES,
        "layer": 9,
        "lm_name": "Qwen/Qwen3-8B",
        "submodule_name": "resid_post_layer_9",
    }
    (folder / "config.json").write_text(json.dumps({"trainer": entries | trainer, "buffer": {}}))
    return folder


def _linear(decoder_bias: str | None = "b_dec", **more: torch.Tensor) -> dict:
    w = weights()
    stored = {
        "encoder.weight": w["W_enc"].T.contiguous(),
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].T.contiguous(),
    }
    if decoder_bias is not None:
        stored[decoder_bias] = w["b_dec"]
    return stored | more


def dl_autoencoder(root: Path) -> Layout:
    path = _dictionary_learning(root, "AutoEncoder", _linear("bias"))
    h, n = plain(subtract=True), row_norms()
    # The library's loader brings decoder rows to length 1 and the encoder to match.
    return Layout(path, lambda x: relu(h(x)) * n, lambda a: plain_decode(a / n), hook="residual:9")


def dl_autoencoder_new(root: Path) -> Layout:
    path = _dictionary_learning(root, "AutoEncoderNew", _linear("decoder.bias"))
    h = plain()
    return Layout(path, lambda x: relu(h(x)), plain_decode, hook="residual:9")


def dl_gated(root: Path) -> Layout:
    w = weights()
    stored = _linear("decoder_bias", r_mag=w["r_mag"], gate_bias=w["b_enc"], mag_bias=w["b_mag"])
    del stored["encoder.bias"]
    path = _dictionary_learning(root, "GatedAutoEncoder", stored)
    e = exact()

    def encode(x: np.ndarray) -> np.ndarray:
        product = (x - e["b_dec"]) @ e["W_enc"]
        return (product + e["b_enc"] > 0) * relu(np.exp(e["r_mag"]) * product + e["b_mag"])

    return Layout(path, encode, plain_decode, hook="residual:9")


def dl_jumprelu(root: Path) -> Layout:
    stored = _stored("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
    path = _dictionary_learning(root, "JumpReluAutoEncoder", stored)
    h, threshold = plain(), exact()["threshold"]
    return Layout(path, lambda x: jumprelu(h(x), threshold), plain_decode, hook="residual:9")


def dl_topk(root: Path) -> Layout:
    stored = _linear(k=torch.tensor(K), threshold=torch.tensor(-1.0))
    path = _dictionary_learning(root, "AutoEncoderTopK", stored, k=K)
    h = plain(subtract=True)
    return Layout(path, lambda x: topk(h(x)), plain_decode, hook="residual:9", l0=K)


def dl_batch_topk(root: Path) -> Layout:
    stored = _linear(k=torch.tensor(K), threshold=torch.tensor(1.25))
    name = {"submodule_name": "mlp_out_layer_9"}
    path = _dictionary_learning(root, "BatchTopKSAE", stored, k=K, **name)
    h = plain(subtract=True)
    return Layout(path, lambda x: jumprelu(h(x), 1.25), plain_decode, hook="mlp_out:9", l0=K)


def dl_batch_topk_unset(root: Path) -> Layout:
    stored = _linear(k=torch.tensor(K), threshold=torch.tensor(-1.0))
    path = _dictionary_learning(root, "BatchTopKSAE", stored, k=K)
    h = plain(subtract=True)
    return Layout(path, lambda x: topk(h(x)), plain_decode, hook="residual:9", l0=K)


def dl_matryoshka(root: Path) -> Layout:
    stored = _stored(
        "W_enc",
        "W_dec",
        "b_enc",
        "b_dec",
        k=torch.tensor(K),
        threshold=torch.tensor(0.75),
        group_sizes=torch.tensor([FEATURES // 2, FEATURES // 2]),
    )
    path = _dictionary_learning(root, "MatryoshkaBatchTopKSAE", stored, k=K)
    h = plain(subtract=True)
    return Layout(path, lambda x: jumprelu(h(x), 0.75), plain_decode, hook="residual:9", l0=K)


def _sparsify(root: Path, module: str, **config: object) -> Path:
    folder = _folder(root, module)
    w = weights()
    stored = {"encoder.weight": w["W_enc"].T, "encoder.bias": w["b_enc"]}
    save_file(_stored("W_dec", "b_dec", **stored), folder / "sae.safetensors")
    entries = {"activation": "topk", "num_latents": 0, "k": K, "d_in": D, "transcode": False}
    (folder / "cfg.json").write_text(json.dumps(entries | config))
    return folder


def sparsify_topk(root: Path) -> Layout:
    path = _sparsify(root, "layers.2")
    h = plain(subtract=True)
    return Layout(path, lambda x: topk(h(x)), plain_decode, hook="layers.2.output", l0=K)


def sparsify_groupmax(root: Path) -> Layout:
    path = _sparsify(root, "layers.2.mlp", activation="groupmax")
    h = plain(subtract=True)

    def encode(x: np.ndarray) -> np.ndarray:
        values, kept = h(x), np.zeros((len(x), FEATURES))
        size = FEATURES // K
        for row, line in enumerate(values):
            for group in range(K):
                best = group * size + int(np.argmax(line[group * size : (group + 1) * size]))
                kept[row, best] = max(line[best], 0)
        return kept

    return Layout(path, encode, plain_decode, hook="layers.2.mlp.output", l0=K)


def sparsify_transcoder(root: Path) -> Layout:
    path = _sparsify(root, "layers.2.mlp", transcode=True)
    h = plain()
    return Layout(path, lambda x: topk(h(x)), hook="layers.2.mlp.input", l0=K)


def llama_scope(root: Path) -> Layout:
    folder = _folder(root, "Llama3_1-8B-Base-L15R-8x", "checkpoints").parent
    mean_norm, threshold = 9.5, 0.6
    save_file(
        {
            "encoder.weight": weights()["W_enc"].T.contiguous(),
            "encoder.bias": weights()["b_enc"],
            "decoder.weight": weights()["W_dec"].T.contiguous(),
            "decoder.bias": weights()["b_dec"],
        },
        folder / "checkpoints" / "final.safetensors",
    )
    hook = "blocks.15.hook_resid_post"
    config = {
        "hook_point_in": hook,
        "hook_point_out": hook,
        "act_fn": "jumprelu",
        "jump_relu_threshold": threshold,
        "top_k": 50,
        "d_model": D,
        "d_sae": FEATURES,
        "apply_decoder_bias_to_pre_encoder": False,
        "dataset_average_activation_norm": {"in": mean_norm, "out": mean_norm},
    }
    (folder / "hyperparams.json").write_text(json.dumps(config))
    e, n, s = exact(), row_norms(), np.sqrt(D) / mean_norm
    return Layout(
        folder,
        lambda x: jumprelu((x @ e["W_enc"] + e["b_enc"] / s) * n, threshold),
        lambda a: (a / n) @ e["W_dec"] + e["b_dec"] / s,
        hook=hook,
    )


def _openmoss(root: Path, tensors: dict, **config: object) -> Path:
    folder = _folder(root, "transcoder", "8x", "k128", "layer12")
    w = weights()
    stored = {"W_E": w["W_enc"], "b_E": w["b_enc"], "W_D": w["W_dec"], "b_D": w["b_dec"]}
    save_file(stored | tensors, folder / "sae_weights.safetensors")
    hook = "blocks.12.hook_resid_post"
    entries = {
        "sae_type": "sae",
        "d_model": D,
        "expansion_factor": FEATURES / D,
        "hook_point_in": hook,
        "hook_point_out": hook,
        "norm_activation": "inference",
        "sparsity_include_decoder_norm": True,
        "top_k": K,
    }
    (folder / "config.json").write_text(json.dumps(entries | config))
    return folder


def openmoss_topk(root: Path) -> Layout:
    path = _openmoss(root, {}, act_fn="topk")
    h, n = plain(), row_norms()
    return Layout(
        path,
        lambda x: topk(h(x) * n) / n,
        plain_decode,
        hook="blocks.12.hook_resid_post",
        l0=K,
    )


def openmoss_jumprelu_dataset_wise(root: Path) -> Layout:
    hook, mean_norm = "blocks.12.hook_resid_post", 7.0
    w = weights()
    tensors = {
        "activation_function.log_jumprelu_threshold": w["threshold"].log(),
        f"dataset_average_activation_norm.{hook}": torch.tensor(mean_norm),
    }
    path = _openmoss(root, tensors, act_fn="jumprelu", norm_activation="dataset-wise")
    h, n, s = plain(), row_norms(), np.sqrt(D) / mean_norm
    return Layout(
        path,
        lambda x: jumprelu(h(x * s) * n, exact()["threshold"]) / n,
        lambda a: plain_decode(a) / s,
        hook=hook,
    )


def openmoss_token_wise_transcoder(root: Path) -> Layout:
    path = _openmoss(
        root,
        {},
        act_fn="relu",
        norm_activation="token-wise",
        hook_point_in="blocks.12.mlp.hook_in",
        hook_point_out="blocks.12.hook_mlp_out",
    )
    h = plain()
    return Layout(path, lambda x: relu(h(unit_rms(x))), hook="blocks.12.mlp.hook_in")


def r1_distill(root: Path) -> Layout:
    folder = _folder(root, "400M-Slimpajama-400M-OpenR1-Math-220k", "L15R")
    w, mean_norm, hook = weights(), 11.0, "blocks.15.hook_resid_post"
    stored = {
        "encoder.weight": w["W_enc"].T.contiguous(),
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].T.contiguous(),
        "decoder.bias": w["b_dec"],
        "log_jumprelu_threshold": w["threshold"].log(),
    }
    save_file(stored, folder / "sae_weights.safetensors")
    config = {
        "d_model": D,
        "act_fn": "jumprelu",
        "hook_point_in": hook,
        "hook_point_out": hook,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": mean_norm},
    }
    (folder / "config.json").write_text(json.dumps(config))
    h, s, threshold = plain(), np.sqrt(D) / mean_norm, exact()["threshold"]
    return Layout(
        folder,
        lambda x: jumprelu(h(x * s), threshold),
        lambda a: plain_decode(a) / s,
        hook=hook,
    )


def _openai(root: Path, version: str, **more: object) -> Path:
    folder = _folder(root, "gpt2-small", f"resid_post_attn_{version}_32k", "autoencoders")
    w = weights()
    stored = {
        "encoder.weight": w["W_enc"].T.contiguous(),
        "decoder.weight": w["W_dec"].T.contiguous(),
        "pre_bias": w["b_dec"],
        "latent_bias": w["b_enc"],
        "stats_last_nonzero": torch.zeros(FEATURES, dtype=torch.long),
    }
    torch.save(stored | more, folder / "8.pt")
    return folder / "8.pt"


def openai_v5(root: Path) -> Layout:
    path = _openai(root, "v5", activation="TopK", activation_state_dict={"k": K})
    h = plain(subtract=True)
    return Layout(
        path,
        lambda x: topk(h(layer_norm(x))),
        plain_decode,
        target=layer_norm,
        hook="resid_mid:8",
        l0=K,
    )


def openai_v4(root: Path) -> Layout:
    path = _openai(root, "v4", activation="ReLU", activation_state_dict={})
    h = plain(subtract=True)
    return Layout(path, lambda x: relu(h(x)), plain_decode, hook="resid_mid:8")


def goodfire(root: Path) -> Layout:
    folder = _folder(root, "Llama-3.1-8B-Instruct-SAE-l19")
    w = weights()
    stored = {
        "encoder_linear.weight": w["W_enc"].T.contiguous(),
        "encoder_linear.bias": w["b_enc"],
        "decoder_linear.weight": w["W_dec"].T.contiguous(),
        "decoder_linear.bias": w["b_dec"],
    }
    torch.save(stored, folder / "Llama-3.1-8B-Instruct-SAE-l19.pth")
    h = plain()
    return Layout(
        folder / "Llama-3.1-8B-Instruct-SAE-l19.pth",
        lambda x: relu(h(x)),
        plain_decode,
        hook="residual:19",
    )


def qresearch(root: Path) -> Layout:
    file = _folder(root, "hub") / "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt"
    torch.save(_linear("decoder.bias"), file)
    h = plain()
    return Layout(file, lambda x: relu(h(x)), plain_decode, hook="residual:19")


def mwhanna_transcoder(root: Path) -> Layout:
    folder = _folder(root, "qwen3-4b-transcoders")
    stored = _stored("W_dec", "b_enc", "b_dec", W_enc=weights()["W_enc"].T)
    save_file(stored, folder / "layer_6.safetensors")
    (folder / "config.yaml").write_text(
        "model_name: Qwen/Qwen3-4B\nfeature_input_hook: mlp.hook_in\n"
        "feature_output_hook: hook_mlp_out\n"
    )
    h = plain()
    return Layout(folder / "layer_6.safetensors", lambda x: relu(h(x)), hook="blocks.6.mlp.hook_in")


def circuit_tracer_jumprelu(root: Path) -> Layout:
    folder = _folder(root, "transcoders")
    w = weights()
    turned = {"W_enc": w["W_enc"].T, "W_dec": w["W_dec"].T}
    threshold = {"activation_function.threshold": w["threshold"]}
    stored = _stored("b_enc", "b_dec", **turned, **threshold)
    save_file(stored, folder / "layer_6.safetensors")
    h = plain()
    return Layout(
        folder / "layer_6.safetensors",
        lambda x: jumprelu(h(x), exact()["threshold"]),
        hook="blocks.6.mlp.hook_in",
    )


LAYOUTS = (
    qwen_scope,
    gemma_scope_1,
    gemma_scope_1_lower_case,
    gemma_scope_1_transcoder,
    gemma_scope_2,
    gemma_scope_2_affine_transcoder,
    dl_autoencoder,
    dl_autoencoder_new,
    dl_gated,
    dl_jumprelu,
    dl_topk,
    dl_batch_topk,
    dl_batch_topk_unset,
    dl_matryoshka,
    sparsify_topk,
    sparsify_groupmax,
    sparsify_transcoder,
    llama_scope,
    openmoss_topk,
    openmoss_jumprelu_dataset_wise,
    openmoss_token_wise_transcoder,
    r1_distill,
    openai_v5,
    openai_v4,
    goodfire,
    qresearch,
    mwhanna_transcoder,
    circuit_tracer_jumprelu,
)
