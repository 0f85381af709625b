"""Train a TopK SAE on a captured activation cache; writes a folder that --sae reads.

    autointerp capture --subject MODEL --text TEXT --hook residual:15 --cache CACHE
    python scripts/train_sae.py --cache CACHE --out SAE

The folder has SAELens's layout (cfg.json, sae_weights.safetensors) and names its hook, so that
`autointerp run --sae SAE --subject MODEL --text TEXT` needs no more flags. As small as can be:
one SAE, all activations in memory. What is printed at the end is measured on the last contexts
of the cache, which are held out.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from autointerp.activations.cache import DenseCache
from autointerp.activations.formats import find_cache
from autointerp.activations.hooks import lens_name
from autointerp.activations.masks import MASKS
from autointerp.errors import AutointerpError

HELD_OUT_SHARE = 0.05
WARM_UP_STEPS = 100
AUXILIARY_K = 256
AUXILIARY_WEIGHT = 1 / 32
REPORT_EVERY_S = 15


@dataclass
class TopK:
    """activations ≈ topk(W_enc · (x - b_dec) + b_enc) · W_dec + b_dec, rows of W_dec of norm 1."""

    encoder: Tensor  # [features, d]
    encoder_bias: Tensor  # [features]
    decoder: Tensor  # [features, d]
    bias: Tensor  # [d]
    k: int

    def hidden(self, x: Tensor) -> Tensor:
        # The bias goes where one product less is needed for its gradient.
        return F.linear(x, self.encoder, self.encoder_bias - self.encoder @ self.bias)

    def decode(self, indices: Tensor, values: Tensor) -> Tensor:
        """Reads only the rows of active features. indices, values: [tokens, k] → [tokens, d]."""
        return F.embedding_bag(indices, self.decoder, mode="sum", per_sample_weights=values)

    def codes(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Indices and values of the active features of every token: [tokens, k] each."""
        values, indices = hidden.topk(self.k, dim=1)
        return indices, values.relu()

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(reconstruction [tokens, d], indices and values [tokens, k])."""
        indices, values = self.codes(self.hidden(x))
        return self.decode(indices, values) + self.bias, indices, values


def activations_of(cache: DenseCache, most: int) -> Tensor:
    """At most so many activations, bfloat16 [tokens, d], in the order of the text.

    Without the tokens that collecting masks too: first ones, special ones and attention sinks
    would take a share of the loss, and of the features, far beyond their share of the text.
    """
    kept: list[Tensor] = []
    found = 0
    for batch in cache.batches(256, torch.device("cpu")):
        kept.append(batch.activations[batch.eligible(MASKS)].bfloat16())
        found += len(kept[-1])
        if found >= most:
            break
    return torch.cat(kept)[:most]


def _batches(x: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of all activations in random order, again and again."""
    while True:
        for picked in torch.randperm(len(x), generator=generator).split(size):
            yield x[picked].float()


def train(
    x: Tensor,
    *,
    features: int,
    k: int,
    steps: int,
    batch: int = 2048,
    rate: float = 1e-3,
    dead_after: int = 200_000,
    seed: int = 0,
) -> TopK:
    """A TopK SAE of activations [tokens, d], after Gao et al. 2024.

    Features that did not fire for `dead_after` tokens learn to reconstruct what the others leave
    of the input (their section A.2).
    """
    generator = torch.Generator().manual_seed(seed)
    sample = x[torch.randperm(len(x), generator=generator)[:50_000]].float()
    center = sample.mean(0)
    # Learning rates and the like suit inputs of about unit variance, whatever the model's scale.
    scale = math.sqrt(x.shape[1]) / float((sample - center).norm(dim=1).mean())
    decoder = F.normalize(torch.randn(features, x.shape[1], generator=generator), dim=1)
    sae = TopK(decoder.clone(), torch.zeros(features), decoder, center * scale, k)
    parameters = [sae.encoder, sae.encoder_bias, sae.decoder, sae.bias]
    optimizer = torch.optim.Adam([p.requires_grad_() for p in parameters], lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP_STEPS, 4 * (1 - step / steps))
    )
    silent_tokens = torch.zeros(features)
    batches = _batches(x, batch, generator)
    began = reported = time.monotonic()
    for step in range(steps):
        inputs = next(batches) * scale
        hidden = sae.hidden(inputs)
        indices, values = sae.codes(hidden)
        missed = inputs - sae.bias - sae.decode(indices, values)
        loss = missed.square().mean()
        silent_tokens += len(inputs)
        silent_tokens[indices[values > 0]] = 0
        dead = (silent_tokens > dead_after).nonzero().squeeze(1)
        if len(dead) > 0:
            most = min(AUXILIARY_K, len(dead))
            spare, at = hidden[:, dead].topk(most, dim=1)
            left = missed.detach() - sae.decode(dead[at], spare.relu())
            loss = loss + AUXILIARY_WEIGHT * left.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            sae.decoder.copy_(F.normalize(sae.decoder, dim=1))
        if time.monotonic() - reported > REPORT_EVERY_S or step == steps - 1:
            reported = time.monotonic()
            fvu = float(missed.detach().square().sum() / (inputs - inputs.mean(0)).square().sum())
            print(
                f"step {step + 1:,} of {steps:,}: FVU {fvu:.3f}, {len(dead):,} dead, "
                f"{reported - began:.0f} s",
                flush=True,
            )
    for parameter in parameters:
        parameter.requires_grad_(False)
    # Of activations as the model has them: all but the biases is the same at every scale.
    return TopK(sae.encoder, sae.encoder_bias / scale, sae.decoder, sae.bias / scale, k)


