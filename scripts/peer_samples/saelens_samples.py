"""Write samples with SAELens itself: SAEs of every architecture, and a cache of activations.

    python -m venv /tmp/saelens && /tmp/saelens/bin/pip install "torch<2.14" sae-lens
    /tmp/saelens/bin/python scripts/peer_samples/saelens_samples.py tests/data/saelens

Each SAE's folder holds what `save_model` writes, and `expected.safetensors`: inputs `x`, and what
SAELens's `encode` and `decode` make of them. The cache's folder holds what `CacheActivationsRunner`
writes, and beside it the token ids and activations that SAELens's own model wrapper gives.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from datasets import Dataset
from sae_lens import SAE, CacheActivationsRunner, CacheActivationsRunnerConfig
from safetensors.torch import save_file
from small_subject import TEXTS, write_small_subject

D_IN, D_SAE, TOKENS = 8, 48, 12
NORMS = ("none", "layer_norm", "expected_average_only_in", "constant_norm_rescale")


def configurations() -> dict[str, dict[str, object]]:
    """Settings by the name of the sample's folder."""
    found: dict[str, dict[str, object]] = {}
    for norm in NORMS:
        for subtract in (True, False):
            name = f"standard-{norm}-{'with' if subtract else 'without'}-b_dec"
            found[name] = {
                "architecture": "standard",
                "normalize_activations": norm,
                "apply_b_dec_to_input": subtract,
            }
    for architecture in ("gated", "jumprelu", "topk"):
        found[architecture] = {"architecture": architecture, "apply_b_dec_to_input": True}
    found["topk"]["k"] = 5
    found["topk-rescaled"] = {
        "architecture": "topk",
        "apply_b_dec_to_input": False,
        "k": 5,
        "rescale_acts_by_decoder_norm": True,
    }
    for architecture in ("transcoder", "skip_transcoder", "jumprelu_transcoder"):
        found[architecture] = {
            "architecture": architecture,
            "d_out": D_IN,
            "apply_b_dec_to_input": False,
        }
    return found


def write_sae(folder: Path, settings: dict[str, object], seed: int) -> None:
    torch.manual_seed(seed)
    whole = {"d_in": D_IN, "d_sae": D_SAE, "dtype": "float32", "device": "cpu"} | settings
    sae = SAE.get_sae_class_for_architecture(str(settings["architecture"])).from_dict(whole)
    for name, parameter in sae.named_parameters():
        parameter.data.normal_(0, 1)
        if name == "threshold":
            parameter.data.abs_()
    x = torch.randn(TOKENS, D_IN) * 3
    if settings.get("normalize_activations") == "expected_average_only_in":
        # SAELens folds the scale it measures in training; a saved SAE that still says so was not.
        scale = D_IN**0.5 / x.norm(dim=-1).mean().item()
        scaled = x * scale
        sae.cfg.normalize_activations = "none"
        activations = sae.encode(scaled)
        decoded = sae.decode(activations)
        sae.cfg.normalize_activations = "expected_average_only_in"
    else:
        activations = sae.encode(x)
        decoded = sae.decode(activations)
    sae.cfg.metadata.hook_name = "blocks.1.hook_resid_post"
    sae.save_model(folder)
    expected = {"x": x, "activations": activations, "decoded": decoded}
    save_file(
        {k: v.detach().clone().contiguous() for k, v in expected.items()},
        folder / "expected.safetensors",
    )


def write_cache(folder: Path) -> None:
    subject = write_small_subject(folder.parent / "subject")
    hook = "model.layers.1"
    runner = CacheActivationsRunner(
        CacheActivationsRunnerConfig(
            dataset_path="in memory",
            model_name=str(subject),
            model_class_name="AutoModelForCausalLM",
            model_batch_size=2,
            hook_name=hook,
            d_in=D_IN,
            training_tokens=24 * 16,
            context_size=16,
            new_cached_activations_path=str(folder),
            shuffle=False,
            device="cpu",
            buffer_size_gb=16 * D_IN * 4 * 9 / 1e9,
            prepend_bos=True,
            streaming=False,
        ),
        override_dataset=Dataset.from_dict({"text": TEXTS}),
    )
    rows = runner.run().with_format("torch")
    expected = {
        "activations": torch.stack([row[hook] for row in rows]),
        "token_ids": torch.stack([row["token_ids"] for row in rows]).int(),
    }
    save_file(expected, folder.parent / "cache-expected.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for seed, (name, settings) in enumerate(configurations().items()):
        write_sae(out / name, settings, seed)
    write_cache(out / "cache")
    import sae_lens

    (out / "made_by.json").write_text(json.dumps({"sae-lens": sae_lens.__version__}) + "\n")


if __name__ == "__main__":
    main()
