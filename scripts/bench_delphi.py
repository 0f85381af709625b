"""Evidence for every feature of the demo's coder: ours against Delphi's, forward pass left out.

    python scripts/bench_delphi.py prepare /tmp/bench           # activations, tokens, coder
    python scripts/bench_delphi.py ours /tmp/bench
    python -m venv /tmp/delphi && /tmp/delphi/bin/pip install "torch<2.14" eai-delphi
    /tmp/delphi/bin/python scripts/bench_delphi.py delphi /tmp/bench

Both read the same activations from disk, encode them with the same TopK coder and end with examples
of every feature; Delphi with its default constructor and sampler, which pass over features with
under 200 examples. Each prints its seconds of encoding, of all, and its peak memory.
"""

import argparse
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

TOKENS, LENGTH, HOOK, BATCH = 500_000, 128, 2, 64


def say(side: str, encode: float, whole: float, features: int) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{side}: encoding {encode:.1f} s, in all {whole:.1f} s, after encoding "
        f"{whole - encode:.1f} s, {features:,} features, peak memory {peak:,.0f} MB"
    )


def prepare(folder: Path) -> None:
    from autointerp import demo
    from autointerp.activations.contexts import TextSettings
    from autointerp.activations.stream import StreamSettings, SubjectStream
    from autointerp.coders import load_coder

    folder.mkdir(parents=True, exist_ok=True)
    text = TextSettings("demo", LENGTH)
    settings = StreamSettings(str(demo.SUBJECT), (f"residual:{HOOK}",), text, TOKENS, BATCH)
    batches = list(SubjectStream(settings, torch.device("cpu")).batches())
    np.save(folder / "acts.npy", torch.cat([b.activations.float() for b in batches]).numpy())
    np.save(folder / "token_ids.npy", torch.cat([b.token_ids for b in batches]).numpy())
    shutil.copytree(demo.SUBJECT, folder / "subject", dirs_exist_ok=True)
    coder = load_coder(demo.CODER)
    np.savez(folder / "coder.npz", encoder=coder.encoder, bias=coder.bias, k=np.array(coder.k))


def ours(folder: Path) -> None:
    import transformers  # noqa: F401 - neither side's imports are counted

    from autointerp import demo
    from autointerp.activations.cache import DenseCache
    from autointerp.activations.formats import open_cache
    from autointerp.coders import load_coder
    from autointerp.config.settings import RunConfig
    from autointerp.evidence.collector import Collector
    from autointerp.evidence.directions import decoder_neighbors
    from autointerp.evidence.store import features_table, windows_file, write_features
    from autointerp.stages.collect.collect_stage import collect_settings

    cpu = torch.device("cpu")
    began = time.perf_counter()
    encode = 0.0
    cache = open_cache(folder / "acts.npy", None, str(folder / "subject"))
    assert isinstance(cache, DenseCache)
    coder = load_coder(demo.CODER)
    every = torch.arange(coder.features)
    assert coder.read_decoder is not None
    similar = decoder_neighbors(coder.read_decoder().weight, every, 10)
    collector = Collector(every, every, LENGTH, collect_settings(RunConfig()), cpu, similar.item)
    for batch in cache.batches(BATCH, cpu):
        flat = batch.activations.flatten(0, 1)
        start = time.perf_counter()
        firings = coder.encode(flat)
        encode += time.perf_counter() - start
        collector.add(batch, firings)
    collector.settle()
    collector.choose()
    with windows_file("demo", cache.get_vocabulary(), folder / "windows.parquet") as write:
        write(collector)
    table = features_table(collector, "demo", cache.get_vocabulary())
    counters, sketches = collector.statistics.counters(), collector.statistics.sketches()
    write_features([table], [counters], [sketches], folder / "features.parquet")
    say("ours", encode, time.perf_counter() - began, coder.features)


class Recorded(torch.nn.Module):
    """A model whose layers give what was recorded, batch after batch."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Identity() for _ in range(HOOK + 1))
        self.device = torch.device("cpu")
        self._file = file
        self._read = 0

    def forward(self, tokens: torch.Tensor) -> None:
        # Mapped anew each time, as ours is: pages of the file are not counted as memory.
        mapped = np.load(self._file, mmap_mode="r")
        part = np.array(mapped[self._read : self._read + len(tokens)])
        self._read += len(tokens)
        self.layers[HOOK](torch.from_numpy(part))


def delphi(folder: Path) -> None:
    from delphi.config import CacheConfig, ConstructorConfig, SamplerConfig
    from delphi.latents import LatentCache, LatentDataset
    from transformers import AutoTokenizer

    stored = np.load(folder / "coder.npz")
    encoder, bias = torch.from_numpy(stored["encoder"]), torch.from_numpy(stored["bias"])
    k, hook = int(stored["k"]), f"layers.{HOOK}"
    raw = folder / "latents"
    shutil.rmtree(raw, ignore_errors=True)
    began = time.perf_counter()
    seconds = [0.0]

    def encode(x: torch.Tensor) -> torch.Tensor:
        start = time.perf_counter()
        before = torch.addmm(bias, x.flatten(0, 1), encoder.T)
        values, features = before.topk(k, dim=1, sorted=False)
        seconds[0] += time.perf_counter() - start
        dense = torch.zeros_like(before).scatter_(1, features, values.relu())
        return dense.view(*x.shape[:2], -1)

    tokens = torch.from_numpy(np.load(folder / "token_ids.npy")).long()
    model: Any = Recorded(folder / "acts.npy")
    cache = LatentCache(model, {hook: encode}, batch_size=BATCH)
    cache.run(n_tokens=tokens.numel(), tokens=tokens)
    cache.save_splits(n_splits=5, save_dir=raw)
    settings = CacheConfig(cache_ctx_len=LENGTH, n_tokens=tokens.numel(), batch_size=BATCH)
    cache.save_config(raw, settings, str(folder / "subject"))
    del cache
    print(f"delphi: cached after {time.perf_counter() - began:.1f} s", flush=True)
    tokenizer = AutoTokenizer.from_pretrained(folder / "subject")
    records = LatentDataset(raw, SamplerConfig(), ConstructorConfig(), tokenizer, [hook])
    found = sum(1 for _ in records)
    say("delphi", seconds[0], time.perf_counter() - began, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("side", choices=["prepare", "ours", "delphi"])
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    {"prepare": prepare, "ours": ours, "delphi": delphi}[options.side](options.folder)


if __name__ == "__main__":
    main()
