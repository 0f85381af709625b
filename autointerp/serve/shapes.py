"""What the JSON API takes and gives, and how values become JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field, field_validator

from autointerp.plain_text import tidy
from autointerp.report.column_list import Column
from autointerp.secrets import masked
from autointerp.storage.json_values import plain


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, in one line."""

    detail: str


@dataclass(frozen=True, slots=True)
class Preparing:
    """The answer is not ready yet: ask again after the seconds of the Retry-After header.

    `progress` is the share of the work that is done, 0 to 1.
    """

    detail: str
    progress: float


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run.

    `asks` is the model, and where, that a new label would be asked of: null where none was named to
    `autointerp serve`. `asked` is what the run's record says of the model that was asked before; it
    is shown and not used. `meaning` says whether labels can be searched by meaning, `meaning_ready`
    for what share of them that is worked out already; it begins with the first search.
    """

    name: str
    sae: str
    total: int
    columns: list[Column]
    asks: str | None
    asked: str | None
    meaning: bool
    meaning_ready: float
    default_metric: str | None


@dataclass(frozen=True, slots=True)
class FeatureList:
    """Rows `offset` and on, of `matched` ones of `total`."""

    total: int
    matched: int
    offset: int
    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class FoundFeatures:
    """A label that was searched for. `score` is the cosine; null where words are searched."""

    feature: int
    label: str
    score: float | None


@dataclass(frozen=True, slots=True)
class ContextText:
    """The text of every token of a context; joined they are its text. Padding is empty."""

    context: int
    tokens: list[str]


class _NewEdit(BaseModel):
    model_config = ConfigDict(extra="forbid")

    author: str = Field(min_length=1, max_length=100)

    @field_validator("author", "label", "reason", check_fields=False)
    @classmethod
    def _plain(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not (plain := tidy(value)):
            raise ValueError("it must contain a visible character")
        return plain


class NewLabel(_NewEdit):
    """A person's label, in place of the one that the table has."""

    kind: Literal["label"]
    label: str = Field(min_length=1, max_length=300)
    reason: str | None = Field(None, min_length=1, max_length=1000)


class NewVote(_NewEdit):
    """For the label, against it, or 0: no vote any more."""

    kind: Literal["vote"]
    vote: Literal[-1, 0, 1]


class NewNote(_NewEdit):
    kind: Literal["note"]
    text: str = Field(min_length=1, max_length=10_000)


NewEdit = Annotated[NewLabel | NewVote | NewNote, Field(discriminator="kind")]


class Nothing(BaseModel):
    """An empty object: there is nothing to say."""

    model_config = ConfigDict(extra="forbid")


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The value as JSON, secrets masked.

    In ASCII, so that lone surrogates, which UTF-8 lacks, can be said.
    """
    body = masked(json.dumps(plain(value), allow_nan=False, separators=(",", ":")))
    return Response(body, status, headers, media_type="application/json")
