"""What is kept of every feature, to be labeled and scored by."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import field_validator

from autointerp.activations.masks import MASKS, Mask
from autointerp.config.section import Section, names_in, setting


class EvidenceSettings(Section):
    SECTION: ClassVar[str] = "evidence"

    window_length: int = setting(32, "Tokens in a window.", ge=2)
    window_before: int = setting(
        23, "Tokens of a window before its peak, where the context has them.", ge=0
    )
    masks: str = setting(
        ",".join(MASKS),
        "Comma-separated: tokens that never count, though windows show them; none: all but padding "
        "do. Norm outliers are over 10 times the median: attention sinks.",
    )
    repeats: Literal["near", "exact", "none"] = setting(
        "near",
        "Of a feature's windows with one text only the best is kept: near, if they share half of "
        "their runs of 4 tokens; exact; or none to keep all.",
    )
    memory_gb: float | None = setting(
        None,
        "Memory for evidence; more takes several passes (default: four fifths of what is free).",
        gt=0,
    )
    top_windows: int = setting(20, "Windows of largest activation kept for labeling.", ge=1)
    sample_windows: int = setting(
        20, "Windows kept for labeling from a uniform sample of firings.", ge=0
    )
    negative_windows: int = setting(20, "Silent windows kept for labeling.", ge=0)
    near_miss_windows: int = setting(
        10,
        "Windows kept for labeling in which a feature of similar decoder direction fires and this "
        "one is silent.",
        ge=0,
    )
    score_windows: int = setting(25, "Activating windows of a kind kept for scoring.", ge=2)
    corpus_windows: int = setting(
        10_000,
        "Windows of the corpus drawn at random, for all features together: where they are silent "
        "there, labels are put to the test.",
        ge=100,
    )
    min_windows: int = setting(
        5,
        "Features with fewer activating windows to label, or to score, are too_few.",
        ge=1,
    )

    @field_validator("masks")
    @classmethod
    def _known_masks(cls, value: str) -> str:
        for name in names_in(value):
            if name not in (*MASKS, "none"):
                raise ValueError(f"{name!r} is no mask; known: {', '.join(MASKS)} and none")
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
