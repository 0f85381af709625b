"""What a labeling reply must look like, and the labels in one."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from autointerp.llm.numbering import by_place, number_of
from autointerp.llm.wire.request import ReplySchema, array, list_of, objects, one_of
from autointerp.llm.wire.structured import items
from autointerp.plain_text import tidy

_MAX_LABEL = 300
_MAX_MEANING = 100
_MAX_REASON = 1000
_EMPHASIS = re.compile(r"(\*{1,3}|`{1,3})((?:(?!\1).)+)\1")
_PERCENT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*")
_SHORT, _LONG = ({"type": "string", "maxLength": most} for most in (150, 400))
# Constrained decoding ends at these lengths, so that a model cannot run on within a text. Models
# write the fields in this order: the reason before the label that it is for, how sure the
# label is after it, and which excerpts belong together before what is said of them.
_LABEL = {"reason": _LONG, "label": _SHORT, "confidence": {"type": "number"}}
_REQUIRED = ("label", "reason", "confidence")


def reply_schema(asked: Sequence[int], meanings: int = 1, windows: int = 1) -> ReplySchema:
    """What a reply about features of these numbers must look like.

    meanings: at most so many of each; not asked for where it is 1. windows: at most so many are
    shown of each.
    """
    fields: dict[str, Any] = {"n": one_of(asked)}
    if meanings > 1:
        # Models write fields in this order: which excerpts belong together comes before the label.
        covered = array(one_of(range(1, windows + 1)), 1, windows)
        meaning = {"windows": covered, "label": _SHORT}
        fields["meanings"] = objects(meaning, 0, meanings, required=("label", "windows"))
    return list_of("labels", fields | _LABEL, len(asked), required=(*fields, *_REQUIRED))


def _clean(value: object) -> object:
    """One plain line, without the emphasis of Markdown around it; a list of one is that one."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str):
        return value
    text = tidy(value)
    while found := _EMPHASIS.fullmatch(text):
        text = found[2].strip()
    return text


def _shortened(text: str, most: int) -> str:
    """The text cut at a space, with an ellipsis, where it has more characters than `most`."""
    if len(text) <= most:
        return text
    head, space, _ = text[:most].rpartition(" ")
    # One endless word is cut anywhere.
    kept = head if space and len(head) >= most // 2 else text[: most - 1]
    return kept.rstrip(" ,;:") + "…"


class Meaning(BaseModel):
    """One of several meanings of a feature, and the numbers of the windows it is said to cover."""

    model_config = ConfigDict(extra="ignore")

    label: str = Field(min_length=1, max_length=_MAX_MEANING)
    windows: list[int]

    _clean = field_validator("label", mode="before")(_clean)


class LabelItem(BaseModel):
    """One entry of the reply's `labels`, without its number."""

    model_config = ConfigDict(extra="ignore")

    label: str = Field(min_length=1)
    reason: str = ""
    confidence: float | None = Field(None, ge=0, le=1)
    meanings: list[Meaning] | None = None

    _clean = field_validator("label", "reason", mode="before")(_clean)

    @field_validator("label")
    @classmethod
    def _brief(cls, value: str) -> str:
        return _shortened(value, _MAX_LABEL)

    @field_validator("reason", mode="before")
    @classmethod
    def _given(cls, value: object) -> object:
        """A label is as good without a reason, left out or null."""
        return "" if value is None else value

    @field_validator("confidence", mode="wrap")
    @classmethod
    def _stated(cls, value: object, read: ValidatorFunctionWrapHandler) -> float | None:
        """A confidence that cannot be read is not known; the label is good without it."""
        if isinstance(value, str) and (percent := _PERCENT.fullmatch(value)):
            value = float(percent[1]) / 100
        try:
            stated: float | None = read(value)
            return stated
        except ValidationError:
            return None

    @field_validator("meanings", mode="wrap")
    @classmethod
    def _readable(cls, value: object, read: ValidatorFunctionWrapHandler) -> list[Meaning] | None:
        """Meanings that cannot be read are not known; the label is good without them."""
        try:
            meanings: list[Meaning] | None = read(value)
            return meanings
        except ValidationError:
            return None

    @field_validator("reason")
    @classmethod
    def _bounded(cls, value: str) -> str:
        return value[:_MAX_REASON]


def read_labels(text: str, features: int, scattered: bool = False) -> dict[int, LabelItem]:
    """The valid labels of a reply by the places of features, from 1.

    A feature with two different labels has none. Raises Miscounted where the numbers in the reply
    are not those of the features.
    """
    said: list[tuple[int | None, LabelItem | None]] = []
    firsts: dict[tuple[int | None, str], LabelItem] = {}
    for raw in items(text, "labels", "n", "label"):
        number = number_of(raw.get("n"))
        try:
            item = LabelItem.model_validate(raw)
            said.append((number, firsts.setdefault((number, item.label), item)))
        except ValidationError:
            # Its number counts all the same: it shows how the others are meant.
            said.append((number, None))
    found = by_place(said, features, scattered)
    return {place: item for place, item in found.items() if item is not None}
