"""Surprisal: does the label make a window likelier to a base language model?

The graded judgment is mean log p(window | label) − mean log p(window | a label that fits any text),
in nats a token. Style counts as much as meaning: a label in the words of the text does well.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from autointerp.config.scorer_settings import ScorerSettings
from autointerp.config.section import setting
from autointerp.errors import AutointerpError, InputError
from autointerp.prompting.prompts import Prompt
from autointerp.scoring.scorer import Judgment, Local, LocalJudge, Plan, Scorer
from autointerp.scoring.scorers import detection
from autointerp.scoring.scorers.on_device import Remembered, shown
from autointerp.scoring.scorers.ranking import AUROC, graded_judgment, reduce_graded

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache

NAME = "surprisal"
NEUTRAL = "text of any kind"
_LOGITS = 1 << 27  # held at a time: half a gigabyte in float32


class SurprisalSettings(ScorerSettings):
    KNOWN_OTHERWISE: ClassVar[tuple[str, ...]] = ("model",)  # its files are looked at

    windows: int = setting(
        20, "Activating windows to read, and non-activating ones as for detection.", ge=2
    )
    model: str | None = setting(
        None,
        "The base language model whose surprisal is measured: a folder or a Hugging Face id.",
        min_length=1,
    )

    def problems_with(self, name: str, score_windows: int) -> Iterator[str]:
        yield from super().problems_with(name, score_windows)
        if self.model is None:
            yield "surprisal needs a base language model: --surprisal-model"


class Reader:
    """A base language model that reads windows after a label. `logits`: held at a time."""

    def __init__(
        self, name: str, device: "torch.device", prompt: Prompt, logits: int = _LOGITS
    ) -> None:
        """Raises AutointerpError where the model cannot be loaded."""
        from autointerp.activations.subject import load_subject

        try:
            self._subject = load_subject(name, device)
        except AutointerpError as error:
            raise InputError(f"--surprisal-model: {error}") from None
        self._prompt = prompt
        self._logits = logits
        self._neutral = Remembered(lambda texts: self.log_probabilities(NEUTRAL, texts))

    def __call__(self, asked: Sequence[tuple[str, Plan]]) -> list[list[Judgment]]:
        neutral = self._neutral.of(item.window for _, plan in asked for item in plan.items)
        found = []
        for label, plan in asked:
            texts = [shown(item.window) for item in plan.items]
            told = self.log_probabilities(label, texts)
            found.append(
                [
                    graded_judgment(item, float(after - neutral[text]))
                    for item, text, after in zip(plan.items, texts, told, strict=True)
                ]
            )
        return found

    def prefix(self, label: str) -> str:
        """What the windows are read after: the template's blocks, the system's first."""
        system, user = (message["content"] for message in self._prompt.messages(label=label))
        return f"{system}\n\n{user}\n"

    def log_probabilities(self, label: str, texts: Sequence[str]) -> np.ndarray:
        """Mean log-probability of each text's tokens after the label: float64 [texts].

        NaN for a text without tokens. Label and text are tokenized apart, so that a text has the
        same tokens after any label. Raises AutointerpError where they are too long for the model.
        """
        import torch

        with torch.inference_mode():
            return self._means(label, texts)

    def _means(self, label: str, texts: Sequence[str]) -> np.ndarray:
        import torch
        from transformers import DynamicCache

        model, tokenizer = self._subject.model, self._subject.tokenizer
        before = tokenizer.encode(self.prefix(label), add_special_tokens=False)
        if tokenizer.bos_token_id is not None:
            before.insert(0, tokenizer.bos_token_id)
        rows = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
        width = max(map(len, rows), default=0)
        longest = self._subject.longest_context
        if longest is not None and len(before) + width > longest:
            raise InputError(
                f"surprisal: template, label and window have {len(before) + width} tokens, "
                f"{self._subject.name} reads {longest}: shorten surprisal.jinja"
            )
        found = np.full(len(rows), np.nan)
        if width == 0:
            return found
        device = self._subject.device
        # All but the last token of the prefix is read once; the last one predicts a text's first.
        start = torch.tensor([before[:-1]], device=device)
        cache = model(start, use_cache=True, logits_to_keep=1).past_key_values
        if not isinstance(cache, DynamicCache):
            raise InputError(
                f"surprisal: {self._subject.name} keeps no attention cache that windows can share: "
                "name another --surprisal-model"
            )
        step = max(1, self._logits // (width * model.config.get_text_config().vocab_size))
        for begin in range(0, len(rows), step):
            part = rows[begin : begin + step]
            found[begin : begin + step] = self._read(before, cache, part)
        return found

    def _read(self, before: list[int], cache: "DynamicCache", rows: list[list[int]]) -> np.ndarray:
        """Mean log-probabilities [rows] of token ids after a prefix that is in the cache."""
        import torch

        device = self._subject.device
        width = max(map(len, rows))
        ids = torch.zeros((len(rows), width), dtype=torch.int64)
        there = torch.zeros((len(rows), width), dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            there[i, : len(row)] = True
        ids, there = ids.to(device), there.to(device)
        last = torch.full((len(rows), 1), before[-1], device=device)
        # Padding is on the right, where what comes before it cannot see it.
        mask = torch.ones((len(rows), len(before) + width - 1), dtype=torch.int64, device=device)
        mask[:, len(before) :] = there[:, :-1]
        shared = copy.deepcopy(cache)
        shared.batch_repeat_interleave(len(rows))
        logits = self._subject.model(
            torch.cat([last, ids[:, :-1]], dim=1),
            attention_mask=mask,
            past_key_values=shared,
            use_cache=True,
        ).logits.float()
        chosen = logits.gather(2, ids.to(logits.device)[:, :, None])[:, :, 0]
        log_p = (chosen - logits.logsumexp(2)).to(device).double()
        totals = torch.where(there, log_p, 0.0).sum(1) / there.sum(1)  # 0 / 0 is NaN: no tokens
        return totals.cpu().numpy()


def _open(name: str, device: "torch.device", prompt: Prompt | None) -> LocalJudge:
    assert prompt is not None
    return Reader(name, device, prompt)


SCORER = Scorer(
    name=NAME,
    metric=AUROC,
    about="AUROC of how much likelier the label makes a window, activating against "
    "non-activating ones",
    settings=SurprisalSettings,
    order=80,
    samples={NAME: [{"label": "a label"}]},
    plan=detection.plan,
    reduce=reduce_graded,
    local=Local(
        lambda settings: settings.model or "", _open, package="transformers", template=True
    ),
)
