"""Write `ae.pt` samples of every class with dictionary_learning itself.

    python -m venv /tmp/dl && /tmp/dl/bin/pip install "torch<2.14" dictionary-learning
    /tmp/dl/bin/python scripts/peer_samples/dictionary_learning_samples.py \\
        tests/data/dictionary_learning

Beside each stands `expected.safetensors`: inputs `x` and what `encode` and `decode` make of them.
"""

import argparse
import json
import shutil
from importlib import metadata
from pathlib import Path

import torch
from dictionary_learning.dictionary import (
    AutoEncoder,
    AutoEncoderNew,
    GatedAutoEncoder,
    JumpReluAutoEncoder,
)
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from safetensors.torch import save_file

D, F, K, TOKENS = 8, 48, 5, 12


def coders() -> dict[str, torch.nn.Module]:
    return {
        "AutoEncoder": AutoEncoder(D, F),
        "AutoEncoderNew": AutoEncoderNew(D, F),
        "GatedAutoEncoder": GatedAutoEncoder(D, F),
        "JumpReluAutoEncoder": JumpReluAutoEncoder(D, F),
        "AutoEncoderTopK": AutoEncoderTopK(D, F, K),
        "BatchTopKSAE": BatchTopKSAE(D, F, K),
        "MatryoshkaBatchTopKSAE": MatryoshkaBatchTopKSAE(D, F, K, [F // 2, F - F // 2]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    torch.manual_seed(0)
    for name, coder in coders().items():
        folder = out / name
        folder.mkdir(parents=True)
        for parameter in coder.parameters():
            parameter.data.normal_(0, 1)
        if hasattr(coder, "threshold"):
            coder.threshold.data.fill_(1.25)
        torch.save(coder.state_dict(), folder / "ae.pt")
        if name == "AutoEncoder":
            # The library's loader brings this one's decoder to unit rows.
            coder = AutoEncoder.from_pretrained(folder / "ae.pt")
        trainer = {
            "dict_class": name,
            "activation_dim": D,
            "dict_size": F,
            "k": K,
            "layer": 9,
            "lm_name": "small",
            "submodule_name": "resid_post_layer_9",
        }
        (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
        x = torch.randn(TOKENS, D) * 3
        with torch.no_grad():
            activations = coder.encode(x)
            decoded = coder.decode(activations)
        expected = {"x": x, "activations": activations, "decoded": decoded}
        save_file({k: v.contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    versions = {"dictionary-learning": metadata.version("dictionary-learning")}
    (out / "made_by.json").write_text(json.dumps(versions) + "\n")


if __name__ == "__main__":
    main()
