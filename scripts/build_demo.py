"""Build the demo bundle: a small causal language model and a TopK SAE on its residual stream.

    python scripts/build_demo.py [--out autointerp/demo] [--stage all|tokenizer|model|coder]

Everything is trained on the sources of the running Python's standard library with a fixed seed:
a byte-level BPE tokenizer, a Qwen3-shaped model (about 40 minutes on 2 cores) and an SAE (about
10 minutes). One file in twenty, chosen by the hash of its path, is held out; the figures printed
at the end (nats per token, fraction of variance unexplained, dead features) are on those.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from autointerp.demo.demo_text import path_hash, standard_library_documents

SEED = 0
VOCABULARY = 4096
END_OF_TEXT = "<|endoftext|>"
CONTEXT = 256
HOLD_OUT_ONE_IN = 20

MODEL_STEPS = 3200
MODEL_BATCH = 16
MODEL_RATE = 3e-3

LAYER = 2
FEATURES = 3072
K = 32
CODER_TOKENS = 4_000_000
CODER_STEPS = 6000
CODER_BATCH = 4096
CODER_RATE = 8e-4
AUXILIARY_K = 128
AUXILIARY_WEIGHT = 1 / 32
DEAD_AFTER_STEPS = 100


def split_documents() -> tuple[list[str], list[str]]:
    """(training, held-out) texts of the standard library, its tests included."""
    train: list[str] = []
    held_out: list[str] = []
    for relative, text in standard_library_documents(with_tests=True):
        (held_out if path_hash(relative) % HOLD_OUT_ONE_IN == 0 else train).append(text)
    return train, held_out


def build_tokenizer(documents: list[str], out: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    ).save_pretrained(out)


def pack(documents: list[str], tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Token ids of all documents, an end-of-text after each: [contexts, CONTEXT]."""
    ids: list[int] = []
    for encoding in tokenizer(documents)["input_ids"]:
        ids.extend(encoding)
        ids.append(tokenizer.eos_token_id)
    rows = len(ids) // CONTEXT
    return torch.tensor(ids[: rows * CONTEXT]).view(rows, CONTEXT)


def next_token_loss(logits: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), token_ids[:, 1:].flatten())


@torch.no_grad()
def nats_per_token(model: torch.nn.Module, contexts: torch.Tensor) -> float:
    model.eval()
    total = 0.0
    batches = contexts[:512].split(MODEL_BATCH)
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch).logits
        total += next_token_loss(logits, batch).item()
    model.train()
    return total / len(batches)