def quality(sae: TopK, x: Tensor) -> dict[str, float]:
    """Fraction of variance unexplained, mean active features a token, share that never fires."""
    fired = torch.zeros(len(sae.encoder), dtype=torch.bool)
    missed = spread = active = 0.0
    mean = x.float().mean(0)
    for part in x.split(4096):
        inputs = part.float()
        rebuilt, indices, values = sae.reconstruct(inputs)
        fired[indices[values > 0]] = True
        active += float((values > 0).sum())
        missed += float((inputs - rebuilt).square().sum())
        spread += float((inputs - mean).square().sum())
    return {"fvu": missed / spread, "l0": active / len(x), "dead": float((~fired).float().mean())}


def save(sae: TopK, folder: Path, hook: str | None, subject: str | None) -> None:
    """SAELens's layout."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        "W_enc": sae.encoder.T.contiguous(),
        "b_enc": sae.encoder_bias,
        "W_dec": sae.decoder,
        "b_dec": sae.bias,
    }
    save_file(weights, folder / "sae_weights.safetensors")
    features, width = sae.decoder.shape
    settings = {
        "architecture": "topk",
        "d_in": width,
        "d_sae": features,
        "k": sae.k,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "rescale_acts_by_decoder_norm": False,
        "reshape_activations": "none",
        "metadata": {"model_name": subject} | ({"hook_name": lens_name(hook)} if hook else {}),
    }
    (folder / "cfg.json").write_text(json.dumps(settings, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="of `autointerp capture`")
    parser.add_argument("--out", type=Path, required=True, help="folder for the SAE")
    parser.add_argument("--features", type=int, default=4096)
    parser.add_argument("--k", type=int, default=32, help="active features of a token")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=2048, help="tokens in a step")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of Adam")
    parser.add_argument("--tokens", type=int, default=5_000_000, help="at most so many are read")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if not 0 < given.k <= given.features:
        parser.error(f"--k {given.k} must be from 1 to --features {given.features}")
    for name in ("steps", "batch", "tokens"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} must be at least 1")
    try:
        cache = find_cache(given.cache)
        if not isinstance(cache, DenseCache):
            raise AutointerpError(
                f"{given.cache} holds features, not activations: capture it dense"
            )
        x = activations_of(cache, given.tokens)
    except AutointerpError as error:
        parser.error(str(error))
    if x.shape[1] == given.features:
        parser.error(f"--features {given.features} is the activations' width: name another number")
    train_size = len(x) - math.ceil(HELD_OUT_SHARE * len(x))
    if train_size < given.batch:
        parser.error(f"{given.cache} holds {len(x):,} tokens that count, less than a --batch")
    print(f"{train_size:,} activations of width {x.shape[1]}, {len(x) - train_size:,} held out")
    wanted = {n: getattr(given, n) for n in ("features", "k", "steps", "batch", "rate", "seed")}
    sae = train(x[:train_size], **wanted)
    found = quality(sae, x[train_size:])
    print(
        f"held out: FVU {found['fvu']:.3f}, L0 {found['l0']:.1f}, "
        f"{100 * found['dead']:.1f} % of features never fire there"
    )
    hook = cache.origin.hook
    if hook is None:
        print(f"{given.cache} does not say which hook it is of: name it with --hook in `run`")
    save(sae, given.out, hook, cache.origin.subject)
    print(f"{given.out}: {given.features:,} features, k = {given.k}")


if __name__ == "__main__":
    main()
