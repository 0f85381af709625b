"""Write a sample with Delphi and sparsify themselves: a coder, and the latents Delphi caches of it.

    python -m venv /tmp/delphi && /tmp/delphi/bin/pip install "torch<2.14" eai-delphi
    /tmp/delphi/bin/pip uninstall torchvision    # where it was built for another torch
    /tmp/delphi/bin/python scripts/peer_samples/delphi_samples.py tests/data/delphi

`subject/` is the small model, `coder/layers.1` what sparsify saves, `latents/layers.1` what
Delphi's LatentCache saves, `expected.safetensors` the tokens and the dense float32 latents. The
last feature is scaled up, so that Delphi's float16 overflows to infinity. `text.jsonl` is what was
tokenized.
"""

import argparse
import json
import shutil
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
from delphi.config import CacheConfig
from delphi.latents import LatentCache
from delphi.sparse_coders.load_sparsify import sae_dense_latents
from safetensors.torch import save_file
from small_subject import TEXTS, write_small_subject
from sparsify import SparseCoder, SparseCoderConfig
from transformers import AutoTokenizer, LlamaForCausalLM

HOOKPOINT, LENGTH, CONTEXTS, FEATURES, K = "layers.1", 16, 20, 60, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    subject = write_small_subject(out / "subject")
    (out / "text.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    model = LlamaForCausalLM.from_pretrained(subject).model.eval()
    tokenizer = AutoTokenizer.from_pretrained(subject)
    ids = [i for text in TEXTS for i in [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]]
    tokens = torch.tensor(ids[: CONTEXTS * LENGTH]).view(CONTEXTS, LENGTH)

    torch.manual_seed(1)
    coder = SparseCoder(8, SparseCoderConfig(num_latents=FEATURES, k=K), decoder=True)
    for parameter in coder.parameters():
        parameter.data.normal_(0, 1)
    coder.encoder.weight.data[-1] *= 1e6
    coder.save_to_disk(out / "coder" / HOOKPOINT)

    encode = partial(sae_dense_latents, sae=coder)
    cache = LatentCache(model, {HOOKPOINT: encode}, batch_size=4)
    cache.run(n_tokens=CONTEXTS * LENGTH, tokens=tokens)
    latents = out / "latents"
    cache.save_splits(n_splits=3, save_dir=latents)
    settings = CacheConfig(
        dataset_repo="in memory",
        dataset_split="train",
        dataset_name="",
        dataset_column="text",
        batch_size=4,
        cache_ctx_len=LENGTH,
        n_tokens=CONTEXTS * LENGTH,
        n_splits=3,
    )
    cache.save_config(latents, settings, str(subject.name))

    with torch.no_grad():
        states = model(tokens, output_hidden_states=True).hidden_states[2]
        expected = sae_dense_latents(states, coder)
    save_file({"tokens": tokens, "latents": expected.contiguous()}, out / "expected.safetensors")
    versions = {name: metadata.version(name) for name in ("eai-delphi", "eai-sparsify")}
    (out / "made_by.json").write_text(json.dumps(versions) + "\n")


if __name__ == "__main__":
    main()
