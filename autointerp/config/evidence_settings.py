"""What is kept of every feature for labeling and scoring."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import field_validator

from autointerp.activations.masks import MASKS, Mask
from autointerp.config.section import Section, names_in, setting


class EvidenceSettings(Section):
    SECTION: ClassVar[str] = "evidence"

    window_length: int = setting(32, "Tokens per window.", ge=2)
    window_before: int = setting(
        23, "Tokens before a window's peak, as far as its context has them.", ge=0
    )
    masks: str = setting(
        ",".join(MASKS),
        "Tokens that never count as firings, although windows show them, comma-separated; none: "
        "only padding is masked. Norm outliers have over 10 times the median norm (attention "
        "sinks).",
    )
    repeats: Literal["near", "exact", "none"] = setting(
        "near",
        "Which repeats of a feature's windows are dropped: near (windows that share half of their "
        "4-token runs), exact, or none.",
    )
    split: Literal["document", "context"] | None = setting(
        None,
        "What lies on one side of the split between windows to label, to choose a label and to "
        "score: document (where unknown, a block of contexts) or context (default: document; a run "
        "that was collected before keeps its own).",
    )
    memory_gb: float | None = setting(
        None,
        "Memory for evidence, in GB; if it is not enough, several passes are made (default: four "
        "fifths of what is free).",
        gt=0,
    )
    top_windows: int = setting(20, "Top activating windows to keep for labeling.", ge=1)
    sample_windows: int = setting(
        20, "Windows to keep for labeling from a uniform sample of firings.", ge=0
    )
    negative_windows: int = setting(20, "Non-activating windows to keep for labeling.", ge=0)
    near_miss_windows: int = setting(
        10,
        "Near misses to keep for labeling: windows in which a feature with a similar decoder "
        "direction fires and this one does not.",
        ge=0,
    )
    score_windows: int = setting(25, "Activating windows of each kind to keep for scoring.", ge=2)
    corpus_windows: int = setting(
        10_000,
        "Windows drawn at random from the corpus, shared by all features: a source of "
        "non-activating windows for scoring.",
        ge=100,
    )
    min_windows: int = setting(
        5,
        "Features with fewer activating windows, for labeling or for scoring, get the status "
        "too_few.",
        ge=1,
    )

    @field_validator("masks")
    @classmethod
    def _known_masks(cls, value: str) -> str:
        for name in names_in(value):
            if name not in (*MASKS, "none"):
                raise ValueError(f"{name!r} is not a mask; masks: {', '.join(MASKS)}, none")
        return value

    def mask_names(self) -> tuple[Mask, ...]:
        """In the order of MASKS."""
        return tuple(name for name in MASKS if name in names_in(self.masks))

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.window_before >= self.window_length:
            yield (
                f"window_before ({self.window_before}) must be less than "
                f"window_length ({self.window_length})"
            )
