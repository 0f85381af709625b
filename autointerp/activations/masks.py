"""Reasons to mask a token, besides padding."""

from typing import Literal, get_args

Mask = Literal["first_position", "special", "norm_outlier", "other_turns"]
MASKS: tuple[Mask, ...] = get_args(Mask)
