"""Labels as other tools keep them, and what formats of them share.

The texts are anybody's: each becomes one plain line of bounded length, as a model's label does.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autointerp.errors import InputError
from autointerp.plain_text import tidy
from autointerp.registry import AFTER_OURS, Registry

MAX_LABEL = 1000
MAX_LINE_LENGTH = 1 << 22  # characters of a file's line: rows may carry embeddings
_MAX_NAME = 100


@dataclass(frozen=True, slots=True)
class Foreign:
    """A label as another tool has it. `labeler` says what made it, `order` which is the newest."""

    feature: int
    text: str
    labeler: str
    order: tuple[str, str] = ("", "")


@dataclass
class ImportedLabels:
    """What the files hold; `unreadable` counts entries that are not labels, by reason."""

    labels: list[Foreign] = field(default_factory=list)
    unreadable: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class ImportFormat:
    """How a tool keeps labels: `read` is given a file or folder, and raises AutointerpError."""

    name: str
    about: str
    read: Callable[[Path], ImportedLabels]
    order: int = AFTER_OURS


IMPORTS: Registry[ImportFormat] = Registry("autointerp.imports")


def of_one_labeler(
    found: ImportedLabels, path: Path, only: str | None
) -> tuple[str, dict[int, str]]:
    """Who made the labels, and the newest of each feature, cleaned. Raises AutointerpError.

    What is left out for it is counted in `found`.
    """
    labelers = sorted({one.labeler for one in found.labels})
    listed = ", ".join(labelers)
    if not labelers:
        raise InputError(f"{path} holds no labels in this format")
    if only is None and len(labelers) > 1:
        raise InputError(f"{path} has labels by {listed}: choose one with --only")
    labeler = labelers[0] if only is None else only
    chosen = [one for one in found.labels if one.labeler == labeler]
    if not chosen:
        raise InputError(f"{path} has no labels by {only}, only by {listed}")
    newest: dict[int, str] = {}
    for one in sorted(chosen, key=lambda one: one.order):
        text = tidy(one.text)
        if not text:
            found.unreadable["labels are empty"] += 1
            continue
        found.unreadable["labels were truncated"] += len(text) > MAX_LABEL
        found.unreadable["older labels of the same feature"] += one.feature in newest
        newest[one.feature] = text[:MAX_LABEL]
    return labeler, newest


def read_json(text: str) -> Any:
    """The value, or None where there is none to read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def feature_of(index: object) -> int | None:
    """Numbers and digits are both in use."""
    digits = re.fullmatch(r"[0-9]{1,9}", str(index))
    return int(digits[0]) if digits and not isinstance(index, bool) else None


def labeler_named(text: str) -> str:
    return tidy(text)[:_MAX_NAME]
