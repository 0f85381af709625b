"""Embedding: how near is the label to each window, for a sentence encoder? (Paulo et al. 2024, 3.2)

A cheap proxy, for features that are about something: a label and a text may mean the same and still
say nothing of the tokens on which a feature fires.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.config.section import setting
from autointerp.errors import InputError
from autointerp.plain_text import one_line
from autointerp.prompting.prompts import Prompt
from autointerp.scoring.scorer import Judgment, Local, LocalJudge, Plan, Scorer
from autointerp.scoring.scorers import detection
from autointerp.scoring.scorers.on_device import Remembered, shown
from autointerp.scoring.scorers.ranking import AUROC, graded_judgment, reduce_graded

if TYPE_CHECKING:
    import torch

NAME = "embedding"
_BATCH = 64


class EmbeddingSettings(ScorerSettings):
    KNOWN_OTHERWISE: ClassVar[tuple[str, ...]] = ("model",)  # its files are looked at

    windows: int = setting(
        20, "Activating windows to embed, and non-activating ones as for detection.", ge=2
    )
    model: str = setting(
        "sentence-transformers/all-MiniLM-L6-v2",
        "The model that embeds labels and windows (extra embed): a folder or a Hugging Face id.",
        min_length=1,
    )


class Encoder:
    """Judges by the cosine between a label, encoded as a query, and a window, as a document."""

    def __init__(self, name: str, device: "torch.device") -> None:
        """Raises AutointerpError where the model cannot be loaded."""
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()
        try:
            self._model = SentenceTransformer(name, device=str(device))
        except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
            why = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise InputError(f"embedding model {name} cannot be loaded: {why}") from None
        self._windows = Remembered(lambda texts: self.encoded(texts, query=False))

    def __call__(self, asked: Sequence[tuple[str, Plan]]) -> list[list[Judgment]]:
        labels = list(dict.fromkeys(one_line(label) for label, _ in asked))
        queries = dict(zip(labels, self.encoded(labels, query=True), strict=True))
        windows = self._windows.of(item.window for _, plan in asked for item in plan.items)
        return [
            [
                graded_judgment(item, float(queries[one_line(label)] @ windows[shown(item.window)]))
                for item in plan.items
            ]
            for label, plan in asked
        ]

    def encoded(self, texts: list[str], *, query: bool) -> np.ndarray:
        """Unit vectors, float32 [texts, width]."""
        encode = self._model.encode_query if query else self._model.encode_document
        vectors: np.ndarray = encode(
            texts, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors.astype(np.float32)


def _open(name: str, device: "torch.device", _prompt: Prompt | None) -> LocalJudge:
    return Encoder(name, device)


SCORER = Scorer(
    name=NAME,
    metric=AUROC,
    about="AUROC of the cosine between label and window, activating against non-activating windows",
    settings=EmbeddingSettings,
    order=70,
    plan=detection.plan,
    reduce=reduce_graded,
    local=Local(
        lambda settings: settings.model, _open, package="sentence_transformers", extra="embed"
    ),
)
