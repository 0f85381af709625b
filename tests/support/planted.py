"""A generated corpus and coder whose features fire on known words.

Activations are one-hot in the word with a random strength, so a feature of the coder is a row of
weights over words: what it fires on is known exactly.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from autointerp.vocabulary import Vocabulary
from tests.support.caches import write_cache

SYLLABLES = ["ba", "de", "fi", "go", "ku", "la", "me", "ni", "po", "ru"]
WORDS = [a + b for a in SYLLABLES for b in SYLLABLES if a != b]
LENGTH = 48


@dataclass(frozen=True)
class Planted:
    """`words[feature]` is what the feature fires on: empty for one that never fires."""

    cache: Path
    coder: Path
    words: list[tuple[str, ...]]

    def flags(self, out: Path) -> list[str]:
        return ["--coder", str(self.coder), "--cache", str(self.cache), "--out", str(out)]

    def rule(self, feature: int) -> str:
        """The right label: the words, separated by spaces."""
        return " ".join(self.words[feature])


def plant(
    folder: Path,
    *,
    contexts: int = 400,
    features: int = 12,
    seed: int = 0,
    texts: Sequence[str] = WORDS,
) -> Planted:
    """Single words and pairs of words, then one feature that never fires and one that hardly does.

    The hardly firing one fires on a word that is put in three contexts alone. `texts` are what
    stands in the corpus in the words' places.
    """
    rng = np.random.default_rng(seed)
    common, rare = WORDS[:-1], WORDS[-1]
    token_ids = rng.integers(0, len(common), (contexts, LENGTH))
    token_ids[rng.choice(contexts, 3, replace=False), 20] = len(common)
    words: list[tuple[str, ...]] = []
    for feature in range(features - 2):
        words.append((common[feature],) if feature % 3 else (common[feature], common[-feature - 1]))
    words += [(), (rare,)]

    strength = rng.uniform(1, 5, token_ids.shape).astype(np.float32)
    activations = np.zeros((contexts, LENGTH, len(WORDS)), dtype=np.float32)
    np.put_along_axis(activations, token_ids[:, :, None], strength[:, :, None], axis=2)
    vocabulary = Vocabulary(tuple(f" {t}".encode() for t in texts), frozenset())
    ids = torch.from_numpy(token_ids.astype(np.int32))
    write_cache(folder / "cache", ids, torch.from_numpy(activations), vocabulary)

    plant_coder(folder / "planted", words)
    return Planted(folder / "cache", folder / "planted", words)


def plant_coder(
    folder: Path,
    words: list[tuple[str, ...]],
    decoder: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> None:
    """A coder whose features fire on these words; decoder [features, words] is as the encoder.

    With a bias [features] below 0 they fire where their words are strong, which no text tells.
    """
    encoder = torch.zeros(len(WORDS), len(words))
    for feature, fires_on in enumerate(words):
        for word in fires_on:
            encoder[WORDS.index(word), feature] = 1.0
    folder.mkdir()
    save_file(
        {
            "W_enc": encoder,
            "W_dec": encoder.T.clone(memory_format=torch.contiguous_format)
            if decoder is None
            else decoder,
            "b_enc": torch.zeros(len(words)) if bias is None else bias,
            "b_dec": torch.zeros(len(WORDS)),
        },
        folder / "sae_weights.safetensors",
    )
    (folder / "cfg.json").write_text(json.dumps({"architecture": "standard"}))