def train_model(train: torch.Tensor, held_out: torch.Tensor, out: Path) -> None:
    torch.manual_seed(SEED)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        use_cache=False,
    )
    model = Qwen3ForCausalLM(config)
    print(f"model: {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=MODEL_RATE,
        betas=(0.9, 0.95),
    )

    def rate(step: int) -> float:
        if step < 100:
            return (step + 1) / 100
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - 100) / (MODEL_STEPS - 100)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    order = torch.Generator().manual_seed(SEED)
    queue = torch.empty(0, dtype=torch.long)
    began = time.monotonic()
    for step in range(MODEL_STEPS):
        if len(queue) < MODEL_BATCH:
            queue = torch.randperm(len(train), generator=order)
        batch, queue = train[queue[:MODEL_BATCH]], queue[MODEL_BATCH:]
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch).logits
        loss = next_token_loss(logits, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 0:
            speed = (step + 1) * MODEL_BATCH * CONTEXT / (time.monotonic() - began)
            print(f"model step {step}: loss {loss.item():.3f}, {speed:,.0f} tokens/s", flush=True)
    print(f"model: {nats_per_token(model, held_out):.3f} nats per token held out", flush=True)
    model.to(torch.bfloat16).save_pretrained(out)


@torch.no_grad()
def residuals(model_path: Path, contexts: torch.Tensor) -> torch.Tensor:
    """Outputs of layer LAYER without each context's first token: bf16 [tokens, hidden]."""
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()
    caught: list[torch.Tensor] = []

    def keep(_module: object, _inputs: object, output: torch.Tensor) -> None:
        caught.append(output[:, 1:].to(torch.bfloat16).flatten(0, 1))

    model.model.layers[LAYER].register_forward_hook(keep)
    for batch in contexts.split(64):
        with torch.autocast("cpu", torch.bfloat16):
            model.model(batch)
    return torch.cat(caught)


def train_coder(train: torch.Tensor, held_out: torch.Tensor, out: Path) -> None:
    """A TopK SAE with an auxiliary loss for dead features (Gao et al. 2024, sections 2.3, A.2)."""
    torch.manual_seed(SEED)
    width = train.shape[1]
    scale = math.sqrt(width) / train[:100_000].float().norm(dim=1).mean().item()
    decoder = F.normalize(torch.randn(FEATURES, width), dim=1)
    encoder = decoder.clone()
    bias = torch.zeros(FEATURES)
    center = (train[:100_000].float() * scale).mean(0)
    parameters = [p.requires_grad_() for p in (encoder, bias, decoder, center)]
    optimizer = torch.optim.Adam(parameters, lr=CODER_RATE, betas=(0.9, 0.999))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 200, 5 * (1 - step / CODER_STEPS))
    )
    silent_for = torch.zeros(FEATURES)
    order = torch.Generator().manual_seed(SEED)
    began = time.monotonic()
    for step in range(CODER_STEPS):
        picked = torch.randint(len(train), (CODER_BATCH,), generator=order)
        x = train[picked].float() * scale
        with torch.autocast("cpu", torch.bfloat16):
            before = (x - center) @ encoder.T
        before = before.float() + bias
        values, indices = before.topk(K, dim=1)
        values = values.relu()
        codes = torch.zeros_like(before).scatter(1, indices, values)
        with torch.autocast("cpu", torch.bfloat16):
            rebuilt = codes @ decoder
        error = x - (rebuilt.float() + center)
        loss = error.pow(2).sum(1).mean() / width
        silent_for += 1
        silent_for[indices[values > 0].unique()] = 0
        dead = (silent_for > DEAD_AFTER_STEPS).nonzero().squeeze(1)
        if len(dead) > 0:
            aux_values, at = before[:, dead].topk(min(AUXILIARY_K, len(dead)), dim=1)
            aux_codes = torch.zeros(len(x), len(dead)).scatter(1, at, aux_values.relu())
            missed = error.detach() - aux_codes @ decoder[dead]
            loss = loss + AUXILIARY_WEIGHT * missed.pow(2).sum(1).mean() / width
        loss.backward()
        with torch.no_grad():
            # The norm is fixed at one, so the part of the gradient along it is only noise to Adam.
            assert decoder.grad is not None
            decoder.grad -= (decoder.grad * decoder).sum(1, keepdim=True) * decoder
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        with torch.no_grad():
            decoder.copy_(F.normalize(decoder, dim=1))
        if step % 200 == 0:
            fvu = (error.pow(2).sum() / (x - x.mean(0)).pow(2).sum()).item()
            print(
                f"coder step {step}: FVU {fvu:.4f}, {len(dead)} dead, "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
    with torch.no_grad():
        # x' = scale * x: fold the scale into the weights, so that the file takes raw activations.
        weights = {
            "W_enc": (encoder.T * scale).to(torch.bfloat16).contiguous(),
            "b_enc": bias.detach().clone(),
            "W_dec": (decoder / scale).to(torch.bfloat16).contiguous(),
            "b_dec": (center / scale).detach().clone(),
        }
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / "sae_weights.safetensors")
    config = {
        "architecture": "topk",
        "d_in": width,
        "d_sae": FEATURES,
        "k": K,
        "dtype": "bfloat16",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "reshape_activations": "none",
        "metadata": {
            "hook_name": f"blocks.{LAYER}.hook_resid_post",
            "model_name": "autointerp-demo",
            "prepend_bos": False,
        },
    }
    (out / "cfg.json").write_text(json.dumps(config, indent=2) + "\n")
    report_coder(weights, held_out)


@torch.no_grad()
def report_coder(weights: dict[str, torch.Tensor], held_out: torch.Tensor) -> None:
    fired = torch.zeros(FEATURES, dtype=torch.long)
    mean = held_out.float().mean(0)
    missed = spread = 0.0
    for chunk in held_out.split(8192):
        x = chunk.float()
        before = (x - weights["b_dec"]) @ weights["W_enc"].float() + weights["b_enc"]
        values, indices = before.topk(K, dim=1)
        values = values.relu()
        fired += torch.bincount(indices[values > 0], minlength=FEATURES)
        codes = torch.zeros_like(before).scatter(1, indices, values)
        missed += (x - codes @ weights["W_dec"].float() - weights["b_dec"]).pow(2).sum().item()
        spread += (x - mean).pow(2).sum().item()
    dead = (fired == 0).float().mean().item()
    print(
        f"coder: held out on {len(held_out):,} tokens: FVU {missed / spread:.4f}, "
        f"dead {100 * dead:.2f} %",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("autointerp/demo"))
    parser.add_argument("--stage", choices=("all", "tokenizer", "model", "coder"), default="all")
    arguments = parser.parse_args()
    subject, coder = arguments.out / "subject", arguments.out / "coder"
    train_documents, held_out_documents = split_documents()
    if arguments.stage in ("all", "tokenizer"):
        build_tokenizer(train_documents, subject)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(subject)
    train, held_out = pack(train_documents, tokenizer), pack(held_out_documents, tokenizer)
    print(f"text: {train.numel():,} tokens for training, {held_out.numel():,} held out", flush=True)
    if arguments.stage in ("all", "model"):
        train_model(train, held_out, subject)
    if arguments.stage in ("all", "coder"):
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SEED))
        train_activations = residuals(subject, train[order[: CODER_TOKENS // CONTEXT]])
        train_coder(train_activations, residuals(subject, held_out), coder)
    size = sum(f.stat().st_size for f in [*subject.iterdir(), *coder.iterdir()] if f.is_file())
    print(f"bundle: {size / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    main()
