"""Where the non-activating windows of detection come from, by the setting `negatives`."""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import torch

from autointerp.config.settings import RunConfig
from autointerp.errors import InputError, MissingPackageError
from autointerp.evidence.corpus import Corpus
from autointerp.plain_text import one_line
from autointerp.scoring.label_windows import LabelWindows, by_meaning, by_words
from autointerp.scoring.scorers import embedding
from autointerp.scoring.scorers.on_device import identity as model_identity


def like_label(config: RunConfig, corpus: Corpus, device: torch.device) -> LabelWindows | None:
    """Which of the corpus's windows are like a label; None where labels do not decide.

    The embedding model is loaded when the first label is looked up, which raises AutointerpError
    where it cannot be loaded.
    """
    if are_as_before(config):
        return None
    if _chosen(config) == "label":
        return by_words(corpus)

    @cache
    def encoder() -> embedding.Encoder:
        return embedding.Encoder(_encoder(config), device)

    @cache
    def documents() -> np.ndarray:
        return encoder().encoded(corpus.texts(), query=False)

    return by_meaning(
        corpus, documents, lambda label: encoder().encoded([one_line(label)], query=True)[0]
    )


def are_as_before(config: RunConfig) -> bool:
    """Whether all is drawn as it was when labels did not decide what is judged, nulls included."""
    return _chosen(config) == "feature"


def identity(config: RunConfig) -> dict[str, object]:
    """For a fingerprint of what scores depend on: nothing where it is as it always was."""
    match _chosen(config):
        case "feature":
            return {}
        case "meaning":
            return {"negatives": ("meaning", model_identity(_encoder(config)))}
        case chosen:
            return {"negatives": chosen}


def check(config: RunConfig) -> None:
    """Raises AutointerpError where what it takes is not installed, or not there."""
    if _chosen(config) == "meaning" and importlib.util.find_spec("sentence_transformers") is None:
        raise MissingPackageError(
            "--negatives meaning needs sentence_transformers: pip install 'autointerp[embed]'"
        )
    name = _encoder(config)
    is_path = name.startswith(("/", ".", "~"))
    if _chosen(config) == "meaning" and is_path and not Path(name).expanduser().exists():
        raise InputError(
            f"embedding model {name}: there is no such folder; name one with --embedding-model, or "
            "use --negatives label"
        )


def _chosen(config: RunConfig) -> str:
    return config.negatives or "label"


def _encoder(config: RunConfig) -> str:
    return config.settings_of(embedding.NAME, embedding.EmbeddingSettings).model
